"""What a load-profile buffer becomes: columns. Shared by the vectorised and the general decoder."""

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from protocols.dlms.axdr import Data
from protocols.dlms.cosem_time import DEVIATION_UNSPECIFIED, candidates, dst_active, local_to_utc
from protocols.errors import LocalProtocolError, RemoteProtocolError

#: No clock status or status word came with the row. A status of 0 is a status.
NO_STATUS: Final = -1
INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)

_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - counts wall-clock microseconds
_EPOCH_UTC: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_MINUTE_US: Final = 60_000_000


class Role(StrEnum):
    """What a column of the buffer is for. ``OTHER`` columns are checked for form and left out."""

    CLOCK = "clock"
    STATUS = "status"
    VALUE = "value"
    OTHER = "other"


class NullRule(StrEnum):
    """What null-data means in a status or value column: nothing captured, or the same as the row before."""

    MISSING = "missing"
    REPEAT = "repeat"


@dataclass(frozen=True, slots=True)
class Column:
    """One capture object of the buffer. A null clock always is the stamp before plus or minus the period."""

    role: Role
    null: NullRule = NullRule.MISSING


@dataclass(frozen=True, slots=True)
class BufferLayout:
    """The columns of a buffer in wire order, and how its clock is read.

    Exactly one clock, at most one status. ``period_s`` is the capture period (0: only where no clock is
    null). ``descending``: newest row first (sort method LIFO). ``zone`` and ``follows_dst`` say what local
    time means where the deviation is unspecified; ``inverted_deviation`` is the quirk of makers who send
    local - UTC.

    A layout carries the decoder's caches (bounded, a few hundred kB): make one per meter model and keep it.
    """

    columns: tuple[Column, ...]
    period_s: int
    descending: bool = False
    zone: ZoneInfo | None = None
    follows_dst: bool = True
    inverted_deviation: bool = False
    clock_at: int = field(init=False, compare=False, repr=False)
    status_at: int | None = field(init=False, compare=False, repr=False)
    #: Column index on the wire of each value column.
    values_at: tuple[int, ...] = field(init=False, compare=False, repr=False)
    #: The vectorised decoder's compiled shapes, by length of the buffer.
    shapes: dict[int, Any] = field(init=False, compare=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        places: dict[Role, list[int]] = {role: [] for role in Role}
        for index, column in enumerate(self.columns):
            places[column.role].append(index)
        if len(places[Role.CLOCK]) != 1 or len(places[Role.STATUS]) > 1:
            raise LocalProtocolError("a buffer layout has exactly one clock and at most one status column")
        if self.period_s < 0:
            raise LocalProtocolError(f"a capture period is not negative: {self.period_s}")
        object.__setattr__(self, "clock_at", places[Role.CLOCK][0])
        object.__setattr__(self, "status_at", places[Role.STATUS][0] if places[Role.STATUS] else None)
        object.__setattr__(self, "values_at", tuple(places[Role.VALUE]))


@dataclass(frozen=True, slots=True, eq=False)
class ProfileColumns:
    """n rows of k value columns, in wire order. Arrays may be shared between results: read-only.

    ``stamp_us`` int64: the row's own stamp (for load profiles the END of the capture period), microseconds
    since 1970-01-01 UTC. ``deviation_min`` int16 and ``clock_status`` int16 as sent (-32768 unspecified, -1
    none); a row with a null clock has neither. ``status`` int64 (-1 none), None where the layout has no
    status column. ``values`` int64 (n, k), meaningful where ``valid`` (n, k); elsewhere 0. ``exceptions``:
    what fits no such cell (a float, a string, an integer beyond int64, a negative status), as (row,
    column on the wire, Data).
    """

    stamp_us: npt.NDArray[np.int64]
    deviation_min: npt.NDArray[np.int16]
    clock_status: npt.NDArray[np.int16]
    status: npt.NDArray[np.int64] | None
    values: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    exceptions: tuple[tuple[int, int, Data], ...] = ()

    def __len__(self) -> int:
        return len(self.stamp_us)


def to_utc_us(
    layout: BufferLayout, local_us: list[int], deviation_min: list[int], clock_status: list[int]
) -> list[int]:
    """UTC of the rows whose clock is not null, all lists in row order and of equal length.

    ``local_us`` counts microseconds of wall clock since 1970. Without a deviation the zone tells; in its
    repeated autumn hour the DST bit decides, and without that the order of the rows.

    Raises:
        RemoteProtocolError: no deviation and no zone, or a local time that the zone skips; its offset is
        the row.
    """
    minute_us = -_MINUTE_US if layout.inverted_deviation else _MINUTE_US
    stamps: list[int] = []
    doubtful: dict[int, tuple[int, int]] = {}
    for row, (local, deviation, status) in enumerate(zip(local_us, deviation_min, clock_status, strict=True)):
        if deviation != DEVIATION_UNSPECIFIED:
            stamps.append(local + deviation * minute_us)
            continue
        try:
            first, second = _zoned(layout, local, status)
        except RemoteProtocolError as exc:
            raise RemoteProtocolError(exc.reason, offset=row) from exc
        if first != second:
            doubtful[row] = first, second
        stamps.append(first)
    if doubtful:
        _by_row_order(layout, stamps, doubtful)
    return stamps


def _zoned(layout: BufferLayout, local_us: int, status: int) -> tuple[int, int]:
    if layout.zone is None:
        raise RemoteProtocolError("the clock has no deviation, and no time zone is known for it")
    local = _EPOCH + local_us * _MICROSECOND
    dst = dst_active(None if status == NO_STATUS else status)
    try:
        if dst is None and layout.follows_dst:
            found = candidates(local, layout.zone)
        else:
            known = local_to_utc(local, layout.zone, follows_dst=layout.follows_dst, dst_active=dst)
            found = known, known
    except OverflowError as exc:
        raise RemoteProtocolError(f"{local} is outside of years 1 to 9999") from exc
    first, second = ((moment - _EPOCH_UTC) // _MICROSECOND for moment in found)
    return first, second


def _by_row_order(layout: BufferLayout, stamps: list[int], doubtful: dict[int, tuple[int, int]]) -> None:
    """Settle rows that could be either of two moments: the first that comes after the row before in time."""
    order = range(len(stamps) - 1, -1, -1) if layout.descending else range(len(stamps))
    leading = []
    for row in order:
        if row not in doubtful:
            break
        leading.append(row)
    # A buffer that begins within the doubtful hour has no row before it: look whether it joins the row
    # after it.
    firsts = [doubtful[row][0] for row in leading]
    if leading and len(leading) < len(stamps) and firsts == sorted(set(firsts)):
        after = stamps[order[len(leading)]]
        if after - doubtful[leading[-1]][1] == layout.period_s * 1_000_000:
            for row in leading:
                stamps[row] = doubtful.pop(row)[1]
    before: int | None = None
    for row in order:
        if row in doubtful:
            first, second = doubtful[row]
            stamps[row] = first if before is None or first > before else second
        before = stamps[row]
