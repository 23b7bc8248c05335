"""The rows of a ReadingBatch made ready for the tables: sorted by key, each row sent to where it belongs."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headend.store import copy_binary
from schemas.reading import INTERVAL_QUANTITIES, NO_STATUS, Fragment, ReadingBatch

Index = npt.NDArray[np.intp]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Outside of these a time is a clock that was never set, and no load curve: 1990-01-01 and 2200-01-01.
EARLIEST_US: Final = 631_152_000_000_000
LATEST_US: Final = 7_258_118_400_000_000


def moment(us: int) -> datetime:
    """Microseconds since 1970-01-01 UTC as an aware datetime, exact."""
    return EPOCH + timedelta(microseconds=us)


def microseconds(when: datetime) -> int:
    """The other way round, exact."""
    return (when - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges [since, until) of meters and profiles, times in microseconds since 1970-01-01 UTC: parallel."""

    meters: Sequence[int]
    profiles: Sequence[int]
    since_us: npt.ArrayLike
    until_us: npt.ArrayLike

    def parameters(self) -> dict[str, str]:
        """As array literals: psycopg dumps a list element by element, which costs as much as the query."""
        return {
            "meters": integers(self.meters),
            "profiles": integers(self.profiles),
            "froms": _moments(self.since_us),
            "tos": _moments(self.until_us),
        }


def integers(values: Iterable[int]) -> str:
    """An array literal of integers."""
    return f"{{{','.join(map(str, values))}}}"


def _moments(us: npt.ArrayLike) -> str:
    # Meters of a night share their ranges: each time is written once.
    times, of_each = np.unique(np.asarray(us, dtype=np.int64), return_inverse=True)
    texts = [f"{text}Z" for text in np.datetime_as_string(times.view("datetime64[us]")).tolist()]
    return f"{{{','.join([texts[place] for place in of_each.tolist()])}}}"


def _place(rows: Index) -> "Index | slice":
    """``rows`` as a slice where they are one run, which they are in most batches: its columns are views."""
    if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows) and bool((np.diff(rows) == 1).all()):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


@dataclass(frozen=True, slots=True)
class Sorted:
    """Where each row of a batch goes, as indices into it.

    ``intervals`` in order of (meter, profile, start), each key once; ``fragments`` with ``reasons`` beside
    it; ``impossible``: rows no table takes. ``repeated`` counts rows that came twice, with the same content.
    """

    intervals: Index
    fragments: Index
    reasons: npt.NDArray[np.int8]
    impossible: Index
    repeated: int


def check(batch: ReadingBatch) -> None:
    """Refuse a batch that contradicts itself, a defect of whoever made it. Raises ValueError."""
    if len(batch):
        if int(batch.layout.min()) < 0 or int(batch.layout.max()) >= len(batch.layouts):
            raise ValueError("ReadingBatch.layout points outside of layouts")
        if int(batch.period_s.min()) <= 0:
            raise ValueError("ReadingBatch.period_s must be positive")
        has_channel = np.array([[c is not None for c in layout.channels] for layout in batch.layouts])
        if not has_channel.all() and (batch.valid & ~has_channel[batch.layout]).any():
            raise ValueError("ReadingBatch.valid is set in a column that the row's layout does not have")
    for meter_id, profile, since, until in batch.covered_us:
        if not EARLIEST_US <= since < until <= LATEST_US:
            raise ValueError(
                f"ReadingBatch.covered_us of meter {meter_id}, profile {profile} is no range of time"
            )
    for read in batch.registers:
        if read.value is not None and read.text is not None:
            raise ValueError(f"register {read.obis} of meter {read.meter_id} has both a value and a text")


def sort(batch: ReadingBatch) -> Sorted:
    """Send each row to where it belongs. A second row of one key in the batch is repeated, or a fragment."""
    every = np.arange(len(batch), dtype=np.intp)
    last_us = np.maximum(batch.start_us, batch.stamp_us)
    possible = (np.minimum(batch.start_us, batch.stamp_us) >= EARLIEST_US) & (last_us < LATEST_US)
    whole = (batch.fragment == Fragment.NONE) & possible
    broken = (batch.fragment != Fragment.NONE) & possible
    intervals, fragments = every[whole], every[broken]
    reasons = batch.fragment[broken].astype(np.int8)
    repeated = 0
    if not _strictly_ascending(batch, intervals):
        # lexsort is stable: of rows with one key, the first of the batch stays the first
        order = np.lexsort((batch.start_us[intervals], batch.profile[intervals], batch.meter_id[intervals]))
        intervals = intervals[order]
        new_key = np.ones(len(intervals), dtype=np.bool_)
        new_key[1:] = _key_changes(batch, intervals)
        firsts = intervals[new_key]
        again = np.flatnonzero(~new_key)
        if len(again):
            first_of = firsts[np.cumsum(new_key)[again] - 1]
            seconds = intervals[again]
            same = _same_content(batch, first_of, seconds)
            repeated = int(same.sum())
            fragments = np.concatenate([fragments, seconds[~same]])
            reasons = np.concatenate([reasons, np.full(int((~same).sum()), Fragment.REPEATED, dtype=np.int8)])
            intervals = firsts
    return Sorted(intervals, fragments, reasons, every[~possible], repeated)


def _key_changes(batch: ReadingBatch, rows: Index) -> npt.NDArray[np.bool_]:
    at = _place(rows)
    changes: npt.NDArray[np.bool_] = (
        (np.diff(batch.meter_id[at]) != 0)
        | (np.diff(batch.profile[at]) != 0)
        | (np.diff(batch.start_us[at]) != 0)
    )
    return changes


