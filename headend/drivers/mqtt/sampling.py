"""From the readings of a message to rows and register readings: what counts for an interval's boundary.

A reading within the curve's tolerance of a boundary counts for it, with its own time kept; the first that
comes stands, since a second one, a few seconds later, would be another value for the same interval. It is
remembered by its values, so that the same message, delivered again, counts again: nothing is lost when a
commit failed. All other readings, and what no column can hold, are register readings.
"""

from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Final

from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.told import Interval, Readings
from protocols.mqtt.reading import Reading
from protocols.mqtt.reading import Readings as Payload
from schemas.mqtt_model import MqttModel, SampledCurve
from schemas.reading import Quality, RegisterRead

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_SECOND_US: Final = 1_000_000
_ATTRIBUTE: Final = 2
#: A device whose clock is further ahead of ours than this has it wrong: its time is kept, and not believed.
_AHEAD_US: Final = 300 * _SECOND_US
_INT64: Final = 1 << 63
#: Numbers of messages have 40 digits at most.
_EXACT: Final = Context(prec=60)

Values = tuple[int | None, ...]


class Sampler:
    """Remembers which value counted for the newest boundary of each meter's curve."""

    def __init__(self) -> None:
        self._counted: dict[tuple[int, int], tuple[int, Values]] = {}

    def explain(self, known: Known, model: MqttModel, told: Payload, received_us: int) -> Readings:
        """Rows and register readings of one message. ``received_us`` is our time of its arrival."""
        meter_id, notes = known.meter_id, told.notes
        own_us = None if told.time is None else (told.time - _EPOCH) // _US
        stamp_us = received_us if own_us is None else own_us
        good: dict[str, Reading] = {}
        for reading in told.readings:
            if reading.doubt is None and reading.value is not None:
                good[reading.quantity] = reading
            else:
                notes += (f"{reading.quantity}: {reading.doubt}",)
        intervals: tuple[Interval, ...] = ()
        if stamp_us > received_us + _AHEAD_US:
            notes += ("the device's clock is ahead of ours",)
        else:
            for curve in model.curves:
                row = self._row(meter_id, curve, good, stamp_us)
                if row is not None:
                    intervals += (row,)
        registers = []
        codes = model.codes
        for word, reading in good.items():
            obis = codes.get(word, reading.obis) if codes else reading.obis
            if obis is None:
                notes += (f"{word} has no code in model {model.name}",)
                continue
            registers.append(
                RegisterRead(
                    meter_id, obis, _ATTRIBUTE, received_us, own_us, reading.value, None, reading.unit,
                    Quality.PUSHED,
                )
            )  # fmt: skip
        return Readings(meter_id, intervals, tuple(registers), (), notes)

    def _row(
        self, meter_id: int, curve: SampledCurve, good: dict[str, Reading], stamp_us: int
    ) -> Interval | None:
        """The row for the nearest boundary; what is in it is taken out of ``good``."""
        period_us = curve.period_s * _SECOND_US
        end_us = (stamp_us + period_us // 2) // period_us * period_us
        if abs(stamp_us - end_us) > curve.tolerance_s * _SECOND_US:
            return None
        raws: list[int | None] = [None, None, None, None]
        words = []
        for place, word, unit, scaler in curve.slots:
            reading = good.get(word)
            if reading is None or reading.value is None or reading.unit != unit:
                continue
            raw = _raw(reading.value, scaler)
            if raw is not None:
                raws[place] = raw
                words.append(word)
        values = tuple(raws)
        if not words or not self._counts((meter_id, curve.number), end_us, values):
            return None
        for word in words:
            del good[word]
        return Interval(
            meter_id, curve.number, end_us - period_us, curve.period_s, stamp_us, curve.layout, values
        )

    def _counts(self, key: tuple[int, int], end_us: int, values: Values) -> bool:
        found = self._counted.get(key)
        if found is None or found[0] < end_us:
            self._counted[key] = end_us, values
            return True
        if found[0] > end_us:  # a late message must not make us forget the newest
            return True
        before = found[1]
        if before == values:
            return True
        if any(old is not None and new not in (None, old) for old, new in zip(before, values, strict=True)):
            return False
        self._counted[key] = (
            end_us,
            tuple(new if old is None else old for old, new in zip(before, values, strict=True)),
        )
        return True


def _raw(value: Decimal, scaler: int) -> int | None:
    """The integer that stands for ``value``, None where the column cannot hold it."""
    moved = _EXACT.scaleb(value, -scaler)
    raw = int(moved)
    return raw if raw == moved and -_INT64 <= raw < _INT64 else None
