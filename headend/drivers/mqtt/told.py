"""What one MQTT message tells, and many of them as one ReadingBatch.

A message with readings of its own is light (tuples); only `merge` makes columns, once for a whole bunch,
since a batch for every message of one value would cost more than all the rest.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from schemas.batch import AnnouncedMeter, BatchLost
from schemas.event import MeterEvent
from schemas.reading import (
    INTERVAL_QUANTITIES,
    NO_STATUS,
    ChannelLayout,
    Fragment,
    Quality,
    ReadingBatch,
    RegisterRead,
    concatenate,
    registers_only,
)

_WIDE: Final = len(INTERVAL_QUANTITIES)


class Interval(NamedTuple):
    """A sampled row: ``values`` are raw integers in the order of INTERVAL_QUANTITIES, None missing. Times are
    microseconds since 1970-01-01 UTC; ``stamp_us`` is the reading's own time."""

    meter_id: int
    profile: int
    start_us: int
    period_s: int
    stamp_us: int
    layout: ChannelLayout
    values: tuple[int | None, ...]


class Readings(NamedTuple):
    """Readings of one known meter. ``notes`` say what of the message was not stored, and why."""

    meter_id: int
    intervals: tuple[Interval, ...] = ()
    registers: tuple[RegisterRead, ...] = ()
    events: tuple[MeterEvent, ...] = ()
    notes: tuple[str, ...] = ()


class StationBatch(NamedTuple):
    """A batch of a concentrator: number ``sequence`` of its ``run``. ``unknown`` are meters in it that are
    not in the fleet: their readings are not in ``batch``, and the message is worth keeping."""

    station: str
    run: str
    sequence: int
    sent_us: int
    batch: ReadingBatch
    unknown: tuple[str, ...] = ()


class Announced(NamedTuple):
    """A station says which meters are below it."""

    station: str
    sent_us: int
    meters: tuple[AnnouncedMeter, ...]


class Frames(NamedTuple):
    """DLMS frames of a gateway (``data`` is freed of hexadecimal dress): `frames` explains them."""

    identity: str
    data: bytes


class Unknown(NamedTuple):
    """A message of devices that are not in the fleet: learn them from the database and decode again, else it
    is for the inbox. ``form`` is that of the payload, as models write it."""

    identities: tuple[str, ...]
    form: str


class Problem(NamedTuple):
    """A wrong payload, for the quarantine. ``reason`` names the first thing that is wrong."""

    reason: str


class Ignored(NamedTuple):
    """A message that is right and has nothing for us, or nothing that may be believed."""

    reason: str


Told = Readings | StationBatch | BatchLost | Announced | Frames | Unknown | Problem | Ignored


def merge(told: Sequence[Readings | StationBatch], *, source: str) -> ReadingBatch:
    """One batch of all of them, in their order: sampled rows first, then the stations' own."""
    readings = [one for one in told if isinstance(one, Readings)]
    batches = [one.batch for one in told if isinstance(one, StationBatch)]
    if readings:
        batches.insert(0, _columns(readings, source))
    if not batches:
        return registers_only((), source=source)
    return concatenate(batches, source=source) if len(batches) > 1 else batches[0]


def _columns(readings: Sequence[Readings], source: str) -> ReadingBatch:
    registers = tuple(read for one in readings for read in one.registers)
    events = tuple(event for one in readings for event in one.events)
    rows = [row for one in readings for row in one.intervals]
    if not rows:
        return registers_only(registers, source=source, events=events)
    count = len(rows)
    meters, profiles, starts, periods, stamps, layouts, values = zip(*rows, strict=True)
    places: dict[int, int] = {}  # by identity: a model has one object for each curve
    distinct: list[ChannelLayout] = []
    for layout in layouts:
        if id(layout) not in places:
            places[id(layout)] = len(distinct)
            distinct.append(layout)
    flat = [value for row in values for value in row]
    return ReadingBatch(
        meter_id=np.array(meters, np.int32),
        profile=np.array(profiles, np.int16),
        start_us=np.array(starts, np.int64),
        period_s=np.array(periods, np.int32),
        stamp_us=np.array(stamps, np.int64),
        amr_status=np.full(count, NO_STATUS, np.int64),
        clock_status=np.full(count, NO_STATUS, np.int16),
        quality=np.full(count, Quality.SAMPLED, np.int16),
        fragment=np.full(count, Fragment.NONE, np.int8),
        layout=np.array([places[id(layout)] for layout in layouts], np.int16),
        values=np.array([value or 0 for value in flat], np.int64).reshape(count, _WIDE),
        valid=np.array([value is not None for value in flat], np.bool_).reshape(count, _WIDE),
        layouts=tuple(distinct),
        source=source,
        registers=registers,
        events=events,
    )