def _strictly_ascending(batch: ReadingBatch, rows: Index) -> bool:
    at = _place(rows)
    meter, profile = np.diff(batch.meter_id[at]), np.diff(batch.profile[at])
    start = np.diff(batch.start_us[at])
    return bool(((meter > 0) | ((meter == 0) & ((profile > 0) | ((profile == 0) & (start > 0))))).all())


def _same_content(batch: ReadingBatch, left: Index, right: Index) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = (batch.valid[left] == batch.valid[right]).all(axis=1)
    same &= ((batch.values[left] == batch.values[right]) | ~batch.valid[left]).all(axis=1)
    for column in (batch.period_s, batch.layout, batch.amr_status):
        same &= column[left] == column[right]
    return same


def group_bounds(batch: ReadingBatch, rows: Index) -> tuple[Index, Index]:
    """First and last place in ``rows`` (sorted) of each run of one meter and profile."""
    if not len(rows):
        empty = np.empty(0, dtype=np.intp)
        return empty, empty
    at = _place(rows)
    cut = np.flatnonzero((np.diff(batch.meter_id[at]) != 0) | (np.diff(batch.profile[at]) != 0))
    return np.concatenate([[0], cut + 1]), np.concatenate([cut, [len(rows) - 1]])


def ranges(batch: ReadingBatch, rows: Index, firsts: Index, lasts: Index) -> Ranges:
    """The ranges from the start of each first to the end of each last row."""
    first, last = rows[firsts], rows[lasts]
    until_us = batch.start_us[last] + batch.period_s[last].astype(np.int64) * 1_000_000
    return Ranges(
        batch.meter_id[first].tolist(), batch.profile[first].tolist(), batch.start_us[first], until_us
    )


def run_bounds(batch: ReadingBatch, rows: Index) -> tuple[Index, Index]:
    """First and last place in ``rows`` (sorted) of each run of intervals without a gap."""
    if not len(rows):
        return group_bounds(batch, rows)
    at = _place(rows)
    end = batch.start_us[at] + batch.period_s[at].astype(np.int64) * 1_000_000
    breaks = (
        (np.diff(batch.meter_id[at]) != 0)
        | (np.diff(batch.profile[at]) != 0)
        | (batch.start_us[at][1:] != end[:-1])
    )
    cut = np.flatnonzero(breaks)
    return np.concatenate([[0], cut + 1]), np.concatenate([cut, [len(rows) - 1]])


def copy_rows(
    batch: ReadingBatch, rows: Index, layout_ids: npt.NDArray[np.int32], batch_id: int
) -> Iterator[bytes]:
    """Rows as a binary COPY stream, columns in the order of copy_direct and copy_staged."""
    column = copy_binary.Column
    at = _place(rows)
    amr, clock = batch.amr_status[at], batch.clock_status[at]
    return copy_binary.encode(
        [
            copy_binary.timestamps(batch.start_us[at]),
            copy_binary.timestamps(batch.stamp_us[at]),
            column(np.full(len(rows), batch_id, dtype=np.int64), 8),
            *(column(batch.values[at, k], 8, batch.valid[at, k]) for k in range(len(INTERVAL_QUANTITIES))),
            column(batch.meter_id[at], 4),
            column(batch.period_s[at], 4),
            column(layout_ids[batch.layout[at]], 4),
            column(amr, 8, amr != NO_STATUS),
            column(batch.profile[at], 2),
            column(clock, 2, clock != NO_STATUS),
            column(batch.quality[at], 2),
        ]
    )


def fragment_parameters(
    batch: ReadingBatch, rows: Index, reasons: npt.NDArray[np.int8], layout_ids: npt.NDArray[np.int32]
) -> dict[str, Any]:
    """Rows as the parallel lists of insert_fragments."""
    return {
        "reasons": reasons.tolist(),
        "starts": [moment(us) for us in batch.start_us[rows].tolist()],
        "stamps": [moment(us) for us in batch.stamp_us[rows].tolist()],
        **{
            quantity: _nullable(batch.values[rows, k].tolist(), batch.valid[rows, k])
            for k, quantity in enumerate(INTERVAL_QUANTITIES)
        },
        "meters": batch.meter_id[rows].tolist(),
        "periods": batch.period_s[rows].tolist(),
        "layouts": layout_ids[batch.layout[rows]].tolist(),
        "amr_status": _nullable(batch.amr_status[rows].tolist(), batch.amr_status[rows] != NO_STATUS),
        "profiles": batch.profile[rows].tolist(),
        "clock_status": _nullable(batch.clock_status[rows].tolist(), batch.clock_status[rows] != NO_STATUS),
        "qualities": batch.quality[rows].tolist(),
    }


def _nullable(values: Sequence[int], valid: npt.NDArray[np.bool_]) -> list[int | None]:
    return [value if there else None for value, there in zip(values, valid.tolist(), strict=True)]


def row_as_json(batch: ReadingBatch, row: int) -> bytes:
    """One row for the inbox, with every digit."""
    layout = batch.layouts[int(batch.layout[row])]
    return json.dumps(
        {
            "profile": int(batch.profile[row]),
            "start_us": int(batch.start_us[row]),
            "stamp_us": int(batch.stamp_us[row]),
            "period_s": int(batch.period_s[row]),
            "amr_status": int(batch.amr_status[row]),
            "clock_status": int(batch.clock_status[row]),
            "values": {
                channel.obis: [int(batch.values[row, k]), channel.scaler, channel.unit]
                for k, channel in enumerate(layout.channels)
                if channel is not None and batch.valid[row, k]
            },
        }
    ).encode()
