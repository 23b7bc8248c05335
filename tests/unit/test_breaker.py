"""Circuit breakers: what opens them, who may probe, and what they forget."""

import contextlib
import datetime as dt
from dataclasses import dataclass, field

import pytest

from headend.links.breaker import Breakers, Policy
from headend.links.opened import BreakerOpen, Kind, State, Subject
from protocols.errors import LinkError
from schemas.failure import OF_THE_LINK, Stage

STATION = Subject(Kind.STATION, "5")
METER = Subject(Kind.METER, "1")


def meter(meter_id: int) -> Subject:
    return Subject(Kind.METER, str(meter_id))


@dataclass
class House:
    """Breakers on a clock that is moved, with intervals that are drawn as long as they can be."""

    policy: Policy = field(default_factory=Policy)
    most: int = 1000
    now: dt.datetime = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    bounds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breakers = Breakers(self.policy, now=lambda: self.now, draw=self.draw, most=self.most)

    def draw(self, bound: float) -> float:
        self.bounds.append(bound)
        return bound

    def wait(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)

    def fail(
        self,
        stage: Stage,
        meter_id: int = 1,
        behind: Subject | None = None,
        times: int = 1,
        took_s: float = 0,
    ) -> None:
        for _ in range(times):
            attempt = self.breakers.admit(meter(meter_id), behind)
            self.breakers.failed(attempt, stage, "no answer", took_s=took_s)

    def answer(self, meter_id: int = 1, behind: Subject | None = None) -> None:
        self.breakers.answered(self.breakers.admit(meter(meter_id), behind))

    def state(self, subject: Subject = METER) -> State:
        return self.breakers.state(subject)


def test_failures_in_a_row_open_it_and_say_why() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=2)
    assert house.state() is State.CLOSED
    house.fail(Stage.TIMEOUT)
    assert house.state() is State.OPEN
    with pytest.raises(BreakerOpen) as refused:
        house.breakers.admit(meter(1), None)
    assert isinstance(refused.value, LinkError)
    assert (refused.value.stage, refused.value.since) == (Stage.TIMEOUT, house.now)
    assert refused.value.until == house.now + dt.timedelta(seconds=300)
    assert "meter 1 has not answered since 2026-03-01 00:00:00Z (no answer)" in str(refused.value)


def test_an_answer_in_between_begins_anew() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=2)
    house.answer()
    house.fail(Stage.TIMEOUT, times=2)
    assert house.state() is State.CLOSED


@pytest.mark.parametrize("stage", list(Stage))
def test_only_failures_of_the_link_open_it(stage: Stage) -> None:
    house = House()
    house.fail(stage, times=3)
    assert (house.state() is State.OPEN) == (stage in OF_THE_LINK)


@pytest.mark.parametrize("stage", [Stage.ASSOCIATION, Stage.ACCESS, Stage.CIPHER, Stage.DECODE])
def test_a_refusal_is_an_answer(stage: Stage) -> None:
    house = House()
    house.fail(Stage.TIMEOUT, behind=STATION, times=2)
    house.fail(stage, behind=STATION)
    assert len(house.breakers) == 0


def test_one_probe_when_its_time_has_come_and_the_next_at_twice_the_interval() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=3)
    house.wait(300)
    probe = house.breakers.admit(meter(1), None)
    assert probe.is_probe
    assert house.state() is State.HALF_OPEN
    with pytest.raises(BreakerOpen):
        house.breakers.admit(meter(1), None)
    house.breakers.failed(probe, Stage.TIMEOUT, "no answer")
    assert house.state() is State.OPEN
    house.wait(599)
    with pytest.raises(BreakerOpen) as refused:
        house.breakers.admit(meter(1), None)
    assert refused.value.since == dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    house.wait(1)
    house.answer()
    assert len(house.breakers) == 0


def test_intervals_grow_to_the_longest_and_each_is_drawn() -> None:
    house = House(Policy(first_s=10, longest_s=75))
    house.fail(Stage.TIMEOUT, times=3)
    for _ in range(5):
        house.wait(75)
        house.fail(Stage.TIMEOUT)
    assert house.bounds == [10, 20, 40, 75, 75, 75]


def test_the_draw_is_full_jitter() -> None:
    now = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    breakers = Breakers(now=lambda: now)
    until = []
    for meter_id in range(400):
        for _ in range(3):
            breakers.failed(breakers.admit(meter(meter_id), None), Stage.TIMEOUT, "")
        opened = breakers.opened(Subject(Kind.METER, str(meter_id)))
        assert opened is not None
        until.append((opened.until - now).total_seconds())
    assert min(until) < 30
    assert max(until) > 270
    assert 120 < sum(until) / len(until) < 180


