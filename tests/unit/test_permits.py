"""Permits: all at once, in the order of urgency and arrival, nothing leaked."""

import asyncio
from collections.abc import Sequence

import pytest

from headend.links.permits import Fixed, Permit, Permits, Urgency, for_all


def meter(number: int) -> Permit:
    return (("meter", number), Fixed(1))


LINE: Permit = ("line", Fixed(1))
STATION: Permit = ("station", Fixed(3))  # two for whoever comes, and one for a person


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Crowd:
    """Tasks that hold permits until they are let go, in the order in which they got them."""

    def __init__(self) -> None:
        self.permits = Permits()
        self.order: list[str] = []
        self._let_go: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, *wanted: Permit, urgency: Urgency = Urgency.SCHEDULED) -> None:
        self._let_go[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._hold(name, wanted, urgency))
        await turns()

    async def _hold(self, name: str, wanted: Sequence[Permit], urgency: Urgency) -> None:
        async with self.permits.hold(wanted, urgency):
            self.order.append(name)
            await self._let_go[name].wait()

    async def go(self, *names: str) -> None:
        for name in names:
            self._let_go[name].set()
        await turns()

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await turns()

    async def nothing_is_left(self) -> None:
        await self.go(*self._let_go)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        assert (len(self.permits), self.permits.waiting) == (0, 0)


async def test_one_conversation_at_a_time_with_a_meter() -> None:
    crowd = Crowd()
    await crowd.come("first", meter(1))
    await crowd.come("second", meter(1))
    assert crowd.order == ["first"]
    assert crowd.permits.waiting == 1
    await crowd.go("first")
    assert crowd.order == ["first", "second"]
    await crowd.nothing_is_left()


async def test_as_many_as_the_station_has_room_for() -> None:
    crowd = Crowd()
    for number in range(4):
        await crowd.come(f"m{number}", meter(number), STATION)
    assert crowd.order == ["m0", "m1"]
    assert crowd.permits.held("station") == 2
    await crowd.go("m1")
    assert crowd.order == ["m0", "m1", "m2"]
    await crowd.nothing_is_left()


async def test_whoever_lacks_one_permit_holds_none_of_the_others() -> None:
    crowd = Crowd()
    await crowd.come("busy", meter(1), STATION)
    await crowd.come("waits for the meter", meter(1), STATION)
    await crowd.come("another meter", meter(2), STATION)
    assert crowd.order == ["busy", "another meter"]
    await crowd.nothing_is_left()


async def test_an_earlier_one_is_first_also_when_another_permit_was_the_last_he_lacked() -> None:
    crowd = Crowd()
    await crowd.come("line", LINE)
    await crowd.come("one", STATION)
    await crowd.come("two", STATION)
    await crowd.come("early", LINE, STATION)  # lacks both
    await crowd.come("late", STATION)
    await crowd.go("line")
    assert crowd.order == ["line", "one", "two"]
    await crowd.go("one")
    assert crowd.order[3:] == ["early"]
    await crowd.go("two")
    assert crowd.order[4:] == ["late"]
    await crowd.nothing_is_left()


async def test_a_person_goes_before_a_probe_and_a_probe_before_the_schedule() -> None:
    crowd = Crowd()
    await crowd.come("now", LINE)
    await crowd.come("scheduled", LINE)
    await crowd.come("probe", LINE, urgency=Urgency.PROBE)
    await crowd.come("person", LINE, urgency=Urgency.ON_DEMAND)
    for name in ("now", "person", "probe", "scheduled"):
        await crowd.go(name)
    assert crowd.order == ["now", "person", "probe", "scheduled"]
    await crowd.nothing_is_left()


async def test_a_cancelled_wait_takes_nothing() -> None:
    crowd = Crowd()
    await crowd.come("holder", LINE, STATION)
    await crowd.come("gives up", LINE, STATION)
    await crowd.come("next", LINE, STATION)
    await crowd.give_up("gives up")
    await crowd.go("holder")
    assert crowd.order == ["holder", "next"]
    await crowd.nothing_is_left()


async def test_cancelled_in_the_turn_in_which_it_was_granted() -> None:
    permits = Permits()

    async def hold() -> None:
        async with permits.hold([LINE]):
            pytest.fail("it was cancelled")

    async with permits.hold([LINE]):
        waits = asyncio.create_task(hold())
        await turns()
    waits.cancel()  # granted by the line above, and not run since
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert len(permits) == 0


async def test_a_failure_inside_gives_everything_back() -> None:
    permits = Permits()
    with pytest.raises(ZeroDivisionError):
        async with permits.hold([LINE, STATION]):
            raise ZeroDivisionError
    assert len(permits) == 0


class Moving:
    def __init__(self, limit: int) -> None:
        self.move(limit)

    def move(self, limit: int) -> None:
        self.limit, self.for_all = limit, for_all(limit)


async def test_a_tenth_is_for_people_also_where_more_is_held_than_a_limit_that_shrank() -> None:
    crowd, moving = Crowd(), Moving(22)
    kind: Permit = ("kind", moving)
    for number in range(19):
        await crowd.come(f"m{number}", kind)
    moving.move(11)
    for number in range(3):
        await crowd.come(f"person {number}", kind, urgency=Urgency.ON_DEMAND)
    assert crowd.order[-2:] == ["person 0", "person 1"]
    assert crowd.permits.waiting == 1
    await crowd.come("late", kind)
    await crowd.go("person 0")
    assert crowd.order[-1] == "person 2"
    await crowd.nothing_is_left()


async def test_a_limit_that_grew_serves_all_it_has_room_for_when_one_ends() -> None:
    crowd, moving = Crowd(), Moving(2)
    for number in range(9):
        await crowd.come(f"m{number}", ("kind", moving))
    assert crowd.order == ["m0"]
    moving.move(6)
    await crowd.go("m0")
    assert crowd.order == ["m0", "m1", "m2", "m3", "m4", "m5"]
    await crowd.nothing_is_left()


def test_a_limit_that_lets_nobody_through_is_refused() -> None:
    with pytest.raises(ValueError, match="lets nobody through"):
        Fixed(0)
