"""What is asked for: wanted ranges on the profiles' grids, due ranges joined."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from headend.drivers.contract import Curve, Recall
from headend.jobs.ranges import JOIN, joined, wanted_ranges
from headend.store.coverage import Due

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def wanted_of(*periods_s: int, since, until, zone: str | None = None, recall=Recall.STORED):
    known = None if zone is None else ZoneInfo(zone)
    curves = [Curve(n, period, recall, known) for n, period in enumerate(periods_s, 1)]
    return wanted_ranges("m", curves, since, until)


def test_only_whole_intervals_that_have_ended_are_wanted():
    (wanted,) = wanted_of(900, since=T0 + timedelta(minutes=1), until=T0 + timedelta(minutes=59))
    assert (wanted.since, wanted.until) == (T0 + timedelta(minutes=15), T0 + timedelta(minutes=45))


def test_bounds_on_the_grid_stay():
    (wanted,) = wanted_of(3600, since=T0, until=T0 + 5 * HOUR)
    assert (wanted.model, wanted.profile, wanted.since, wanted.until) == ("m", 1, T0, T0 + 5 * HOUR)


def test_days_are_the_meters_own():
    # Berlin is an hour ahead of UTC in winter, two in summer: 2026-03-29 has 23 hours
    since, until = datetime(2026, 3, 27, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC)
    (wanted,) = wanted_of(86400, since=since, until=until, zone="Europe/Berlin")
    assert wanted.since == datetime(2026, 3, 27, 23, tzinfo=UTC)
    assert wanted.until == datetime(2026, 3, 29, 22, tzinfo=UTC)


def test_nothing_is_wanted_of_too_short_a_time_or_of_meters_that_only_push():
    assert wanted_of(900, since=T0 + timedelta(minutes=1), until=T0 + timedelta(minutes=29)) == []
    assert wanted_of(900, since=T0, until=T0 + HOUR, recall=Recall.PUSHED) == []
    assert wanted_of(900, since=T0, until=T0 + HOUR, recall=Recall.SAMPLED) == []
    assert wanted_of(since=T0, until=T0 + HOUR) == []


def test_each_profile_has_its_own_grid():
    found = wanted_of(900, 3600, since=T0, until=T0 + timedelta(minutes=75))
    assert [(one.profile, one.until - one.since) for one in found] == [
        (1, timedelta(minutes=75)),
        (2, HOUR),
    ]


def test_close_ranges_of_one_profile_are_asked_for_as_one():
    ranges = [Due(7, 1, T0, T0 + HOUR), Due(7, 1, T0 + 2 * HOUR, T0 + 3 * HOUR)]
    assert joined(ranges) == [Due(7, 1, T0, T0 + 3 * HOUR)]
    apart = [Due(7, 1, T0, T0 + HOUR), Due(7, 1, T0 + HOUR + JOIN, T0 + 9 * HOUR)]
    assert joined(apart) == apart
    others = [Due(7, 1, T0, T0 + HOUR), Due(7, 2, T0 + HOUR, T0 + 2 * HOUR)]
    assert joined(others) == others


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12))
def test_joining_loses_nothing(steps):
    at, due = T0, []
    for gap, length in steps:
        since = at + timedelta(hours=gap, minutes=1)
        at = since + timedelta(hours=length)
        due.append(Due(1, 1, since, at))
    found = joined(due)
    for one in due:
        assert sum(other.since <= one.since and one.until <= other.until for other in found) == 1
    for earlier, later in pairwise(found):
        assert later.since - earlier.until >= JOIN
