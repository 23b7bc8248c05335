"""The one door: permits around a conversation, what it teaches, and what dead meters cost the living."""

import asyncio
import contextlib
import datetime as dt
import random
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from headend.drivers.contract import Target
from headend.links.breaker import Breakers
from headend.links.limits import Limits
from headend.links.links import Links
from headend.links.opened import BreakerOpen, Kind, State, Subject
from headend.links.pace import Pace
from headend.links.permits import Urgency
from headend.observe.metrics import Metrics
from headend.session.retry import RetryPolicy, retrying
from protocols.errors import CommunicationError, DataAccessRefused, LinkError, LinkTimeout
from schemas.address import LinkAddress
from schemas.failure import Stage
from schemas.network import NOWHERE, LinkKind, Place

Run = Callable[[Coroutine[Any, Any, Any]], Any]
START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
BEHIND = Place(
    station_id=5, station="C5", link=LinkKind.PLC_NARROWBAND, hops=1, transformer="T1", feeder="F1"
)
STATION = Subject(Kind.STATION, "5")


@dataclass
class FakeWay:
    target: Target
    address: LinkAddress


def way(meter_id: int, place: Place = NOWHERE, address: str = "tcp://192.0.2.1:4059") -> FakeWay:
    meter: Any = SimpleNamespace(meter_id=meter_id, asset_id=f"M{meter_id}", model="test")
    return FakeWay(Target(meter, place), LinkAddress.parse(address))


@dataclass
class FakeConversation:
    answer_s: float
    patience_s: float
    answers_s: list[float] = field(default_factory=list)
    error: CommunicationError | None = None

    async def ask(self) -> None:
        if self.error is not None:
            raise self.error
        if self.answer_s > self.patience_s:
            await asyncio.sleep(self.patience_s)
            raise LinkTimeout("nothing came before the deadline")
        await asyncio.sleep(self.answer_s)
        self.answers_s.append(self.answer_s)


class FakeDriver:
    """Meters that answer after some seconds, or never, or refuse. Opening is the first answer."""

    names = ("fake",)

    def __init__(self) -> None:
        self.answer_s: dict[int, float] = {}
        self.errors: dict[int, CommunicationError] = {}
        self.patience_s: list[float] = []
        self.open_now = 0
        self.most_open = 0
        self.order: list[int] = []

    @asynccontextmanager
    async def open(self, way: Any, *, answer_s: float | None = None) -> AsyncIterator[Any]:
        answer_s = 20.0 if answer_s is None else answer_s
        self.patience_s.append(answer_s)
        meter_id = way.target.meter.meter_id
        self.order.append(meter_id)
        if meter_id in self.errors:
            raise self.errors[meter_id]
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            conversation = FakeConversation(self.answer_s.get(meter_id, 1.0), answer_s)
            await conversation.ask()
            yield conversation
        finally:
            self.open_now -= 1


