"""What becomes of a clock that is so far off, and when: pure functions of readings and times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from headend.drivers.contract import Curve, Recall
from schemas.clock import ClockReading
from schemas.programs.clock import ClockProgram

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
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


def moment(now: datetime, reading: ClockReading, curves: Sequence[Curve], margin: timedelta) -> datetime:
    """When the clock may be put right: ``now``, or just after a boundary.

    What it shows before and after stays ``margin`` and the uncertainty away from the boundaries of the load
    profiles; and no boundary lies between, where the change is small enough for that to be possible at all.
    """
    margin += reading.uncertainty
    grids = [curve for curve in curves if curve.recall is not Recall.SAMPLED]
    if not grids:
        return now
    shortest = min(timedelta(seconds=curve.period_s) for curve in grids)
    crosses = abs(reading.offset) + 2 * margin >= shortest
    later = sorted(
        edge + margin - ahead
        for curve in grids
        for ahead in (timedelta(0), reading.offset)
        for edge in _edges(now + ahead, curve, crosses)
    )
    for candidate in (now, *(one for one in later if one > now)):
        if all(_is_clear(candidate, reading.offset, curve, margin, crosses) for curve in grids):
            return candidate
    return later[-1]


def _edges(shown: datetime, curve: Curve, crosses: bool) -> list[datetime]:
    """The boundaries around what a clock shows."""
    first = _floor(shown, curve)
    found = [first]
    for _ in range(2):
        found.append(_next(found[-1], curve))
    return found


def _is_clear(at: datetime, offset: timedelta, curve: Curve, margin: timedelta, crosses: bool) -> bool:
    before, after = at + offset, at
    for shown in (before, after):
        edge = _floor(shown, curve)
        if shown - edge < margin or _next(edge, curve) - shown < margin:
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
