"""When schedules run: clocks that change, windows and deadlines, and what cannot be."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from headend.schedules import calendar
from headend.schedules.check import check_times
from schemas.job import Curves, Retry
from schemas.schedule import Schedule, Window


def schedule(**told: Any) -> Schedule:
    return Schedule(**{"name": "s", "works": (Curves(),), "deadline": "6h"} | told)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def local(cron: str, zone: str, after: datetime, n: int) -> list[str]:
    told = calendar.next_runs(schedule(cron=cron, zone=zone), after, n)
    assert all(run.utcoffset() == timedelta(0) for run in told)
    return [run.astimezone(ZoneInfo(zone)).isoformat()[5:] for run in told]


SPRING = utc(2026, 3, 28, 12)
AUTUMN = utc(2026, 10, 24, 22)


def test_a_local_time_that_does_not_exist_runs_at_the_next_valid_instant() -> None:
    assert local("30 2 * * *", "Europe/Berlin", SPRING, 2) == [
        "03-29T03:00:00+02:00",
        "03-30T02:30:00+02:00",
    ]
    # two that do not exist are one run, and so is one of them with one that does
    assert local("0,30 2,3 * * *", "Europe/Berlin", SPRING, 3) == [
        "03-29T03:00:00+02:00",
        "03-29T03:30:00+02:00",
        "03-30T02:00:00+02:00",
    ]
    assert local("*/30 2 * * *", "Europe/Berlin", SPRING, 2) == [
        "03-29T03:00:00+02:00",
        "03-30T02:00:00+02:00",
    ]
    # half an hour is missing there, from 02:00 to 02:30
    assert local("15 2 * * *", "Australia/Lord_Howe", utc(2026, 10, 3), 2) == [
        "10-04T02:30:00+11:00",
        "10-05T02:15:00+11:00",
    ]


def test_a_local_time_that_occurs_twice_runs_once_the_first_time() -> None:
    for cron in ("30 2 * * *", "30 2-2 * * *", "*/40 2 * * *"):
        runs = local(cron, "Europe/Berlin", AUTUMN, 3)
        assert [run for run in runs if "+01:00" in run and run.startswith("10-25T02")] == [], cron
    assert local("0 */2 * * *", "Europe/Berlin", AUTUMN, 3) == [
        "10-25T02:00:00+02:00",
        "10-25T04:00:00+01:00",
        "10-25T06:00:00+01:00",
    ]
    assert local("45 1 * * *", "Australia/Lord_Howe", utc(2026, 4, 4), 2) == [
        "04-05T01:45:00+11:00",
        "04-06T01:45:00+10:30",
    ]


def test_asked_in_the_repeated_hour_nothing_runs_again() -> None:
    second = utc(2026, 10, 25, 1, 10)  # 02:10 for the second time
    assert local("30 2 * * *", "Europe/Berlin", second, 1) == ["10-26T02:30:00+01:00"]


def test_an_expression_for_every_hour_is_a_rhythm() -> None:
    runs = calendar.next_runs(schedule(cron="*/15 * * * *", zone="Europe/Berlin"), AUTUMN, 40)
    assert {later - run for run, later in pairwise(runs)} == {timedelta(minutes=15)}
    runs = calendar.next_runs(schedule(cron="30 0-23 * * *", zone="Europe/Berlin"), AUTUMN, 10)
    assert {later - run for run, later in pairwise(runs)} == {timedelta(hours=1)}
    # the half hour that comes twice has its quarter hours twice
    runs = calendar.next_runs(
        schedule(cron="*/15 0-23 * * *", zone="Australia/Lord_Howe"), utc(2026, 4, 4), 120
    )
    assert {later - run for run, later in pairwise(runs)} == {timedelta(minutes=15)}


def test_every_so_many_minutes_goes_by_the_clock_of_the_world() -> None:
    every = schedule(every_min=15, zone="Europe/Berlin")
    assert calendar.next_runs(every, utc(2026, 3, 1, 0, 15), 2) == [
        utc(2026, 3, 1, 0, 30),
        utc(2026, 3, 1, 0, 45),
    ]
    assert calendar.next_runs(every, utc(2026, 3, 1, 0, 16), 1) == [utc(2026, 3, 1, 0, 30)]


def test_times_of_a_run() -> None:
    night = schedule(
        cron="0 1 * * *",
        zone="Europe/Berlin",
        deadline="06:00",
        window=Window(opens="30m", closes="05:00"),
    )
    run = utc(2026, 3, 29, 0)  # 01:00 CET, the night of the change
    assert calendar.times(night, run) == (
        run,
        utc(2026, 3, 29, 0, 30),
        utc(2026, 3, 29, 4),
        utc(2026, 3, 29, 3),
    )
    # caught up at noon, its times count from there
    noon = utc(2026, 3, 29, 10)
    assert calendar.times(night, run, noon) == (
        run,
        utc(2026, 3, 29, 10, 30),
        utc(2026, 3, 30, 4),
        utc(2026, 3, 30, 3),
    )
    longer = schedule(cron="0 1 * * *", deadline="5h30m", retry=Retry(drop_dead_s=86_400))
    assert calendar.times(longer, run) == (run, run, utc(2026, 3, 29, 5, 30), utc(2026, 3, 30))


def test_a_deadline_at_a_time_that_does_not_exist() -> None:
    night = schedule(cron="0 1 * * *", zone="Europe/Berlin", deadline="02:30")
    assert calendar.times(night, utc(2026, 3, 29, 0)).deadline == utc(2026, 3, 29, 1)


def test_the_newest_of_many_missed_runs() -> None:
    minutely = schedule(cron="* * * * *")
    assert calendar.latest(minutely, utc(2020, 1, 1), utc(2026, 1, 1, 0, 0, 30)) == utc(2026, 1, 1)
    yearly = schedule(cron="0 0 1 1 *")
    assert calendar.latest(yearly, utc(2020, 1, 1), utc(2026, 7, 1)) == utc(2026, 1, 1)
    assert calendar.latest(yearly, utc(2026, 1, 1), utc(2026, 7, 1)) == utc(2026, 1, 1)


NIGHT = {"cron": "0 1 * * *", "deadline": "06:00"}


@pytest.mark.parametrize(
    ("told", "pointer", "says"),
    [
        ({"cron": "61 * * * *"}, "/cron", "bad minute"),
        ({"cron": "0 0 30 2 *"}, "/cron", "bad day-of-month"),
        ({"cron": "0 0 31 2,4,6 *"}, "/cron", "bad day-of-month"),
        ({"cron": "0 0 * * * *"}, "/cron", "6 fields"),
        ({"cron": "nightly"}, "/cron", "1 fields"),
        ({"cron": ""}, "/cron", "0 fields"),
        (NIGHT | {"window": Window(opens="07:00")}, "/window/opens", "after its deadline"),
        (NIGHT | {"window": Window(opens="5h")}, "/window/opens", "after its deadline"),
        (NIGHT | {"window": Window(closes="06:01")}, "/window/closes", "after its deadline"),
        (NIGHT | {"window": Window(opens="03:00", closes="2h")}, "/window/closes", "before it opens"),
        (
            NIGHT | {"window": Window(opens="3h"), "retry": Retry(drop_dead_s=3600)},
            "/retry/drop_dead_s", "drop-dead",
        ),
        (
            {"every_min": 15, "deadline": "06:00", "window": Window(opens="02:00")},
            "/window/opens", "after its deadline",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place(told: dict[str, Any], pointer: str, says: str) -> None:
    (wrong,) = check_times(schedule(**told), SPRING)
    assert wrong.pointer == pointer
    assert says in wrong.reason


def test_a_window_that_one_night_of_the_year_has_no_room_is_found() -> None:
    # 01:00 + 4 h 30 min is 06:30 in the night of the change alone
    night = schedule(cron="0 1 * * *", zone="Europe/Berlin", window=Window(opens="4h30m"), deadline="06:00")
    (wrong,) = check_times(night, utc(2026, 11, 1))
    assert "2027-03-28" in wrong.reason
    told = calendar.times(night, utc(2027, 3, 28, 0))
    assert told.opens == told.run, "and if it happens all the same, there is time"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "Asia/Kolkata"])
def test_sensible_schedules_pass(zone: str) -> None:
    for told in ({"cron": "0 1 * * *", "deadline": "06:00"}, {"cron": "0 0 29 2 *"}, {"every_min": 1}):
        assert check_times(schedule(zone=zone, **told), SPRING) == []


@pytest.mark.parametrize(
    "told",
    [
        {}, {"cron": "0 1 * * *", "every_min": 15}, {"every_min": 0}, {"every_min": 527_041},
        {"every_min": 1, "zone": "Europe/Atlantis"}, {"every_min": 1, "zone": "../etc/passwd"},
        {"every_min": 1, "priority": 10}, {"every_min": 1, "priority": -1}, {"every_min": 1, "works": ()},
        {"every_min": 1, "name": "a/b"}, {"every_min": 1, "name": ""}, {"every_min": 1, "name": "a\0"},
        *({"every_min": 1, "deadline": told} for told in ("25:00", "6:00", "", "0m", "367d", "-5m", "5")),
        {"every_min": 1, "colour": "red"},
    ],
)  # fmt: skip
def test_shapes_that_are_none(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schedule(**told)
