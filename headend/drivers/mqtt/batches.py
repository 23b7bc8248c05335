"""Messages of concentrators in our own form (`schemas.batch`), as columns.

A series is rows of one meter, column by column; its layout says which columns are those of the load curve
(active and reactive energy, import and export, by OBIS code). Other columns are register readings at the
rows' stamps. Stamps are ends of intervals. Nothing claims coverage: a concentrator sends what it has.
"""

from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np

from headend.drivers.mqtt.meters import Known, Meters
from headend.drivers.mqtt.told import Announced, Ignored, StationBatch, Told
from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches
from schemas.batch import Batch, BatchAnnounce, BatchChannel, BatchEvent, BatchLost, Series
from schemas.event import EventMeaning, MeterEvent
from schemas.reading import (
    INTERVAL_QUANTITIES,
    NO_STATUS,
    Channel,
    ChannelLayout,
    Fragment,
    Kind,
    Quality,
    ReadingBatch,
    RegisterRead,
    registers_only,
)

_WIDE: Final = len(INTERVAL_QUANTITIES)
_SECOND_US: Final = 1_000_000
_ATTRIBUTE: Final = 2
#: Groups C and D of the columns of a load curve: energy counted up, and energy of the interval.
_QUANTITIES: Final = dict(zip(("1", "2", "3", "4"), INTERVAL_QUANTITIES, strict=True))
_KINDS: Final = {"8": Kind.CUMULATIVE, "29": Kind.INTERVAL}
_MOST_LAYOUTS: Final = 10_000


class Layout(NamedTuple):
    """What the columns of a series are: ``places`` holds each one's place in the row, None where it is a
    register reading of its own."""

    channels: ChannelLayout
    places: tuple[int | None, ...]
    sent: tuple[BatchChannel, ...]


class Layouts:
    """Layouts that came before: a fleet has few, and each is one object, so that rows are told apart fast."""

    def __init__(self) -> None:
        self._known: dict[tuple[BatchChannel, ...], Layout] = {}

    def of(self, sent: tuple[BatchChannel, ...]) -> Layout:
        """What these columns are."""
        found = self._known.get(sent)
        if found is None:
            if len(self._known) >= _MOST_LAYOUTS:
                self._known.clear()
            found = self._known[sent] = _layout(sent)
        return found


def _layout(sent: tuple[BatchChannel, ...]) -> Layout:
    channels: list[Channel | None] = [None] * _WIDE
    places: list[int | None] = []
    for one in sent:
        _, _, codes = one.obis.removesuffix("*255").partition(":")
        group, _, rest = codes.partition(".")
        kind = _KINDS.get(rest.removesuffix(".0"))
        quantity = _QUANTITIES.get(group) if kind and one.obis.startswith("1-") else None
        place = None if quantity is None else INTERVAL_QUANTITIES.index(quantity)
        if place is None or quantity is None or kind is None or channels[place] is not None:
            places.append(None)
            continue
        channels[place] = Channel(quantity, one.obis, one.scaler, one.unit, kind)
        places.append(place)
    return Layout(ChannelLayout((channels[0], channels[1], channels[2], channels[3])), tuple(places), sent)


def read(payload: bytes, station: str, meters: Meters, layouts: Layouts, received_us: int) -> Told:
    """What a concentrator tells under the topic of ``station``.

    Raises:
        RemoteProtocolError: not of the schema, or of another concentrator than the topic's.
    """
    message = batches.decode(payload)
    if message.concentrator != station:
        raise RemoteProtocolError(f"a message of {message.concentrator} under the topic of {station}")
    if isinstance(message, BatchLost):
        return message
    if isinstance(message, BatchAnnounce):
        return Announced(station, message.sent * _SECOND_US, message.meters)
    if not isinstance(message, Batch):
        return Ignored(f"{message.format} is what the head-end sends")
    return _Batch(message, meters, layouts, received_us).told()


