"""Forecasts and plans of back-fills: pure functions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.completeness.backfill import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MOST_RANGES,
    UNHURRIED,
    due_by,
    make_plan,
    pause,
)
from headend.completeness.forecast import forecast
from headend.completeness.report import window
from headend.store.completeness import Ahead, Group, LanePace, Successes, Work
from headend.store.gaps import DueGap
from schemas.job import CurveRange

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: 9,600 expected, 100 meters: 80 are there.
NOW = Group(None, 100, 20, 9600, 7680, 0, 1920)


def work(*ahead: Ahead, pace: tuple[LanePace, ...], successes: tuple[Successes, ...]) -> Work:
    return Work(T0 + 6 * HOUR, ahead, pace, successes)


def test_lanes_that_are_done_in_time_bring_what_their_attempts_usually_bring() -> None:
    told = work(
        Ahead("lot:0", 1, 2, 20, 1920),
        pace=(LanePace("lot:0", 60, 600.0),),
        successes=(Successes(1, 100, 80), Successes(2, 20, 10)),
    )
    # a first attempt of 80 %, then half of what is left
    assert forecast(NOW, told, left_s=3600).intervals == 7680 + round(1920 * 0.9)
    # in 100 s ten of the twenty are served
    assert forecast(NOW, told, left_s=100).intervals == 7680 + round(1920 * 0.9 / 2)
    assert forecast(NOW, told, left_s=0).intervals == 7680


def test_a_slow_lane_is_not_averaged_away() -> None:
    told = work(
        Ahead("station:1", 1, 1, 10, 960),
        Ahead("lot:0", 1, 1, 10, 960),
        pace=(LanePace("station:1", 6, 600.0), LanePace("lot:0", 6000, 600.0)),
        successes=(Successes(1, 100, 100),),
    )
    assert forecast(NOW, told, left_s=100).intervals == 7680 + 960 + 96


def test_a_lane_that_settled_nothing_yet_is_as_fast_as_others() -> None:
    told = work(
        Ahead("lot:1", 1, 1, 100, 1920),
        pace=(LanePace("lot:0", 100, 100.0), LanePace("lot:1", 0, 100.0)),
        successes=(Successes(1, 100, 100),),
    )
    assert forecast(NOW, told, left_s=100).intervals == 7680 + 960


def test_the_last_attempt_counts_as_the_one_before_it_where_it_was_seldom_made() -> None:
    told = work(
        Ahead("lot:0", 3, 3, 20, 1920),
        pace=(LanePace("lot:0", 60, 1.0),),
        successes=(Successes(1, 100, 80), Successes(2, 20, 5), Successes(3, 2, 2)),
    )
    assert forecast(NOW, told, left_s=3600).intervals == 7680 + 480


def test_nothing_is_foretold_of_too_little() -> None:
    ahead = Ahead("lot:0", 1, 1, 20, 1920)
    few = work(ahead, pace=(LanePace("lot:0", 9, 60.0),), successes=(Successes(1, 29, 29),))
    still = work(ahead, pace=(LanePace("lot:0", 0, 60.0),), successes=(Successes(1, 99, 29),))
    for told, reason in (
        (None, "no run of a schedule is under way"),
        (few, "too little is known yet: 29 attempts of 30"),
        (still, "too little is known yet: no lane has settled a request"),
    ):
        said = forecast(NOW, told, left_s=3600)
        assert (said.intervals, said.ratio, said.reason) == (None, None, reason)
    done = work(pace=(), successes=())
    assert forecast(NOW, done, left_s=3600).ratio == 0.8


@given(
    st.lists(st.builds(Ahead, st.sampled_from("abc"), st.integers(1, 5), st.integers(1, 5),
                       st.integers(1, 99), st.integers(0, 2000)), min_size=1, max_size=6),
    st.lists(st.builds(LanePace, st.sampled_from("abc"), st.integers(0, 99), st.floats(0, 900)), max_size=3),
    st.lists(st.integers(0, 60).flatmap(
        lambda good: st.builds(Successes, st.integers(1, 5), st.just(60), st.just(good))), max_size=4,
             unique_by=lambda one: one.attempt),
    st.floats(0, 86400), st.floats(0, 86400),
)  # fmt: skip
def test_a_forecast_lies_between_now_and_everything_and_grows_with_time(
    ahead: list[Ahead], pace: list[LanePace], successes: list[Successes], one: float, other: float
) -> None:
    told = Work(T0, tuple(ahead), tuple(pace), tuple(successes))
    early, late = (forecast(NOW, told, left_s=left_s) for left_s in sorted((one, other)))
    assert (early.intervals is None) == (late.intervals is None)
    if early.intervals is not None and late.intervals is not None:
        assert NOW.present <= early.intervals <= late.intervals <= NOW.present + NOW.open


@pytest.mark.parametrize("tries", [0, 1, 5, 40])
def test_pauses_double_within_their_bounds_and_are_drawn(tries: int) -> None:
    bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 10))
    assert pause(tries, lambda: 0.0) == bound / 2
    assert pause(tries, lambda: 1.0) == bound


def test_what_wraps_soon_is_due_then_and_all_else_unhurried() -> None:
    assert due_by(None, T0) == T0 + UNHURRIED
    assert due_by(T0 + 365 * DAY, T0) == T0 + UNHURRIED
    assert due_by(T0 + 3 * HOUR + timedelta(minutes=59), T0) == T0 + 3 * HOUR
    assert due_by(T0 - DAY, T0) == T0


def gap(number: int, meter: int, *ranges: tuple[int, int], wraps: int | None = None) -> DueGap:
    at = [(T0 + a * HOUR, T0 + b * HOUR) for a, b in ranges]
    return DueGap(number, meter, 1, tuple(at), None if wraps is None else T0 + wraps * HOUR, 0)


def test_gaps_of_a_meter_are_one_request_that_is_due_with_the_first_of_them() -> None:
    now = T0 + DAY
    plan = make_plan(
        [gap(1, 7, (0, 2), wraps=30), gap(2, 7, (4, 5), (6, 7)), gap(3, 8, (0, 1))], now, keeps={}
    )
    assert set(plan.taken) == {1, 2, 3}
    assert set(plan.works) == {now + 6 * HOUR, now + UNHURRIED}
    assert plan.works[now + 6 * HOUR] == {
        7: tuple(
            CurveRange(profile=1, since=T0 + a * HOUR, until=T0 + b * HOUR)
            for a, b in ((0, 2), (4, 5), (6, 7))
        )
    }


def test_a_request_has_so_many_ranges_and_the_rest_has_its_turn_later() -> None:
    holes = [(2 * n, 2 * n + 1) for n in range(MOST_RANGES)]
    plan = make_plan([gap(1, 7, *holes), gap(2, 7, (50, 51))], T0 + 9 * DAY, keeps={})
    ((_, works),) = plan.works.items()
    assert len(works[7]) == MOST_RANGES
    assert set(plan.taken) == {1}


def test_what_a_concentrator_may_hand_on_is_left_to_it() -> None:
    now = T0 + DAY
    plan = make_plan(
        [gap(1, 7, (0, 2), (5, 9)), gap(2, 8, (20, 22))], now, keeps={7: 18 * HOUR, 8: 18 * HOUR}
    )
    ((_, works),) = plan.works.items()
    assert works == {
        7: (
            CurveRange(profile=1, since=T0, until=T0 + 2 * HOUR),
            CurveRange(profile=1, since=T0 + 5 * HOUR, until=T0 + 6 * HOUR),
        )
    }
    assert plan.postponed == {2: T0 + 22 * HOUR + 18 * HOUR}


def test_a_report_speaks_of_what_came_since_the_run_before() -> None:
    assert window(T0, None) == (T0 - DAY, T0)
    assert window(T0, T0 - 2 * DAY) == (T0 - 2 * DAY, T0)
    assert window(T0, T0 - 90 * DAY) == (T0 - 7 * DAY, T0)