def test_a_person_may_force_a_probe() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=3)
    probe = house.breakers.admit(meter(1), None, force=True)
    house.breakers.answered(probe)
    assert house.state() is State.CLOSED


def test_a_cancelled_probe_is_as_if_it_had_not_been() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=3)
    house.wait(300)
    house.breakers.abandoned(house.breakers.admit(meter(1), None))
    assert house.state() is State.OPEN
    assert house.breakers.admit(meter(1), None).is_probe


def test_a_probe_that_never_left_is_as_if_it_had_not_been() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=3)
    house.wait(300)
    house.fail(Stage.SETTINGS)
    assert house.state() is State.OPEN
    assert house.breakers.admit(meter(1), None).is_probe


# ---- what meters are behind -----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.DNS, Stage.CONNECT])
def test_a_station_that_cannot_be_reached_is_one_failure_and_not_its_meters(stage: Stage) -> None:
    house = House()
    for meter_id in (1, 2, 3):
        house.fail(stage, meter_id, STATION)
    assert house.state(STATION) is State.OPEN
    assert len(house.breakers) == 1
    with pytest.raises(BreakerOpen, match="station 5 has not answered"):
        house.breakers.admit(meter(4), STATION)


def test_a_gateways_no_is_of_the_meter_and_the_station_has_answered() -> None:
    house = House()
    house.fail(Stage.CONNECT, 2, STATION, times=2)
    house.fail(Stage.GATEWAY, 1, STATION, times=3)
    assert house.state(METER) is State.OPEN
    house.fail(Stage.CONNECT, 2, STATION, times=2)
    assert house.state(STATION) is State.CLOSED


def test_many_meters_that_fall_silent_are_their_station() -> None:
    house = House(Policy(silent=4))
    for meter_id in (1, 2, 3, 4):
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    assert house.state(STATION) is State.OPEN
    assert len(house.breakers) == 1, "of the meters nothing is known"


def test_an_answer_among_them_shows_that_it_is_not_the_station() -> None:
    house = House(Policy(silent=4))
    for meter_id in (1, 2, 3):
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    house.answer(9, STATION)
    for meter_id in (4, 5, 6):
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    assert house.state(STATION) is State.CLOSED


def test_dead_meters_that_are_tried_again_do_not_shut_their_station() -> None:
    house = House(Policy(silent=4))
    for meter_id in range(10, 20):  # the living are read in between
        house.fail(Stage.TIMEOUT, meter_id, STATION)
        house.answer(1, STATION)
    for _ in range(2):  # only the dead are left of the round
        for meter_id in range(10, 20):
            house.fail(Stage.TIMEOUT, meter_id, STATION)
    assert house.state(STATION) is State.CLOSED
    house.wait(300)
    for meter_id in range(10, 20):  # and they are probed one after another
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    assert house.state(STATION) is State.CLOSED
    assert house.state(Subject(Kind.METER, "10")) is State.OPEN


def test_a_silent_meter_is_not_the_first_to_probe_its_station() -> None:
    house = House(Policy(silent=2))
    for meter_id in (1, 2):
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    house.wait(300)
    with pytest.raises(BreakerOpen):
        house.breakers.admit(meter(1), STATION)
    house.answer(3, STATION)
    assert house.state(STATION) is State.CLOSED


def test_where_all_are_silent_one_of_them_probes_later() -> None:
    house = House(Policy(silent=2))
    for meter_id in (1, 2):
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    house.wait(600)
    house.answer(2, STATION)
    assert house.state(STATION) is State.CLOSED


def test_a_probe_in_vain_leaves_a_silent_station_open_and_its_meter_unjudged() -> None:
    house = House(Policy(silent=2))
    for meter_id in (1, 2):
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    house.wait(300)
    house.fail(Stage.TIMEOUT, 3, STATION)
    assert house.state(STATION) is State.OPEN
    assert house.state(Subject(Kind.METER, "3")) is State.CLOSED
    assert house.bounds == [300, 600]


def test_a_station_that_takes_the_connection_again_is_back() -> None:
    house = House()
    house.fail(Stage.CONNECT, 1, STATION, times=3)
    house.wait(300)
    house.fail(Stage.TIMEOUT, 1, STATION)
    assert house.state(STATION) is State.CLOSED


def test_a_meters_probe_that_does_not_reach_the_station_says_nothing_of_it() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, 1, STATION, times=3)
    house.wait(300)
    house.fail(Stage.CONNECT, 1, STATION)
    assert house.state(METER) is State.OPEN
    assert house.breakers.admit(meter(1), STATION).is_probe