class _Batch:
    def __init__(self, message: Batch, meters: Meters, layouts: Layouts, received_us: int) -> None:
        self._message = message
        self._layouts = [layouts.of(one) for one in message.layouts]
        self._received_us = received_us
        self._source = f"mqtt:{message.concentrator}/{message.run}/{message.sequence}"
        self._unknown: list[str] = []
        names = {
            *(one.meter for one in message.series),
            *(one.meter for one in message.registers),
            *(one.meter for one in message.events if one.meter is not None),
        }
        self._meters: dict[str, Known] = {}
        for name in names:
            known = meters.of(name)
            if known is None:
                self._unknown.append(name)
            else:
                self._meters[name] = known

    def told(self) -> StationBatch:
        message = self._message
        return StationBatch(
            message.concentrator,
            message.run,
            message.sequence,
            message.sent * _SECOND_US,
            self._batch(),
            tuple(sorted(self._unknown)),
        )

    def _batch(self) -> ReadingBatch:
        message = self._message
        series = [
            (one, known) for one in message.series if (known := self._meters.get(one.meter)) is not None
        ]
        registers = [
            RegisterRead(
                known.meter_id, one.obis, _ATTRIBUTE, one.time * _SECOND_US, one.time * _SECOND_US,
                Decimal(one.value), None, one.unit, Quality.PUSHED,
            )
            for one in message.registers
            if (known := self._meters.get(one.meter)) is not None
        ]  # fmt: skip
        for one, known in series:
            registers += self._others(one, known)
        events = [found for one in message.events if (found := self._event(one)) is not None]
        if not series:
            return registers_only(registers, source=self._source, events=events)
        return self._columns(series, registers, events)

    def _columns(
        self, series: list[tuple[Series, Known]], registers: list[RegisterRead], events: list[MeterEvent]
    ) -> ReadingBatch:
        lengths = [len(one.stamps) for one, _ in series]
        total = sum(lengths)

        def each(values: list[int], kind: Any) -> Any:
            return np.repeat(np.array(values, kind), lengths)

        stamps = np.array([stamp for one, _ in series for stamp in one.stamps], np.int64) * _SECOND_US
        periods = each([one.period_s for one, _ in series], np.int32)
        values = np.zeros((total, _WIDE), np.int64)
        valid = np.zeros((total, _WIDE), np.bool_)
        status = np.full(total, NO_STATUS, np.int64)
        begin = 0
        for (one, _), length in zip(series, lengths, strict=True):
            end = begin + length
            for column, place in zip(one.values, self._layouts[one.layout].places, strict=True):
                if place is None:
                    continue
                there = [value is not None for value in column]
                values[begin:end, place] = [value or 0 for value in column]
                valid[begin:end, place] = there
            if one.status is not None:
                status[begin:end] = [NO_STATUS if word is None else word for word in one.status]
            begin = end
        period_us = periods.astype(np.int64) * _SECOND_US
        # hours and days begin where the meter's zone has them: zones differ by quarters of an hour
        grid = np.where(periods >= 3600, 900 * _SECOND_US, period_us)
        past = stamps % grid
        off_grid = past != 0
        ends = np.where(off_grid, stamps - past + grid, stamps)
        return ReadingBatch(
            meter_id=each([known.meter_id for _, known in series], np.int32),
            profile=each([one.profile for one, _ in series], np.int16),
            start_us=ends - period_us,
            period_s=periods,
            stamp_us=stamps,
            amr_status=status,
            clock_status=np.full(total, NO_STATUS, np.int16),
            quality=np.full(total, Quality.PUSHED, np.int16),
            fragment=np.where(off_grid, Fragment.OFF_GRID, Fragment.NONE).astype(np.int8),
            layout=each([one.layout for one, _ in series], np.int16),
            values=values,
            valid=valid,
            layouts=tuple(layout.channels for layout in self._layouts),
            source=self._source,
            registers=tuple(registers),
            events=tuple(events),
        )

    def _others(self, one: Series, known: Known) -> list[RegisterRead]:
        """Columns that are none of the load curve."""
        layout = self._layouts[one.layout]
        if None not in layout.places:
            return []
        return [
            RegisterRead(
                known.meter_id, channel.obis, _ATTRIBUTE, stamp * _SECOND_US, stamp * _SECOND_US,
                Channel("", channel.obis, channel.scaler, channel.unit).exact(value), None, channel.unit,
                Quality.PUSHED,
            )
            for channel, place, column in zip(layout.sent, layout.places, one.values, strict=True)
            if place is None
            for stamp, value in zip(one.stamps, column, strict=True)
            if value is not None
        ]  # fmt: skip

    def _event(self, one: BatchEvent) -> MeterEvent | None:
        known = None if one.meter is None else self._meters.get(one.meter)
        if known is None and one.meter is not None:
            return None
        return MeterEvent(
            None if known is None else known.meter_id,
            one.log,
            one.meaning or EventMeaning.OTHER,
            one.code,
            one.time * _SECOND_US,
            self._received_us,
            self._source,
            one.duration_s,
            one.text,
            self._message.concentrator if one.meter is None else None,
        )
