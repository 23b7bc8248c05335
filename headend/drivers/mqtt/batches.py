"""Messages of concentrators in our own form (`schemas.batch`).

A series is rows of one meter, column by column; its layout says which columns are those of the load curve
(active and reactive energy, import and export, by OBIS code). Other columns are register readings at the
rows' stamps. Stamps are ends of intervals. Nothing claims coverage: a concentrator sends what it has.
"""

import itertools
from collections import OrderedDict
from decimal import Decimal
from typing import Any, Final

from headend.drivers.mqtt import series
from headend.drivers.mqtt.meters import Known, Meters
from headend.drivers.mqtt.series import Layouts, Rows
from headend.drivers.mqtt.told import Announced, Ignored, StationBatch, Told
from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches
from schemas.batch import Batch, BatchAnnounce, BatchEvent, BatchLost, BatchMessage, BatchRegister
from schemas.event import EventMeaning, MeterEvent
from schemas.reading import Quality, RegisterRead

_SECOND_US: Final = 1_000_000
_ATTRIBUTE: Final = 2
#: What a batch without registers and events has beside its series, in any order.
_HEAD: Final = frozenset({"format", "concentrator", "run", "sequence", "sent", "layouts"})
_SEQUENCES: Final = 1 << 63
_SECONDS: Final = 1 << 32
_MOST_HEADS: Final = 20_000


class Batches:
    """Reads the messages of all concentrators, and remembers what each of their batches begins with."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._layouts = Layouts()
        self._heads: OrderedDict[str, tuple[tuple[Any, Any, str], Batch]] = OrderedDict()

    def read(self, payload: bytes, station: str, received_us: int) -> Told:
        """What a concentrator tells under the topic of ``station``.

        Raises:
            RemoteProtocolError: not of the schema, or of another concentrator than the topic's.
        """
        tree = batches.tree(payload)
        sent = tree.pop("series", [])
        message = self._judged(tree)
        if message.concentrator != station:
            raise RemoteProtocolError(f"a message of {message.concentrator} under the topic of {station}")
        if isinstance(message, Batch):
            layouts = [self._layouts.of(one) for one in message.layouts]
            found = series.read(sent, layouts, self._meters) if sent != [] else ([], [])
            if found is not None:
                return self._told(message, int(tree["sequence"]), int(tree["sent"]), *found, received_us)
        if sent != []:
            batches.judge({**tree, "series": sent})  # says what is wrong
            raise RemoteProtocolError("series that cannot be read")
        if isinstance(message, BatchLost):
            return message
        if isinstance(message, BatchAnnounce):
            return Announced(station, message.sent * _SECOND_US, message.meters)
        return Ignored(f"{message.format} is what the head-end sends")

    def _judged(self, tree: dict[str, Any]) -> BatchMessage:
        """The message without its series. Batches of one concentrator begin alike but for number and time,
        which are looked at here; those of the answer may be an earlier batch's."""
        if tree.keys() != _HEAD:
            return batches.judge(tree)
        sequence, sent, station = tree["sequence"], tree["sent"], tree["concentrator"]
        found = self._heads.get(station) if type(station) is str else None
        if (
            found is not None
            and type(sequence) is int
            and type(sent) is int
            and 0 <= sequence < _SEQUENCES
            and 0 <= sent < _SECONDS
            and found[0] == _beginning(tree)
        ):
            return found[1]
        message = batches.judge(tree)
        if isinstance(message, Batch):
            self._heads[message.concentrator] = _beginning(tree), message
            if len(self._heads) > _MOST_HEADS:
                self._heads.popitem(last=False)
        return message

    def _told(
        self,
        message: Batch,
        sequence: int,
        sent: int,
        rows: list[Rows],
        unknown: list[str],
        received_us: int,
    ) -> StationBatch:
        station = message.concentrator
        source = f"mqtt:{station}/{message.run}/{sequence}"
        known: dict[str, Known] = {}
        beside: tuple[BatchRegister | BatchEvent, ...] = (*message.registers, *message.events)
        for name in {one.meter for one in beside if one.meter is not None}:
            meter = self._meters.of(name)
            if meter is None:
                unknown.append(name)
            else:
                known[name] = meter
        strange = tuple(sorted(set(unknown)))
        registers = [
            RegisterRead(
                known[one.meter].meter_id, one.obis, _ATTRIBUTE, one.time * _SECOND_US, one.time * _SECOND_US,
                Decimal(one.value), None, one.unit, Quality.PUSHED,
            )
            for one in message.registers
            if one.meter in known
        ]  # fmt: skip
        for one in rows:
            if None in one.layout.places:
                registers += _others(one)
        events = tuple(
            _event(one, known, station, received_us, source)
            for one in message.events
            if one.meter is None or one.meter in known
        )
        return StationBatch(
            station,
            message.run,
            sequence,
            sent * _SECOND_US,
            tuple(rows),
            tuple(registers),
            events,
            strange,
        )


def _beginning(tree: dict[str, Any]) -> tuple[Any, Any, str]:
    # written out, since to Python true is 1 and 1.0 is 1
    return tree["format"], tree["run"], repr(tree["layouts"])


def _event(
    one: BatchEvent, known: dict[str, Known], station: str, received_us: int, source: str
) -> MeterEvent:
    return MeterEvent(
        None if one.meter is None else known[one.meter].meter_id,
        one.log,
        one.meaning or EventMeaning.OTHER,
        one.code,
        one.time * _SECOND_US,
        received_us,
        source,
        one.duration_s,
        one.text,
        station if one.meter is None else None,
    )


def _others(rows: Rows) -> list[RegisterRead]:
    """Columns that are none of the load curve."""
    meters = itertools.chain.from_iterable(
        itertools.repeat(meter, length) for meter, length in zip(rows.meters, rows.lengths, strict=True)
    )
    places = list(zip(meters, rows.stamps_s.tolist(), strict=True))
    reads: list[RegisterRead] = []
    for channel, place, column, valid in zip(
        rows.layout.sent, rows.layout.places, rows.values, rows.valid, strict=True
    ):
        if place is not None:
            continue
        there = itertools.repeat(True) if valid is None else valid.tolist()
        reads += [
            RegisterRead(
                meter, channel.obis, _ATTRIBUTE, stamp * _SECOND_US, stamp * _SECOND_US,
                channel.exact(value), None, channel.unit, Quality.PUSHED,
            )
            for (meter, stamp), value, is_there in zip(places, column.tolist(), there)  # noqa: B905 - endless
            if is_there
        ]  # fmt: skip
    return reads
