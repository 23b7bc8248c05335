"""Windows in local time, over changes of clocks: what the clocks show is never outside of them."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from headend.programs.windows import opening
from schemas.campaign import Window

BERLIN = ZoneInfo("Europe/Berlin")
#: Clocks went forward on 2026-03-29 at 01:00Z, and go back on 2026-10-25 at 01:00Z.
clock = st.times().map(lambda one: one.replace(second=0, microsecond=0))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


around_changes = st.one_of(
    *(
        st.integers(0, 60 * hours).map(lambda n, begin=begin: begin + timedelta(minutes=n))
        for begin, hours in ((utc(2026, 3, 28), 48), (utc(2026, 10, 24), 48), (utc(2026, 1, 1), 8700))
    )
)


def window(opens: time, closes: time, days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)) -> Window:
    return Window(opens=opens, closes=closes, zone="Europe/Berlin", days=days)


def is_open(one: Window, at: datetime) -> bool:
    return opening(one, at) <= at


def within(shown: time, one: Window) -> bool:
    if one.opens < one.closes:
        return one.opens <= shown < one.closes
    return shown >= one.opens or shown < one.closes


@given(clock, clock, around_changes)
@example(time(2, 30), time(3, 30), utc(2026, 3, 29, 1, 0))
@example(time(1), time(2, 30), utc(2026, 10, 25, 1, 15))
def test_while_it_is_open_the_clocks_show_a_time_within_it(opens, closes, at):
    assume(opens != closes)
    one = window(opens, closes)
    if is_open(one, at):
        assert within(at.astimezone(BERLIN).time(), one)
    elif at.astimezone(BERLIN).date() != utc(2026, 10, 25).date():  # of a repeated hour the first
        assert not within(at.astimezone(BERLIN).time(), one)


@given(clock, clock, around_changes, st.sets(st.integers(0, 6), min_size=1))
def test_the_next_opening_is_the_first_moment_at_which_it_is_open(opens, closes, at, days):
    assume(opens != closes)
    one = window(opens, closes, tuple(sorted(days)))
    found = opening(one, at)
    assert found >= at
    assert is_open(one, found)
    if found > at:
        assert not is_open(one, found - timedelta(seconds=1))
        assert not is_open(one, at)
        assert opening(one, at + (found - at) / 2) == found


@pytest.mark.parametrize(
    ("opens", "closes", "at", "expected"),
    [
        (time(22), time(4), utc(2026, 6, 1, 12), utc(2026, 6, 1, 20)),
        (time(22), time(4), utc(2026, 6, 2, 1), utc(2026, 6, 2, 1)),  # since yesterday
        (time(2, 30), time(4), utc(2026, 3, 29, 0), utc(2026, 3, 29, 1)),  # 02:30 is skipped
        (time(2, 10), time(2, 50), utc(2026, 3, 29, 0), utc(2026, 3, 30, 0, 10)),  # all of it is
        (time(2, 30), time(5), utc(2026, 10, 24, 12), utc(2026, 10, 25, 0, 30)),  # the first 02:30
        (time(1), time(2, 30), utc(2026, 10, 25, 1, 15), utc(2026, 10, 26, 0)),  # the second 02:15
    ],
)
def test_changes_of_clocks(opens, closes, at, expected):
    assert opening(window(opens, closes), at) == expected


def test_days_are_those_on_which_it_opens():
    sunday_night = window(time(22), time(4), (6,))
    assert is_open(sunday_night, utc(2026, 6, 8, 1))  # Monday 03:00
    assert opening(sunday_night, utc(2026, 6, 8, 2)) == utc(2026, 6, 14, 20)
