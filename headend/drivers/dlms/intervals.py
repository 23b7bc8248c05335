"""From the columns of a profile buffer to the rows of a ReadingBatch.

A DLMS profile stamps the END of the capture period. The grid is the meter's own wall clock: local time =
UTC - deviation, counted from midnight. A row whose stamp is not on it, or the second one with a stamp, is a
fragment. Everything here is arithmetic on arrays; what depends on the stamps alone is remembered, since all
meters of a model answer a day with the same stamps.
"""

import datetime as dt
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from headend.drivers.dlms.values import Told, told
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute
from protocols.dlms.cosem_time import DEVIATION_UNSPECIFIED, candidates, local_to_utc
from protocols.dlms.profile_columns import BufferLayout, ProfileColumns
from protocols.dlms.units import scale
from protocols.errors import RemoteProtocolError
from schemas.reading import (
    INTERVAL_QUANTITIES,
    NO_STATUS,
    ChannelLayout,
    Fragment,
    Quality,
    ReadingBatch,
    RegisterRead,
)

_DAY_US: Final = 86_400_000_000
_HOUR_S: Final = 3600
_MINUTE_US: Final = 60_000_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)
#: Sequences of stamps whose intervals are remembered, per profile: some days of 15 minutes for all its
#: meters.
_REMEMBERED: Final = 64

I8 = npt.NDArray[np.int64]
I1 = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class OtherColumn:
    """A value column that is no interval quantity: kept as register readings under its OBIS code.

    ``wire_at`` is its place in the buffer, ``value_at`` its place among the value columns.
    """

    wire_at: int
    value_at: int
    obis: str
    attribute: int
    scaler: int
    unit: str | None


@dataclass(frozen=True)
class ProfileShape:
    """How a meter's buffer (``attribute``) becomes rows. Shared by all meters with the same columns; keep it.

    ``quantity_at`` holds for each of INTERVAL_QUANTITIES its place among the buffer's value columns, None
    where the meter has no such channel.
    """

    number: int
    attribute: Attribute
    period_s: int
    buffer: BufferLayout
    channels: ChannelLayout
    quantity_at: tuple[int | None, ...]
    others: tuple[OtherColumn, ...]
    status_obis: str | None = None

    @cached_property
    def _stamps(self) -> "OrderedDict[int, tuple[ProfileColumns, I8, I1]]":
        return OrderedDict()

    @cached_property
    def _constants(self) -> "OrderedDict[int, _Constants]":
        return OrderedDict()

    @cached_property
    def straight(self) -> bool:
        """Whether the buffer's value columns are the four quantities in their order: no column is moved."""
        return self.quantity_at == tuple(range(len(INTERVAL_QUANTITIES))) and not self.others

    def intervals(self, columns: ProfileColumns) -> tuple[I8, I1]:
        """Start of each row's interval (UTC microseconds) and its fragment code, remembered by stamps.

        Rows with the same stamps come in the very same arrays from the decoder, so their identity is the
        key; the entry holds them, so that no other array can take their place in memory.
        """
        key = id(columns.stamp_us)
        found = self._stamps.get(key)
        if found is not None and found[0].deviation_min is columns.deviation_min:
            return found[1], found[2]
        start, fragment = intervals_of(columns, self.buffer)
        start.flags.writeable = fragment.flags.writeable = False
        self._stamps[key] = (columns, start, fragment)
        while len(self._stamps) > _REMEMBERED:
            self._stamps.popitem(last=False)
        return start, fragment

    def constants(self, rows: int) -> "_Constants":
        """Columns that are the same for every buffer of so many rows."""
        found = self._constants.get(rows)
        if found is None:
            found = self._constants[rows] = _Constants(
                np.full(rows, self.number, np.int16),
                np.full(rows, self.period_s, np.int32),
                np.full(rows, NO_STATUS, np.int64),
                np.full(rows, Quality.MEASURED, np.int16),
                np.zeros(rows, np.int16),
            )
            while len(self._constants) > _REMEMBERED:
                self._constants.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class _Constants:
    profile: npt.NDArray[np.int16]
    period_s: npt.NDArray[np.int32]
    no_status: I8
    quality: npt.NDArray[np.int16]
    layout: npt.NDArray[np.int16]

    def __post_init__(self) -> None:
        for name in self.__slots__:
            getattr(self, name).flags.writeable = False


