"""What one MQTT message tells, and many of them as one ReadingBatch.

A message with readings of its own is light (tuples); only `merge` makes columns, once for a whole bunch,
since a batch for every message of one value would cost more than all the rest.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from headend.drivers.mqtt.series import I8, Rows
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
_SECOND_US: Final = 1_000_000
_HOUR_S: Final = 3600
_QUARTER_S: Final = 900


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
    """Readings of one known meter, or what a station (None) says of itself. ``notes`` say what of the message
    was not stored, and why."""

    meter_id: int | None
    intervals: tuple[Interval, ...] = ()
    registers: tuple[RegisterRead, ...] = ()
    events: tuple[MeterEvent, ...] = ()
    notes: tuple[str, ...] = ()


class StationBatch(NamedTuple):
    """A batch of a concentrator: number ``sequence`` of its ``run``. ``unknown`` are meters in it that are
    not in the fleet: nothing of theirs is in the rest, and the message is worth keeping."""

    station: str
    run: str
    sequence: int
    sent_us: int
    rows: tuple[Rows, ...] = ()
    registers: tuple[RegisterRead, ...] = ()
    events: tuple[MeterEvent, ...] = ()
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
    """One batch of all of them: sampled rows first, then those of stations, each in their order.

    A sampled row's interval is the one that ends at the boundary for which it counts. Rows of stations carry
    the end of theirs; where that is on no boundary of the period they are fragments. Hours and days begin
    where the meter's zone has them, and zones differ by quarters of an hour.
    """
    registers = tuple(read for one in told for read in one.registers)
    events = tuple(event for one in told for event in one.events)
    sampled = [row for one in told if isinstance(one, Readings) for row in one.intervals]
    sent = [rows for one in told if isinstance(one, StationBatch) for rows in one.rows]
    parts = []
    if sampled:
        parts.append(_sampled(sampled, source))
    if sent:
        parts.append(_sent(sent, source))
    if not parts:
        return registers_only(registers, source=source, events=events)
    whole = parts[0] if len(parts) == 1 else concatenate(parts, source=source)
    return replace(whole, registers=registers, events=events)


def _sampled(rows: Sequence[Interval], source: str) -> ReadingBatch:
    count = len(rows)
    meters, profiles, starts, periods, stamps, layouts, values = zip(*rows, strict=True)
    distinct, places = _numbered(layouts)
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
        layout=np.array(places, np.int16),
        values=np.array([value or 0 for value in flat], np.int64).reshape(count, _WIDE),
        valid=np.array([value is not None for value in flat], np.bool_).reshape(count, _WIDE),
        layouts=distinct,
        source=source,
    )


def _sent(sent: Sequence[Rows], source: str) -> ReadingBatch:
    lengths = np.array([length for rows in sent for length in rows.lengths])
    sizes = [len(rows.stamps_s) for rows in sent]
    count = sum(sizes)
    period_s = np.array([period for rows in sent for period in rows.periods_s], np.int32).repeat(lengths)
    profiles = [rows.profiles or itertools.repeat(1, len(rows.meters)) for rows in sent]
    profile = np.array(list(itertools.chain.from_iterable(profiles)), np.int16).repeat(lengths)
    stamp_s = np.concatenate([rows.stamps_s for rows in sent]).astype(np.int64)
    grid = np.where(period_s >= _HOUR_S, _QUARTER_S, period_s)
    past = stamp_s % grid
    ends: I8 = np.where(past != 0, stamp_s - past + grid, stamp_s)
    status = np.full(count, NO_STATUS, np.int64)
    values = np.zeros((count, _WIDE), np.int64)
    valid = np.zeros((count, _WIDE), np.bool_)
    begin = 0
    for rows, size in zip(sent, sizes, strict=True):
        end = begin + size
        for place, column, there in zip(rows.layout.places, rows.values, rows.valid, strict=True):
            if place is not None:
                values[begin:end, place] = column
                valid[begin:end, place] = True if there is None else there
        if rows.status is not None:
            status[begin:end] = rows.status
        begin = end
    distinct, places = _numbered([rows.layout.channels for rows in sent])
    return ReadingBatch(
        meter_id=np.array([meter for rows in sent for meter in rows.meters], np.int32).repeat(lengths),
        profile=profile,
        start_us=(ends - period_s) * _SECOND_US,
        period_s=period_s,
        stamp_us=stamp_s * _SECOND_US,
        amr_status=status,
        clock_status=np.full(count, NO_STATUS, np.int16),
        quality=np.full(count, Quality.PUSHED, np.int16),
        fragment=np.where(past != 0, np.int8(Fragment.OFF_GRID), np.int8(Fragment.NONE)),
        layout=np.array(places, np.int16).repeat(sizes),
        values=values,
        valid=valid,
        layouts=distinct,
        source=source,
    )


def _numbered(layouts: Sequence[ChannelLayout]) -> tuple[tuple[ChannelLayout, ...], list[int]]:
    """Each layout once, and the place of each one given. By identity: a kind of meter has one object."""
    places: dict[int, int] = {}
    distinct: list[ChannelLayout] = []
    for layout in layouts:
        if id(layout) not in places:
            places[id(layout)] = len(distinct)
            distinct.append(layout)
    return tuple(distinct), [places[id(layout)] for layout in layouts]
