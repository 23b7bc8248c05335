"""When a clock is changed, how, and whether a change that nobody heard of was made."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.drivers.contract import Curve, Recall
from headend.programs.clocks.policy import Shown, Verdict, is_of_now, moment, shift_of, took_effect, verdict
from schemas.clock import ClockReading
from schemas.programs.clock import ClockProgram

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUARTERS = Curve(1, 900, Recall.STORED)
DAYS = Curve(2, 86_400, Recall.STORED, ZoneInfo("Europe/Berlin"))
MARGIN = timedelta(seconds=60)


def reading(offset_s: float, uncertainty_s: float = 1.0, at: datetime = NOON) -> ClockReading:
    return ClockReading(at, timedelta(seconds=offset_s), timedelta(seconds=uncertainty_s))


@pytest.mark.parametrize(
    ("offset_s", "uncertainty_s", "wanted"),
    [
        (0, 1, Verdict.LEAVE),
        (-6, 1, Verdict.LEAVE),  # it may be 5
        (6.1, 1, Verdict.SHIFT),
        (-60, 1, Verdict.SHIFT),
        (60.5, 1, Verdict.SET),
        (400, 399, Verdict.LEAVE),  # behind so long a round trip nobody knows
    ],
)
def test_thresholds_are_of_what_is_beyond_doubt(offset_s: float, uncertainty_s: float, wanted: Verdict):
    assert verdict(ClockProgram(), reading(offset_s, uncertainty_s)) is wanted


def test_a_shift_is_of_whole_seconds_against_the_offset():
    assert shift_of(reading(-42.4)) == timedelta(seconds=42)
    assert shift_of(reading(7.6)) == timedelta(seconds=-8)


@pytest.mark.parametrize(("now_s", "wanted"), [(0.4, True), (42.2, False), (21, None), (100, None)], ids=str)
def test_a_change_that_nobody_heard_of(now_s: float, wanted: bool | None):
    later = NOON + timedelta(minutes=5)
    assert took_effect(reading(42), timedelta(0), reading(now_s, at=later)) is wanted


def test_a_small_change_cannot_be_told_behind_a_long_pause():
    later = NOON + timedelta(days=2)  # a drift of 500 ppm is 86 s
    assert took_effect(reading(42), timedelta(0), reading(0, at=later)) is None


@given(
    at_s=st.integers(0, 86_399),
    offset_s=st.floats(-7200, 7200),
    uncertainty_s=st.floats(0, 30),
    days=st.booleans(),
)
def test_the_boundaries_are_kept_clear(at_s: int, offset_s: float, uncertainty_s: float, days: bool):
    now = NOON + timedelta(seconds=at_s)
    found = reading(offset_s, uncertainty_s)
    curves = [QUARTERS, DAYS] if days else [QUARTERS]
    at = moment(now, [Shown(found, curves)], MARGIN)
    margin = MARGIN + found.uncertainty
    assert at is not None
    assert now <= at <= now + timedelta(hours=3)
    epoch, period = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=900)
    before, after = (at + found.offset - epoch) // period, (at - epoch) // period
    for shown in (at, at + found.offset):
        into = (shown - epoch) % period
        assert margin <= into <= period - margin
    if abs(found.offset) + 2 * margin < period:
        assert before == after


def test_a_change_need_not_wait_where_no_boundary_is_near():
    at = NOON + timedelta(minutes=7)
    assert moment(at, [Shown(reading(-30), [QUARTERS])], MARGIN) == at
    assert moment(NOON, [Shown(reading(-30), [])], MARGIN) == NOON
    near = NOON + timedelta(minutes=14, seconds=30)
    assert moment(near, [Shown(reading(-30), [QUARTERS])], MARGIN) == NOON + timedelta(minutes=16, seconds=31)
    sampled = Curve(1, 900, Recall.SAMPLED)
    assert moment(near, [Shown(reading(-30), [sampled])], MARGIN) == near


@given(
    at_s=st.integers(0, 86_399),
    offsets_s=st.lists(st.floats(-300, 300), min_size=1, max_size=8),
    uncertainty_s=st.floats(0, 10),
)
def test_a_line_is_told_when_it_is_clear_for_all(at_s: int, offsets_s: list[float], uncertainty_s: float):
    now = NOON + timedelta(seconds=at_s)
    line = [Shown(reading(offset_s, uncertainty_s), [QUARTERS]) for offset_s in offsets_s]
    at = moment(now, line, MARGIN)
    assert at is not None
    assert now <= at <= now + timedelta(minutes=15)
    epoch, period, margin = (
        datetime(1970, 1, 1, tzinfo=UTC),
        timedelta(minutes=15),
        MARGIN + line[0][0].uncertainty,
    )
    for one in line:
        for shown in (at, at + one.reading.offset):
            assert margin <= (shown - epoch) % period <= period - margin
        assert (at + one.reading.offset - epoch) // period == (at - epoch) // period


def test_there_may_be_no_moment_at_all():
    minutes = Curve(1, 60, Recall.STORED)
    assert moment(NOON, [Shown(reading(-30), [minutes])], MARGIN) is None
    fives = Curve(1, 300, Recall.STORED)
    assert moment(NOON, [Shown(reading(off), [fives]) for off in (0, 100, 200)], MARGIN) is None


def test_what_was_stored_is_all_until_an_interval_of_the_meter_ends():
    slow = reading(-120, at=NOON + timedelta(minutes=1))  # it shows 11:59
    at_noon = NOON + timedelta(seconds=119), NOON + timedelta(minutes=2)
    assert [is_of_now(slow, at, [QUARTERS]) for at in at_noon] == [True, False]
    assert not is_of_now(reading(0, at=NOON), NOON + timedelta(minutes=16), [])