def test_probes_have_a_tenth_of_a_stations_time() -> None:
    house = House()
    for meter_id in (1, 2, 3):
        house.fail(Stage.TIMEOUT, meter_id, STATION, times=3)
    house.wait(300)
    house.fail(Stage.TIMEOUT, 1, STATION, took_s=10)
    house.wait(89)
    with pytest.raises(BreakerOpen) as refused:
        house.breakers.admit(meter(2), STATION)
    assert refused.value.until == house.now + dt.timedelta(seconds=1)
    house.answer(4, STATION)  # no probe, and not held
    house.wait(1)
    assert house.breakers.admit(meter(2), STATION).is_probe


def test_there_is_one_probe_at_a_time_behind_a_station() -> None:
    house = House()
    for meter_id in (1, 2):
        house.fail(Stage.TIMEOUT, meter_id, STATION, times=3)
    house.wait(300)
    first = house.breakers.admit(meter(1), STATION)
    with pytest.raises(BreakerOpen):
        house.breakers.admit(meter(2), STATION)
    house.breakers.answered(first)
    assert house.breakers.admit(meter(2), STATION).is_probe


def test_a_forced_probe_does_not_wait_for_its_share() -> None:
    house = House()
    for meter_id in (1, 2):
        house.fail(Stage.TIMEOUT, meter_id, STATION, times=3)
    house.wait(300)
    house.fail(Stage.TIMEOUT, 1, STATION, took_s=10)
    assert house.breakers.admit(meter(2), STATION, force=True).is_probe


# ---- whose time has come --------------------------------------------------------------------------------


def test_meters_are_due_for_a_probe_when_their_interval_is_over() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, 1, times=3)
    house.wait(200)
    house.fail(Stage.TIMEOUT, 2, times=3)
    assert house.breakers.due(10) == []
    house.wait(100)
    assert house.breakers.due(10) == [1]
    house.wait(200)
    assert house.breakers.due(10) == [1, 2]
    assert house.breakers.due(1) == [1]
    house.breakers.admit(meter(1), None)
    assert house.breakers.due(10) == [2]


def test_behind_a_station_one_meter_is_due_and_none_while_it_rests() -> None:
    house = House()
    for meter_id in (1, 2, 3):
        house.fail(Stage.TIMEOUT, meter_id, STATION, times=3)
    house.wait(300)
    for meter_id in (1, 2, 3):
        with contextlib.suppress(BreakerOpen):
            attempt = house.breakers.admit(meter(meter_id), STATION)
    assert house.breakers.due(10) == []  # one is under way
    house.breakers.failed(attempt, Stage.TIMEOUT, "", took_s=10)
    assert house.breakers.due(10) == []
    house.wait(90)
    assert house.breakers.due(10) == [2]


def test_a_station_is_due_by_the_meter_that_shut_it() -> None:
    house = House()
    house.fail(Stage.CONNECT, 7, STATION, times=3)
    house.wait(300)
    assert house.breakers.due(10) == [7]


def test_a_station_that_fell_silent_is_due_by_a_meter_of_it() -> None:
    house = House(Policy(silent=2))
    for meter_id in (1, 2):
        house.fail(Stage.TIMEOUT, meter_id, STATION)
    house.wait(300)
    assert house.breakers.due(10) == [2]


# ---- memory ---------------------------------------------------------------------------------------------


def test_what_answers_is_forgotten_and_what_does_not_is_bounded() -> None:
    house = House(most=10)
    for meter_id in range(100):
        house.answer(meter_id)
    assert len(house.breakers) == 0
    for meter_id in range(100):
        house.fail(Stage.TIMEOUT, meter_id)
    assert len(house.breakers) == 10


def test_a_reset_closes_and_tells_whether_it_was_open() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=3)
    assert house.breakers.reset(METER)
    assert not house.breakers.reset(METER)
    assert house.state() is State.CLOSED
    house.answer()


def test_what_was_stored_is_open_again_and_its_intervals_go_on() -> None:
    before = House()
    before.fail(Stage.TIMEOUT, times=3)
    opened = before.breakers.opened(METER)
    assert opened is not None
    after = House()
    after.breakers.restore(METER, opened, probes=2)
    with pytest.raises(BreakerOpen):
        after.breakers.admit(meter(1), None)
    after.wait(300)
    after.fail(Stage.TIMEOUT)
    assert after.bounds == [2400]


def test_what_changed_is_told_for_the_store() -> None:
    house = House()
    house.fail(Stage.TIMEOUT, times=2)
    assert not house.breakers.changed
    house.fail(Stage.TIMEOUT)
    assert set(house.breakers.changed) == {METER}
    house.breakers.changed.clear()
    house.wait(300)
    house.answer()
    assert set(house.breakers.changed) == {METER}
