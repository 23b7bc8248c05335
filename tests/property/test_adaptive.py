"""Limits that are found by round trips, against media that are simulated: no clock, no waiting.

A medium serves some requests at once, each for a while, and the others queue. Conversations of eight round
trips each keep as many under way as the limit allows to whoever comes.
"""

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from headend.links.adaptive import Adaptive
from headend.links.limits import KIND_SLACK_S, SLACK, SLACK_S, STATION_SLACK, STATION_SLACK_S
from headend.links.permits import for_all

TRIPS = 8
Draw = Callable[[], float]


class Ran(NamedTuple):
    ended: list[float]  # when each conversation ended
    limits: list[int]  # what the limit was then
    round_trips_s: list[float]

    def rate(self) -> float:
        """Conversations in a second, over the second half."""
        half = len(self.ended) // 2
        return (len(self.ended) - half) / (self.ended[-1] - self.ended[half - 1])

    def settled(self) -> list[int]:
        return self.limits[len(self.limits) // 2 :]


def run(
    limit: Adaptive, servers: int, service_s: Draw, conversations: int, wire_s: Draw = lambda: 0.0
) -> Ran:
    """``wire_s`` is drawn once for each conversation: what its way adds to each of its round trips."""
    free = [0.0] * servers
    asked: list[tuple[float, int, int, float, float]] = []
    now, number, under_way = 0.0, 0, 0
    ran = Ran([], [], [])
    while len(ran.ended) < conversations:
        while under_way < for_all(limit.limit):
            number, under_way = number + 1, under_way + 1
            heapq.heappush(asked, (now, number, TRIPS, 0.0, wire_s()))
        now, who, left, took_s, wire = heapq.heappop(asked)
        if left:
            answered = max(heapq.heappop(free), now) + service_s()
            heapq.heappush(free, answered)
            took_s += answered - now + wire
            heapq.heappush(asked, (answered + wire, who, left - 1, took_s, wire))
            continue
        ran.ended.append(now)
        ran.limits.append(limit.limit)
        ran.round_trips_s.append(took_s / TRIPS)
        limit.answered(took_s / TRIPS, under_way)
        under_way -= 1
    return ran


def station(most: int = 16) -> Adaptive:
    return Adaptive(most, first=2, slack_s=STATION_SLACK_S, slack=STATION_SLACK)


def kind(most: int = 256, slack_s: float = KIND_SLACK_S) -> Adaptive:
    return Adaptive(most, first=4, slack_s=slack_s, slack=SLACK)


seeds = st.integers(0, 2**32)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, servers=st.integers(1, 8), mean_s=st.floats(0.5, 30))
def test_on_a_slow_shared_medium_it_comes_to_about_its_capacity(
    seed: int, servers: int, mean_s: float
) -> None:
    draw = random.Random(seed)
    limit = station()
    ran = run(limit, servers, lambda: draw.uniform(0.4, 1.6) * mean_s, 800)
    assert ran.rate() >= 0.85 * servers / mean_s / TRIPS
    settled = ran.settled()
    assert sum(settled) / len(settled) <= 2.5 * servers + 2
    assert limit.floor_s is not None
    assert 0.8 * mean_s < limit.floor_s < 2 * mean_s


@settings(max_examples=10, deadline=None)
@given(seed=seeds, mean_s=st.floats(0.0005, 5), unlike=st.booleans())
def test_a_medium_with_room_for_all_is_not_starved(seed: int, mean_s: float, unlike: bool) -> None:
    draw = random.Random(seed)

    def wire_s() -> float:
        return draw.choice((0, 1, 2, 3)) * mean_s if unlike else 0.0  # meters that are hops apart

    limit = kind()
    run(limit, 1000, lambda: draw.uniform(0.4, 1.6) * mean_s, 4_000, wire_s)
    assert limit.limit >= 128
    few = station(4)
    ran = run(few, 1000, lambda: draw.uniform(0.4, 1.6) * mean_s, 400)
    assert sum(ran.settled()) >= 0.95 * 4 * len(ran.settled())


@settings(max_examples=10, deadline=None)
@given(seed=seeds, cpu_s=st.floats(0.0001, 0.0005), wire_s=st.floats(0, 0.005))
def test_a_process_without_time_to_spare_keeps_its_rate_and_its_answers_soon(
    seed: int, cpu_s: float, wire_s: float
) -> None:
    draw = random.Random(seed)
    ran = run(kind(1000, SLACK_S), 1, lambda: draw.expovariate(1 / cpu_s), 10_000, lambda: wire_s / 2)
    assert ran.rate() >= 0.95 / cpu_s / TRIPS
    late = sorted(ran.round_trips_s[5_000:])
    assert late[int(len(late) * 0.95)] < wire_s + 0.02


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_what_becomes_slow_without_us_is_asked_as_much_again_soon(seed: int) -> None:
    draw = random.Random(seed)
    limit = kind()
    run(limit, 1000, lambda: draw.uniform(0.1, 0.4), 4_000)
    run(limit, 1000, lambda: draw.uniform(0.4, 1.6), 8_000)
    assert limit.limit > 64
    behind = station(4)
    run(behind, 1000, lambda: draw.uniform(2, 8), 200)
    ran = run(behind, 1000, lambda: draw.uniform(6, 24), 400)
    assert sum(ran.settled()) >= 0.8 * 4 * len(ran.settled())


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_medium_that_loses_its_capacity_is_asked_less(seed: int) -> None:
    draw = random.Random(seed)
    limit = kind()
    run(limit, 1000, lambda: draw.uniform(0.1, 0.4), 4_000)
    ran = run(limit, 4, lambda: draw.uniform(0.1, 0.4), 8_000)
    assert max(ran.settled()) <= 24


@given(data=st.data(), most=st.integers(1, 300), first=st.integers(1, 8))
def test_it_stays_between_one_and_its_bound(data: st.DataObject, most: int, first: int) -> None:
    limit = Adaptive(most, first=first, slack_s=0.01, slack=1.0)
    for _ in range(data.draw(st.integers(0, 12))):
        seconds = data.draw(st.floats(0, 1e6))
        floor_s = data.draw(st.none() | st.floats(0, 1e6))
        used = data.draw(st.integers(1, 400))
        what = data.draw(st.sampled_from(("answered", "timed out", "unmeasured")))
        for _ in range(data.draw(st.integers(1, 700))):
            if what == "answered":
                limit.answered(seconds, used, floor_s)
            elif what == "timed out":
                limit.timed_out(used)
            else:
                limit.unmeasured(used)
            assert 1 <= limit.limit <= most


def test_a_third_of_time_outs_is_too_many_and_a_tenth_is_not() -> None:
    some, many = station(8), station(8)
    for number in range(400):
        for limit, every in ((some, 10), (many, 3)):
            if number % every == 0:
                limit.timed_out(limit.limit)
            else:
                limit.answered(0.2 + number % 3 * 0.01, limit.limit)
    assert some.limit == 8
    assert many.limit < 4


def test_time_outs_at_the_very_first_leave_one() -> None:
    limit = station(8)
    for _ in range(200):
        limit.timed_out(limit.limit)
    assert limit.limit == 1
    for _ in range(200):
        limit.answered(1.0, limit.limit)
    assert limit.limit == 8


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    limit = station(8)
    for _ in range(400):
        limit.answered(1.0, 1)
    assert limit.limit == 4  # the one that was under way is all of two that are for whoever comes
