"""What meters have in place of weeks: rest days.

On some days of the week, the same in all seasons, one day counts; on all others the season's own.
"""

from collections.abc import Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

D = TypeVar("D", bound=Hashable)


class RestDays(NamedTuple):
    """On these days of the week (Monday 0, in order) day ``number`` counts."""

    weekdays: tuple[int, ...]
    number: int


class Split(NamedTuple, Generic[D]):
    """Weeks as rest days: on ``weekdays`` ``rest``, else the one of ``own`` that is the week's. Without
    ``weekdays`` there is no ``rest``."""

    weekdays: tuple[int, ...]
    rest: D | None
    own: tuple[D, ...]


def split(weeks: Sequence[Sequence[D]]) -> Split[D] | None:
    """Weeks (seven days each, Monday first) as rest days, as few as can be; None where they are no such."""
    mixed = next((week for week in weeks if len(set(week)) > 1), None)
    if mixed is None:
        return Split((), None, tuple(week[0] for week in weeks))
    kinds = sorted(dict.fromkeys(mixed), key=mixed.count)
    if len(kinds) > 2:
        return None
    for rest in kinds:
        weekdays = tuple(n for n, day in enumerate(mixed) if day == rest)
        others = [[day for n, day in enumerate(week) if n not in weekdays] for week in weeks]
        rests = {week[n] for week in weeks for n in weekdays}
        if rests == {rest} and all(len(set(days)) == 1 for days in others):
            return Split(weekdays, rest, tuple(days[0] for days in others))
    return None