class House:
    """Links and a fake driver on the loop's clock."""

    def __init__(self, limits: Limits | None = None, seed: int = 1) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.driver: Any = FakeDriver()
        self.metrics = Metrics()
        self.links = Links(
            limits,
            breakers=Breakers(
                now=lambda: START + dt.timedelta(seconds=loop.time() - began),
                draw=partial(random.Random(seed).uniform, 0),
            ),
            pace=Pace(),
            metrics=self.metrics,
        )

    async def talk(self, one: FakeWay, questions: int = 1, **how: Any) -> None:
        async with self.links.conversation(self.driver, one, **how) as conversation:
            for _ in range(questions):
                await conversation.ask()  # type: ignore[attr-defined]

    async def fail(self, one: FakeWay, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(CommunicationError):
                await self.talk(one)

    def counted(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "headend_conversations_total", {"driver": "fake", "outcome": outcome}
        )


# ---- permits --------------------------------------------------------------------------------------------


FOUR_ON_A_BUS = [way(n, address="modbus+tcp://192.0.2.1?unit=1") for n in range(4)]


@pytest.mark.parametrize(
    ("ways", "limits", "most", "for_all"),
    [
        ([way(1), way(1)], Limits(), 1, 1),
        ([way(n) for n in range(30)], Limits(most=20), 20, 18),
        (FOUR_ON_A_BUS, Limits(), 1, 1),
        ([way(n, BEHIND) for n in range(9)], Limits(station=2), 2, 1),
        ([way(n, BEHIND) for n in range(9)], Limits(station=5), 5, 4),
        ([way(n, BEHIND) for n in range(9)], Limits(station=1), 1, 1),
        (
            [way(n, Place(station_id=n, transformer="T1", feeder="F1")) for n in range(9)],
            Limits(cell=3),
            3,
            2,
        ),
        ([way(n, Place(station_id=n, feeder="F1")) for n in range(9)], Limits(cell=3), 3, 2),
        (
            [way(n, Place(link=LinkKind.ZIGBEE)) for n in range(9)],
            Limits(kinds={LinkKind.ZIGBEE: 4}),
            4,
            3,
        ),
        ([way(n, Place(link=LinkKind.WIFI)) for n in range(9)], Limits(kinds={LinkKind.ZIGBEE: 4}), 9, 9),
    ],
)
def test_no_more_at_once_than_each_limit_allows_and_the_last_ones_are_for_people(
    run_virtual: Run, ways: list[FakeWay], limits: Limits, most: int, for_all: int
) -> None:
    async def main() -> tuple[int, int]:
        house = House(limits)
        for _ in range(40):  # limits grow while nothing speaks against it
            await asyncio.gather(*(house.talk(one) for one in ways))
        scheduled, house.driver.most_open = house.driver.most_open, 0
        await asyncio.gather(*(house.talk(one, urgency=Urgency.ON_DEMAND) for one in ways))
        assert len(house.links.permits) == 0
        return house.driver.most_open, scheduled

    assert run_virtual(main()) == (most, for_all)


def test_a_person_does_not_wait_where_bulk_work_has_taken_all_it_may(run_virtual: Run) -> None:
    async def main() -> list[float]:
        house = House(Limits(most=64))
        loop = asyncio.get_running_loop()
        ways = [way(n, Place(station_id=n % 3, link=LinkKind.WIFI, feeder="F")) for n in range(600)]
        bulk = [asyncio.create_task(house.talk(one, questions=9)) for one in ways]
        waits = []
        for number in range(40):
            await asyncio.sleep(7)
            began = loop.time()
            mine = way(1000 + number, Place(station_id=number % 3, link=LinkKind.WIFI, feeder="F"))
            await house.talk(mine, urgency=Urgency.ON_DEMAND, force=True)
            waits.append(loop.time() - began - 2.0)  # opening and one question take a second each
        assert not bulk[-1].done()
        await asyncio.gather(*bulk)
        return waits

    assert max(run_virtual(main())) == pytest.approx(0)


def test_a_person_is_served_next(run_virtual: Run) -> None:
    async def main() -> list[int]:
        house = House(Limits(station=1))
        scheduled = [asyncio.create_task(house.talk(way(n, BEHIND))) for n in range(3)]
        await asyncio.sleep(0.5)
        await house.talk(way(9, BEHIND), urgency=Urgency.ON_DEMAND, force=True)
        await asyncio.gather(*scheduled)
        return list(house.driver.order)

    assert run_virtual(main()) == [0, 9, 1, 2]


LINE = "modbus+tcp://192.0.2.1?unit=1"


@pytest.mark.parametrize(
    ("holds", "waits"),
    [
        (way(1), way(1)),
        (way(1, address=LINE), way(2, address=LINE)),
        (way(1, BEHIND), way(2, BEHIND)),  # a station that carries one at a time
    ],
)
def test_a_long_read_is_told_that_a_person_waits_and_gives_way_between_two_exchanges(
    run_virtual: Run, holds: FakeWay, waits: FakeWay
) -> None:
    async def main() -> float:
        house = House(Limits(station=1))
        loop = asyncio.get_running_loop()

        async def long_read() -> int:
            async with house.links.conversation(house.driver, holds) as conversation:
                for asked in range(1000):
                    if house.links.wanted(holds):
                        return asked
                    await conversation.ask()  # type: ignore[attr-defined]
            return 1000

        bulk = asyncio.create_task(long_read())
        await asyncio.sleep(100.5)
        assert not house.links.wanted(holds)
        began = loop.time()
        await house.talk(waits, urgency=Urgency.ON_DEMAND, force=True)
        assert await bulk == 100
        assert not house.links.wanted(holds)
        return loop.time() - began

    assert run_virtual(main()) == pytest.approx(0.5 + 2)  # the exchange under way, then its own two


def test_as_many_give_way_as_people_wait(run_virtual: Run) -> None:
    async def main() -> tuple[int, int]:
        house = House(Limits(cell=2))
        stay = asyncio.Event()
        ways = [way(n, Place(feeder="F")) for n in range(3)]

        async def hold(one: FakeWay, urgency: Urgency) -> None:
            async with house.links.conversation(house.driver, one, urgency=urgency):
                await stay.wait()

        holders = [
            asyncio.create_task(hold(ways[0], Urgency.SCHEDULED)),
            asyncio.create_task(hold(ways[1], Urgency.ON_DEMAND)),
        ]
        await asyncio.sleep(2)
        people = [
            asyncio.create_task(house.talk(way(n, Place(feeder="F")), urgency=Urgency.ON_DEMAND))
            for n in (10, 11)
        ]
        await asyncio.sleep(2)
        told = sum(house.links.wanted(one) for one in ways for _ in range(3))
        for one in people:
            one.cancel()
        await asyncio.sleep(1)
        afterwards = sum(house.links.wanted(one) for one in ways)
        stay.set()
        await asyncio.gather(*holders, *people, return_exceptions=True)
        return told, afterwards

    assert run_virtual(main()) == (3, 0)  # the one of bulk work, each time; never the person's


def test_a_probe_runs_beside_what_is_scheduled_and_not_behind_it(run_virtual: Run) -> None:
    async def main() -> list[int]:
        house = House(Limits(station=1))
        house.driver.answer_s[9] = 1e9
        await house.fail(way(9, BEHIND), 3)
        await asyncio.sleep(300)
        house.driver.order.clear()
        scheduled = [asyncio.create_task(house.talk(way(n, BEHIND))) for n in range(3)]
        await asyncio.sleep(0.5)
        await house.fail(way(9, BEHIND))
        await asyncio.gather(*scheduled)
        return list(house.driver.order)

    assert run_virtual(main()) == [0, 9, 1, 2]


# ---- what a conversation teaches ------------------------------------------------------------------------


def test_the_deadline_follows_what_was_measured(run_virtual: Run) -> None:
    async def main() -> list[float]:
        house = House()
        house.driver.answer_s[1] = 3.0
        for _ in range(2):
            await house.talk(way(1, BEHIND), questions=30)
        return list(house.driver.patience_s)

    first, second = run_virtual(main())
    assert first == 10.0
    assert second == pytest.approx(5.0)  # its answers take 3 s, and no deadline is below 5


def test_a_dead_meter_is_refused_after_three_failures_and_counted(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        house.driver.answer_s[1] = 1e9
        await house.fail(way(1, BEHIND), 3)
        with pytest.raises(BreakerOpen):
            await house.talk(way(1, BEHIND))
        assert len(house.driver.order) == 3
        assert (house.counted("timeout"), house.counted("not_tried")) == (3, 1)
        assert house.links.breakers.state(STATION) is State.CLOSED

    run_virtual(main())


def test_a_read_now_probes_a_dead_meter_and_finds_it_back(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        house.driver.answer_s[1] = 1e9
        await house.fail(way(1), 3)
        del house.driver.answer_s[1]
        await house.talk(way(1), force=True)
        await house.talk(way(1))
        assert house.counted("answered") == 2

    run_virtual(main())


async def fall_silent(house: House) -> None:
    async with house.links.conversation(house.driver, way(1)) as conversation:
        conversation.answer_s = 1e9  # type: ignore[attr-defined]
        await conversation.ask()  # type: ignore[attr-defined]


def test_whoever_answered_and_then_fell_silent_is_no_dead_meter(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        for _ in range(5):
            with pytest.raises(LinkTimeout):
                await fall_silent(house)
        assert len(house.links.breakers) == 0
        assert house.counted("timeout") == 5

    run_virtual(main())


def test_a_refusal_inside_is_the_meters_answer(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        for _ in range(4):
            with pytest.raises(DataAccessRefused):
                async with house.links.conversation(house.driver, way(1)):
                    raise DataAccessRefused("no", result=3)
        assert house.counted("access") == 4

    run_virtual(main())


def test_what_the_caller_breaks_is_not_the_meters_failure(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        for _ in range(4):
            with pytest.raises(ConnectionError):
                async with house.links.conversation(house.driver, way(1)):
                    raise ConnectionError("the caller's own")
        assert house.counted("ours") == 4
        assert len(house.links.breakers) == 0

    run_virtual(main())


def test_a_cancelled_probe_may_be_tried_again(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        house.driver.answer_s[1] = 1e9
        await house.fail(way(1), 3)
        await asyncio.sleep(300)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await house.talk(way(1))
        assert house.links.breakers.state(Subject(Kind.METER, "1")) is State.OPEN
        await house.fail(way(1))
        assert len(house.driver.order) == 5
        assert len(house.links.permits) == 0

    run_virtual(main())


def test_a_station_that_is_down_is_tried_three_times_and_not_for_each_meter(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        down = LinkError("refused", stage=Stage.CONNECT)
        house.driver.errors = dict.fromkeys(range(50), down)
        for meter_id in range(50):
            await house.fail(way(meter_id, BEHIND))
        assert len(house.driver.order) == 3
        assert len(house.links.breakers) == 1

    run_virtual(main())


def test_a_dark_feeder_slows_its_station_down_and_nobody_else(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        dark = [way(1000 + n, Place(link=LinkKind.PLC_NARROWBAND, feeder=f"D{n}")) for n in range(200)]
        half = [way(n, BEHIND) for n in range(60)]
        for _ in range(20):
            await asyncio.gather(
                *(house.talk(way(n, Place(link=LinkKind.PLC_NARROWBAND))) for n in range(300, 400))
            )
            await asyncio.gather(*(house.talk(one) for one in half))
        before, station = house.links.limits.now(), house.links.limits.of_station(5)
        house.driver.answer_s = dict.fromkeys([*range(1000, 1200), *range(0, 60, 2)], 1e9)
        await asyncio.gather(*(house.fail(one) for one in dark))
        assert all(limit >= before[name] for name, limit in house.links.limits.now().items())
        await asyncio.gather(*(house.talk(one) for one in half), return_exceptions=True)
        assert house.links.limits.of_station(5) < station

    run_virtual(main())


@pytest.mark.parametrize("meter_id", [-5, 7])  # without keys of its own, and as a device that has them
def test_talking_with_a_station_itself_says_nothing_of_the_medium_behind_it(
    run_virtual: Run, meter_id: int
) -> None:
    async def main() -> tuple[int, int]:
        house = House()
        for _ in range(40):
            await house.talk(way(meter_id, Place(station_id=5, hops=0)), questions=3)
        before = house.links.limits.of_station(5)
        for _ in range(40):
            await asyncio.gather(*(house.talk(way(n, BEHIND)) for n in range(4)))
        return before, house.links.limits.of_station(5)

    assert run_virtual(main()) == (2, 4)


@pytest.mark.parametrize("silent", [False, True])
def test_a_station_whose_breaker_is_open_refuses_280_meters_and_asks_none(
    run_virtual: Run, silent: bool
) -> None:
    async def main() -> None:
        house = House()
        loop = asyncio.get_running_loop()
        if silent:
            house.driver.answer_s = dict.fromkeys(range(300), 1e9)
        else:
            house.driver.errors = dict.fromkeys(range(300), LinkError("refused", stage=Stage.CONNECT))
        await asyncio.gather(*(house.fail(way(meter_id, BEHIND)) for meter_id in range(20)))
        assert house.links.breakers.state(STATION) is State.OPEN
        asked, began = len(house.driver.order), loop.time()
        for meter_id in range(20, 300):
            with pytest.raises(BreakerOpen):
                await house.talk(way(meter_id, BEHIND))
        assert (len(house.driver.order), loop.time()) == (asked, began)
        assert len(house.links.breakers) == 1, "nothing is kept of a meter that was not asked"

    run_virtual(main())


def test_a_dead_meter_costs_the_same_work_however_many_are_dead(run_virtual: Run) -> None:
    async def calls(dead: int) -> tuple[int, int]:
        house = House()
        down = LinkTimeout("nothing came", stage=Stage.TIMEOUT)
        house.driver.errors = dict.fromkeys(range(dead + 10), down)
        places = [
            Place(station_id=meter_id // 10, feeder=f"F{meter_id // 10}") for meter_id in range(dead + 10)
        ]
        for meter_id in range(dead):
            await house.fail(way(meter_id, places[meter_id]), 3)
        count = 0

        def called(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(called)
        try:
            with contextlib.suppress(LinkTimeout):
                await house.talk(way(dead, places[dead]))
            failure, count = count, 0
            house.links.breakers.due(200)
        finally:
            sys.setprofile(None)
        return failure, count

    few, many = run_virtual(calls(20)), run_virtual(calls(5_000))
    assert abs(many[0] - few[0]) < 30  # a window of the limits ends in one and not in the other
    assert many[1] == few[1], "whose time has not come is not looked at"


def test_meters_on_a_line_without_a_place_are_behind_that_line(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        down = LinkError("refused", stage=Stage.CONNECT)
        house.driver.errors = dict.fromkeys(range(9), down)
        for meter_id in range(9):
            await house.fail(way(meter_id, address=f"modbus+tcp://192.0.2.1?unit={meter_id + 1}"))
        assert len(house.driver.order) == 3
        assert house.links.breakers.state(Subject(Kind.LINE, "modbus+tcp:192.0.2.1:502")) is State.OPEN

    run_virtual(main())


def test_a_dead_slave_is_timed_out_once_and_one_that_has_answered_twice(run_virtual: Run) -> None:
    async def main() -> list[int]:
        house = House()
        bus = [way(n, address=f"modbus+tcp://192.0.2.1?unit={n + 1}") for n in range(4)]
        house.driver.answer_s[0] = 1e9
        for number in range(4):
            if number == 1:
                house.driver.answer_s[1] = 1e9
            for slave in bus:
                with contextlib.suppress(CommunicationError):
                    await house.talk(slave)
        return list(house.driver.order)

    order = run_virtual(main())
    assert [order.count(n) for n in range(4)] == [1, 3, 4, 4]


def test_a_concentrator_that_is_silent_itself_is_a_station(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        house.driver.answer_s[-5] = 1e9
        await house.fail(way(-5, BEHIND), 3)
        assert house.links.breakers.state(STATION) is State.OPEN
        with pytest.raises(BreakerOpen, match="station 5"):
            await house.talk(way(1, BEHIND))

    run_virtual(main())


def test_a_meter_that_dials_in_has_no_breaker(run_virtual: Run) -> None:
    async def main() -> None:
        house = House()
        house.driver.errors[1] = LinkError("meter number 1 is not connected: it dials in")
        await house.fail(way(1, address="inbound:"), 5)
        assert len(house.links.breakers) == 0
        del house.driver.errors[1]
        await house.talk(way(1, address="inbound:"))
        assert (house.counted("connect"), house.counted("answered")) == (5, 1)

    run_virtual(main())


# ---- what dead meters cost ------------------------------------------------------------------------------

METERS = 100


async def round_s(house: House, ways: Sequence[FakeWay]) -> float:
    """One round as the collector makes it: all at once, three attempts each, at random pauses."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(target: FakeWay) -> None:
        try:
            await retrying(lambda: house.talk(target, questions=3), RetryPolicy())
        except CommunicationError:
            pass

    await asyncio.gather(*(one(target) for target in ways))
    return loop.time() - began


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("station", [1, 4])
@pytest.mark.parametrize("every_s", [900.0, 86_400.0])
def test_a_tenth_of_dead_meters_costs_a_station_less_than_a_seventh(
    run_virtual: Run, monkeypatch: pytest.MonkeyPatch, seed: int, station: int, every_s: float
) -> None:
    monkeypatch.setattr(random, "uniform", random.Random(seed).uniform)

    async def rounds(dead: frozenset[int]) -> list[float]:
        house = House(Limits(station=station), seed)
        house.driver.answer_s = dict.fromkeys(dead, 1e9)
        ways = [way(meter, BEHIND) for meter in range(METERS)]
        took = []
        for _ in range(12):
            took.append(await round_s(house, ways))
            await asyncio.sleep(every_s - took[-1])
        return took

    healthy = run_virtual(rounds(frozenset()))
    dead = frozenset(random.Random(seed).sample(range(METERS), METERS // 10))
    with_dead = run_virtual(rounds(dead))
    assert len(set(healthy[1:])) == 1  # in the first round one at a time comes first
    worst = max(with_dead[1:]) / healthy[1]
    assert worst <= 1.15, with_dead
