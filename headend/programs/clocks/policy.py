"""What becomes of a clock that is so far off, and when: pure functions of readings and times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from headend.drivers.contract import Curve, Recall
from schemas.clock import ClockReading
from schemas.programs.clock import ClockProgram

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
#: A reading so old tells no more what a clock shows.
_FRESH: Final = timedelta(minutes=15)
#: Clocks drift while nobody looks: seconds per second that two readings may differ beyond doubt.
DRIFT: Final = 500e-6


class Verdict(StrEnum):
    """What the program says of a clock."""

    LEAVE = "leave"
    SHIFT = "shift"
    SET = "set"


def verdict(program: ClockProgram, reading: ClockReading) -> Verdict:
    """By thresholds. What may be within them, its reading being uncertain, is left."""
    off = abs(reading.offset) - reading.uncertainty
    if off <= timedelta(seconds=program.leave_s):
        return Verdict.LEAVE
    return Verdict.SHIFT if abs(reading.offset) <= timedelta(seconds=program.shift_s) else Verdict.SET


def shift_of(reading: ClockReading) -> timedelta:
    """By how many whole seconds it is to be shifted."""
    return timedelta(seconds=-round(reading.offset / _SECOND))


def took_effect(before: ClockReading, expected: timedelta, now: ClockReading) -> bool | None:
    """Whether a change of which nobody heard was made: its clock was ``before`` and would be off by
    ``expected``; None where the reading of now is too uncertain to tell."""
    since = max(now.at - before.at, timedelta(0))
    blur = now.uncertainty + before.uncertainty + since * DRIFT
    as_before, as_expected = abs(now.offset - before.offset), abs(now.offset - expected)
    if as_before <= blur < as_expected:
        return False
    if as_expected <= blur < as_before:
        return True
    return None


class Shown(NamedTuple):
    """A clock that is to be put right, and the load curves that go by it."""

    reading: ClockReading
    curves: Sequence[Curve]


def is_of_now(reading: ClockReading, now: datetime, curves: Sequence[Curve]) -> bool:
    """Whether no interval that the meter keeps has ended since its clock was read: what was stored by then is
    all that there is."""
    return now - reading.at <= _FRESH and all(
        _floor(reading.shown, curve) == _floor(now + reading.offset, curve)
        for curve in curves
        if curve.recall is Recall.STORED
    )


def moment(now: datetime, clocks: Sequence[Shown], margin: timedelta) -> datetime | None:
    """When these clocks may be put right, all at once: ``now``, or just after a boundary; None where there is
    no such time.

    What each shows before and after stays ``margin`` and the uncertainty away from the boundaries of its load
    profiles; and no boundary lies between, where the changes are small enough for that to be possible at all.
    """
    grids = [
        _Grid(one.reading.offset, margin + one.reading.uncertainty, curve)
        for one in clocks
        for curve in one.curves
        if curve.recall is not Recall.SAMPLED
    ]
    if not grids:
        return now
    shortest = min(timedelta(seconds=one.curve.period_s) for one in grids)
    offsets = [timedelta(0), *(one.offset for one in grids)]
    widest = 2 * max(one.margin for one in grids)
    crosses = max(offsets) - min(offsets) + widest >= shortest
    later = sorted(
        edge + one.margin - ahead
        for one in grids
        for ahead in (timedelta(0), one.offset)
        for edge in _edges(now + ahead, one.curve)
    )
    for candidate in (now, *(one for one in later if one > now)):
        if all(_is_clear(candidate, one, crosses) for one in grids):
            return candidate
    return None


class _Grid(NamedTuple):
    """The boundaries of one load profile, and how far its clock is off."""

    offset: timedelta
    margin: timedelta
    curve: Curve


def _edges(shown: datetime, curve: Curve) -> list[datetime]:
    """The boundaries around what a clock shows."""
    found = [_floor(shown, curve)]
    for _ in range(2):
        found.append(_next(found[-1], curve))
    return found


def _is_clear(at: datetime, grid: _Grid, crosses: bool) -> bool:
    before, after, curve = at + grid.offset, at, grid.curve
    for shown in (before, after):
        edge = _floor(shown, curve)
        if shown - edge < grid.margin or _next(edge, curve) - shown < grid.margin:
            return False
    return crosses or _floor(before, curve) == _floor(after, curve)


def _floor(shown: datetime, curve: Curve) -> datetime:
    """The boundary before: whole periods of UTC, or local midnight where they are days and more."""
    period = timedelta(seconds=curve.period_s)
    if period < _DAY:
        return shown - (shown - _EPOCH) % period
    local = shown.astimezone(curve.zone or UTC)
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _next(edge: datetime, curve: Curve) -> datetime:
    period = timedelta(seconds=curve.period_s)
    return edge + period if period < _DAY else _floor(edge + _DAY + _DAY / 8, curve)
