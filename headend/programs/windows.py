"""Windows: local times of day between which visits may begin, as moments. Pure functions.

A window of a day is one span: from the first time that the clocks show ``opens`` to the first time after
that they show ``closes``. A time that is skipped in spring is the moment of the skip; a window that lies
wholly within is none.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from schemas.campaign import Window

_DAY: Final = timedelta(days=1)
#: A window that opens once a week may fall into a skipped hour once.
_DAYS: Final = 16


def opening(window: Window | None, at: datetime) -> datetime:
    """When the window is open next, at or after ``at``: that moment itself where it is open then. Aware UTC.

    Raises ValueError where it does not open within two weeks.
    """
    at = at.astimezone(UTC)
    if window is None:
        return at
    for opens, closes in _spans(window, at):
        if at < closes:
            return max(at, opens)
    raise ValueError(f"the window {window.opens:%H:%M} to {window.closes:%H:%M} never opens")


def _spans(window: Window, at: datetime) -> Iterator[tuple[datetime, datetime]]:
    zone = ZoneInfo(window.zone)
    day = at.astimezone(zone).date() - _DAY
    over_midnight = window.closes <= window.opens
    for _ in range(_DAYS):
        if day.weekday() in window.days:
            opens = _moment(day, window.opens, zone)
            closes = _moment(day + _DAY if over_midnight else day, window.closes, zone)
            if opens < closes:
                yield opens, closes
        day += _DAY


def _moment(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """The first time that clocks show it; the moment of the skip where they never do."""
    early, late = (datetime.combine(day, clock, zone).replace(fold=fold).astimezone(UTC) for fold in (1, 0))
    if early >= late:  # an ordinary time: the same; a repeated one: the first is that of fold 0
        return late
    skipped = datetime.combine(day, clock, zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == skipped:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)