# ---- the grid -------------------------------------------------------------------------------------


def intervals_of(columns: ProfileColumns, layout: BufferLayout) -> tuple[I8, I1]:
    """Start (UTC microseconds) and fragment code of each row, in wire order.

    ``start`` is stamp - period; where a period is longer than an hour and the zone is known, it is the wall
    clock's step back, so that the day of 23 or 25 hours begins at its midnight. An off-grid row's start is
    that of the interval in which it ended.
    """
    rows = len(columns)
    fragment = np.zeros(rows, np.int8)
    stamps = columns.stamp_us
    period_us = layout.period_s * 1_000_000
    if not rows or not period_us:
        return stamps.copy(), fragment
    offset = _east_us(columns, layout)
    local = stamps + offset
    into_day = local % _DAY_US
    step_us = min(period_us, _DAY_US)
    past_grid = into_day % step_us
    off_grid = past_grid != 0
    # The interval's end on the grid, at or after the stamp.
    local_end = local if not off_grid.any() else np.where(off_grid, local - past_grid + step_us, local)
    if layout.period_s > _HOUR_S and layout.zone is not None and layout.follows_dst:
        start = _zoned_start(local_end, local_end - offset, period_us, layout)
    else:
        start = local_end - offset - period_us
    fragment[off_grid] = Fragment.OFF_GRID
    order = stamps[::-1] if layout.descending else stamps
    if not (order[1:] > order[:-1]).all():
        _mark_repeats(stamps, fragment, descending=layout.descending)
    return start, fragment


def _mark_repeats(stamps: I8, fragment: I1, *, descending: bool) -> None:
    """The row captured first keeps its place, also where the newest come first."""
    places = range(len(stamps) - 1, -1, -1) if descending else range(len(stamps))
    seen: set[int] = set()
    for place in places:
        stamp = int(stamps[place])
        if fragment[place] == Fragment.NONE and stamp in seen:
            fragment[place] = Fragment.REPEATED
        seen.add(stamp)


def _east_us(columns: ProfileColumns, layout: BufferLayout) -> I8:
    """Local time - UTC of each row in microseconds."""
    deviation = columns.deviation_min
    sign = _MINUTE_US if layout.inverted_deviation else -_MINUTE_US
    unknown = deviation == DEVIATION_UNSPECIFIED
    if not unknown.any():
        return deviation.astype(np.int64) * sign
    east: I8 = np.where(unknown, 0, deviation.astype(np.int64) * sign)
    if layout.zone is not None and unknown.all():
        return np.array([_zone_east_us(int(stamp), layout) for stamp in columns.stamp_us], np.int64)
    # Null clocks among others: they go on in the local time of the row before, or of the first that has one.
    known = np.flatnonzero(~unknown)
    if len(known):
        last = np.maximum.accumulate(np.where(unknown, -1, np.arange(len(unknown))))
        return east[np.where(last < 0, known[0], last)]
    return east


def _zone_east_us(stamp_us: int, layout: BufferLayout) -> int:
    if layout.zone is None:
        return 0
    local = (_EPOCH + stamp_us * _US).astimezone(layout.zone)
    offset = local.utcoffset() or dt.timedelta(0)
    if not layout.follows_dst:
        offset -= local.dst() or dt.timedelta(0)
    return offset // _US


