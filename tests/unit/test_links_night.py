"""A night that takes all of the process's time, on a clock that jumps: bulk work keeps its rate, a person who
asks meanwhile gets an answer soon, and slow concentrators cost the fast ones nothing."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from headend.drivers.contract import Target
from headend.links.limits import Limits
from headend.links.links import Links
from headend.links.permits import Urgency
from schemas.address import LinkAddress
from schemas.network import LinkKind, Place

Run = Callable[[Coroutine[Any, Any, Any]], Any]

EXCHANGES = 10
#: What the process needs for one exchange: of these it does one after the other.
CPU_S = 0.0003
#: What an exchange takes beyond it, by the kind of link.
WIRE_S = {LinkKind.CELLULAR: 0.002, LinkKind.PLC_BROADBAND: 0.005, LinkKind.PLC_NARROWBAND: 1.0}
#: Tasks that wait for their turn, so that nobody's turn is missed.
WAIT = 800
ADDRESS = LinkAddress.parse("tcp://192.0.2.1:4059")


def way(number: int, place: Place) -> Any:
    meter = SimpleNamespace(meter_id=number, asset_id=f"M{number}", model="test")
    return SimpleNamespace(target=Target(meter, place), address=ADDRESS)  # type: ignore[arg-type]


def direct(number: int) -> Place:
    return Place(link=LinkKind.CELLULAR, transformer=f"T{number % 300}", feeder="F")


def behind(number: int, link: LinkKind) -> Place:
    return Place(station_id=number, link=link, transformer=f"C{number}", feeder="F")


class BusyDriver:
    """All exchanges of all meters take the time of one process, in the order in which they are asked for."""

    names = ("busy",)

    def __init__(self) -> None:
        self._free = 0.0
        self._random = random.Random(1)

    @asynccontextmanager
    async def open(self, way: Any, *, answer_s: float | None = None) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        conversation = SimpleNamespace(answers_s=[])
        for _ in range(EXCHANGES):
            asked = loop.time()
            self._free = max(self._free, asked) + CPU_S * self._random.uniform(0.5, 1.5)
            await asyncio.sleep(self._free - asked + WIRE_S[way.target.place.link])
            conversation.answers_s.append(loop.time() - asked)
        yield conversation


class Night:
    """Bulk work without end, as much as permits let through."""

    def __init__(self, place: Callable[[int], Place]) -> None:
        self.links = Links(Limits(most=256))
        self.driver: Any = BusyDriver()
        self.done: Counter[LinkKind | None] = Counter()
        self._place = place
        self._number = 0

    async def _bulk(self) -> None:
        while True:
            self._number += 1
            one = way(self._number, self._place(self._number))
            async with self.links.conversation(self.driver, one):
                pass
            self.done[one.target.place.link] += 1

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._bulk()) for _ in range(WAIT)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def read_now(self, number: int) -> float:
        """Seconds that a person waits for a direct meter, beyond what its link takes."""
        loop = asyncio.get_running_loop()
        one = way(10**6 + number, direct(number))
        began = loop.time()
        async with self.links.conversation(self.driver, one, urgency=Urgency.ON_DEMAND, force=True):
            pass
        return loop.time() - began - EXCHANGES * WIRE_S[LinkKind.CELLULAR]


def test_a_person_is_answered_soon_while_the_process_is_busy_and_stays_so(run_virtual: Run) -> None:
    def place(number: int) -> Place:
        return behind(number // 50 % 60, LinkKind.PLC_BROADBAND) if number % 2 else direct(number)

    async def main() -> tuple[list[float], float, Counter[LinkKind | None]]:
        night = Night(place)
        async with night.under_way():
            await asyncio.sleep(1.0)
            before = night.done.total()
            people = []
            for number in range(50):
                await asyncio.sleep(0.1)
                people.append(asyncio.create_task(night.read_now(number)))
            rate = (night.done.total() - before) / 5.0
            waited = await asyncio.gather(*people)
        return sorted(waited), rate, night.done

    waited, rate, done = run_virtual(main())
    assert waited[47] < 0.2
    assert rate > 0.93 / (CPU_S * EXCHANGES)
    assert min(done.values()) > 0.3 * done.total(), "one kind of link holds the other up"


def test_slow_concentrators_cost_the_fast_ones_nothing(run_virtual: Run) -> None:
    def slow(number: int) -> Place:
        if number % 50 == 0:
            return behind(1000 + number // 50 % 10, LinkKind.PLC_NARROWBAND)
        return behind(number // 50 % 60, LinkKind.PLC_BROADBAND)

    async def done(place: Callable[[int], Place]) -> int:
        night = Night(place)
        async with night.under_way():
            await asyncio.sleep(5.0)
        return night.done[LinkKind.PLC_BROADBAND]

    without = run_virtual(done(lambda number: behind(number // 50 % 60, LinkKind.PLC_BROADBAND)))
    assert run_virtual(done(slow)) * 1.05 > without
