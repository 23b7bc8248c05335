"""Runs against their definition, minute by minute, where clocks change by an hour, half an hour and two."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from headend.schedules import calendar
from schemas.job import Curves
from schemas.schedule import Schedule

ZONES = ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca",
         "Asia/Beirut", "Antarctica/Troll", "Pacific/Apia", "America/Santiago")  # fmt: skip
#: Days around which clocks change somewhere in these zones, and days on which none do.
CHANGES = tuple(
    datetime(2026, month, day, tzinfo=UTC)
    for month, day in ((3, 7), (3, 28), (4, 4), (9, 5), (10, 3), (10, 24), (10, 31), (2, 14), (3, 22), (7, 1))
)
MINUTE = timedelta(minutes=1)


def schedule(cron: str, zone: str) -> Schedule:
    return Schedule(name="s", cron=cron, zone=zone, works=(Curves(),), deadline="6h")


@st.composite
def fields(draw: st.DrawFn, last: int) -> tuple[str, set[int]]:
    """A field of cron and what it means: a list, a range, a step, all in some form."""
    form = draw(st.sampled_from(("list", "range", "step")))
    if form == "list":
        found = draw(st.sets(st.integers(0, last), min_size=1, max_size=4))
        return ",".join(str(one) for one in sorted(found)), found
    if form == "range":
        first = draw(st.integers(0, last))
        until = draw(st.integers(first, last))
        return f"{first}-{until}", set(range(first, until + 1))
    step = draw(st.integers(2, last))
    return f"*/{step}", set(range(0, last + 1, step))


def local_times(zone: ZoneInfo, since: datetime, until: datetime) -> dict[datetime, datetime]:
    """Each local minute that exists, and the first instant at which it does."""
    found: dict[datetime, datetime] = {}
    at = since
    while at < until:
        found.setdefault(at.astimezone(zone).replace(tzinfo=None), at)
        at += MINUTE
    return found


def by_definition(
    zone: ZoneInfo, minutes: set[int], hours: set[int], since: datetime, until: datetime
) -> list[datetime]:
    """Each wanted local minute at its first instant, or at the first instant of the next one that exists."""
    exists = local_times(zone, since - timedelta(days=2), until + timedelta(days=2))
    wall, last = min(exists), max(exists)
    runs = set()
    while wall <= last:
        if wall.minute in minutes and wall.hour in hours:
            there = wall
            while there not in exists and there < last:
                there += MINUTE
            runs.add(exists[there])
        wall += MINUTE
    return sorted(run for run in runs if since < run <= until)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(CHANGES), fields(59), fields(23), st.integers(0, 2879))
def test_local_times_run_once_each_by_definition(
    name: str, day: datetime, minute: tuple[str, set[int]], hour: tuple[str, set[int]], offset: int
) -> None:
    if len(hour[1]) == 24:
        return
    since = day - timedelta(days=1) + offset * MINUTE
    until = since + timedelta(days=2)
    runs = []
    for run in calendar.runs(schedule(f"{minute[0]} {hour[0]} * * *", name), since):
        if run > until:
            break
        runs.append(run)
    assert runs == by_definition(ZoneInfo(name), minute[1], hour[1], since, until)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([zone for zone in ZONES if zone != "Australia/Lord_Howe"]),
    st.sampled_from(CHANGES),
    fields(59),
    st.sampled_from(("*", "*/1", "0-23")),
    st.integers(0, 2879),
)
def test_every_hour_is_every_instant_that_fits(
    name: str, day: datetime, minute: tuple[str, set[int]], hour: str, offset: int
) -> None:
    zone = ZoneInfo(name)
    since = day - timedelta(days=1) + offset * MINUTE
    expected = [
        at for step in range(1, 2881) if (at := since + step * MINUTE).astimezone(zone).minute in minute[1]
    ]
    assert calendar.next_runs(schedule(f"{minute[0]} {hour} * * *", name), since, len(expected)) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(CHANGES),
    st.sampled_from(
        ("0 1 * * *", "30 2 * * 1-5", "*/20 2-4 * * *", "0 0 1 * *", "5 */6 * * *", "59 23 L * *")
    ),
    st.integers(0, 100_000),
)
def test_asked_again_from_any_moment_the_answer_is_the_same(
    name: str, day: datetime, cron: str, seconds: int
) -> None:
    """What planners rely on: runs grow, and none is lost or doubled by asking from between."""
    one = schedule(cron, name)
    since = day - timedelta(days=1)
    runs = calendar.next_runs(one, since, 40)
    assert all(run < later for run, later in pairwise(runs))
    for before, run in pairwise(runs[:8]):
        assert calendar.next_runs(one, before, 1) == [run]
    middle = since + timedelta(seconds=seconds)
    assert calendar.next_runs(one, middle, 1) == [next(run for run in runs if run > middle)]
    assert calendar.latest(one, runs[0], runs[20] + timedelta(seconds=1)) == runs[20]