def _zoned_start(local_end: I8, utc_end: I8, period_us: int, layout: BufferLayout) -> I8:
    zone = layout.zone
    if zone is None:
        return utc_end - period_us
    starts = []
    for end_local, end_utc in zip(local_end.tolist(), utc_end.tolist(), strict=True):
        wall = (_EPOCH + (end_local - period_us) * _US).replace(tzinfo=None)
        try:
            first, second = candidates(wall, zone)
        except RemoteProtocolError:
            # The wall clock skips the moment at which the interval would begin: then it began an hour later.
            first = second = local_to_utc(wall + dt.timedelta(hours=1), zone, dst_active=True)
        start = (second if (second - _EPOCH) // _US < end_utc else first) - _EPOCH
        starts.append(start // _US)
    return np.array(starts, np.int64)


# ---- the batch ------------------------------------------------------------------------------------


def to_batch(
    shape: ProfileShape,
    columns: ProfileColumns,
    meter_id: int,
    *,
    covered_us: Sequence[tuple[int, int]] = (),
    source: str = "",
) -> ReadingBatch:
    """One meter's buffer as a batch. ``covered_us`` are the half-open ranges that were asked and answered."""
    rows = len(columns)
    start, fragment = shape.intervals(columns)
    constants = shape.constants(rows)
    if shape.straight:
        values, valid = columns.values, columns.valid
    else:
        values = np.zeros((rows, len(INTERVAL_QUANTITIES)), np.int64)
        valid = np.zeros((rows, len(INTERVAL_QUANTITIES)), np.bool_)
        for place, at in enumerate(shape.quantity_at):
            if at is not None:
                values[:, place] = columns.values[:, at]
                valid[:, place] = columns.valid[:, at]
    registers: tuple[RegisterRead, ...] = ()
    if shape.others or columns.exceptions:
        registers = tuple(_registers(shape, columns, meter_id))
    return ReadingBatch(
        meter_id=np.full(rows, meter_id, np.int32),
        profile=constants.profile,
        start_us=start,
        period_s=constants.period_s,
        stamp_us=columns.stamp_us,
        amr_status=constants.no_status if columns.status is None else columns.status,
        clock_status=columns.clock_status,
        quality=constants.quality,
        fragment=fragment,
        layout=constants.layout,
        values=values,
        valid=valid,
        layouts=(shape.channels,),
        covered_us=tuple((meter_id, shape.number, since, until) for since, until in covered_us),
        source=source,
        registers=registers,
    )


def _registers(shape: ProfileShape, columns: ProfileColumns, meter_id: int) -> list[RegisterRead]:
    """Values that have no cell: other quantities, and what a cell cannot hold.

    ``read_us`` is the row's own stamp, so that reading the same rows again gives the same register readings.
    """
    reads = []
    stamps = columns.stamp_us.tolist()
    for other in shape.others:
        raws, valid = columns.values[:, other.value_at].tolist(), columns.valid[:, other.value_at].tolist()
        for stamp, raw, is_there in zip(stamps, raws, valid, strict=True):
            if is_there:
                value = scale(raw, other.scaler)
                reads.append(
                    RegisterRead(meter_id, other.obis, other.attribute, stamp, stamp, value, None, other.unit)
                )
    for row, at, data in columns.exceptions:
        obis, attribute, scaler, unit = _identity(shape, at)
        found = _scaled(data, scaler)
        unit = unit if found.value is not None else None
        stamp = stamps[row]
        reads.append(
            RegisterRead(
                meter_id, obis, attribute, stamp, stamp, found.value, found.text, unit,
                from_float=found.from_float,
            )
        )  # fmt: skip
    return reads


def _scaled(data: Data, scaler: int) -> Told:
    found = told(data)
    numeric = data.type not in (DataType.BOOLEAN, DataType.ENUM) and found.value is not None
    return found._replace(value=scale(found.value or Decimal(0), scaler)) if numeric else found


def _identity(shape: ProfileShape, wire_at: int) -> tuple[str, int, int, str | None]:
    for other in shape.others:
        if other.wire_at == wire_at:
            return other.obis, other.attribute, other.scaler, other.unit
    if wire_at == shape.buffer.status_at:
        return shape.status_obis or "", 2, 0, None
    value_at = shape.buffer.values_at.index(wire_at)
    channel = shape.channels.channels[shape.quantity_at.index(value_at)]
    if channel is None:
        raise RemoteProtocolError(f"column {wire_at} of the buffer belongs to no channel")
    return channel.obis, 2, channel.scaler, channel.unit
