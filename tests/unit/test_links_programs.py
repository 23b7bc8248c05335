"""A campaign on every meter behind a slow concentrator while the night is read there, on a clock that jumps:
the real order of turns, the real permits, exchanges of a second each."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from headend.drivers.contract import Target
from headend.jobs.order import Order, Rank
from headend.jobs.work import SLOTS
from headend.links.limits import Limits
from headend.links.links import Links
from headend.links.permits import Urgency
from headend.programs.applier import CROWDED_S, VISIT_S
from schemas.address import LinkAddress
from schemas.network import LinkKind, Place

Run = Callable[[Coroutine[Any, Any, Any]], Any]

METERS = 40
#: Exchanges of a reading, association and release with it, and of one program.
READING, ASSOCIATION, BLOCKS = 10, 3, 120
EXCHANGE_S = 1.0
STATION = Place(station_id=1, link=LinkKind.PLC_NARROWBAND, transformer="C", feeder="F")


class SlowDriver:
    names = ("slow",)

    @asynccontextmanager
    async def open(self, way: Any, *, answer_s: float | None = None) -> AsyncIterator[Any]:
        yield SimpleNamespace(answers_s=[])


@dataclass
class Lane:
    """Slots that take turns as a lane's do. A program that gave way has its turn again later."""

    readings: int
    programs: int
    links: Links = field(default_factory=lambda: Links(Limits(station=4)))
    order: Order[tuple[Urgency, int]] = field(default_factory=Order)
    blocks: dict[int, int] = field(default_factory=dict)
    read: int = 0
    exchanges: int = 0  # of programs, while readings were left
    night_s: float = 0.0

    async def work(self, *, gives_way: bool = True) -> None:
        for n in range(self.readings):
            self.order.add((Urgency.SCHEDULED, n), Rank(Urgency.SCHEDULED, 0), again=False)
        for n in range(self.programs):
            self.order.add((Urgency.PROGRAM, n), Rank(Urgency.PROGRAM, 0), again=False)
        self.began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for _ in range(SLOTS["station"]):
                group.create_task(self._slot(gives_way))

    async def _slot(self, gives_way: bool) -> None:
        while self.order:
            urgency, number = self.order.next()
            address = LinkAddress.parse("tcp://192.0.2.1:4059")
            meter = SimpleNamespace(meter_id=number + 1, asset_id="M", model="test")
            way: Any = SimpleNamespace(target=Target(meter, STATION), address=address)  # type: ignore[arg-type]
            driver: Any = SlowDriver()
            async with self.links.conversation(driver, way, urgency=urgency):
                if urgency is Urgency.SCHEDULED:
                    await asyncio.sleep(READING * EXCHANGE_S)
                    self.read += 1
                    self.night_s = asyncio.get_running_loop().time() - self.began
                else:
                    await self._program(way, number, gives_way)
            if urgency is Urgency.PROGRAM and self.blocks[number] < BLOCKS:
                self.order.add((urgency, number), Rank(urgency, 0), again=False)

    async def _program(self, way: Any, number: int, gives_way: bool) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(ASSOCIATION * EXCHANGE_S)
        began = loop.time()
        while self.blocks.setdefault(number, 0) < BLOCKS:
            await asyncio.sleep(EXCHANGE_S)
            self.blocks[number] += 1
            self.exchanges += self.read < self.readings
            took_s = loop.time() - began
            crowded = took_s >= CROWDED_S and (self.order.readings > 0 or self.links.crowded(way))
            if gives_way and (self.links.wanted(way) or took_s >= VISIT_S or crowded):
                return


@pytest.fixture
def worked(run_virtual: Run) -> Callable[..., Lane]:
    def work(readings: int, programs: int, **how: Any) -> Lane:
        async def main() -> Lane:
            lane = Lane(readings, programs)
            await lane.work(**how)
            return lane

        return run_virtual(main())  # type: ignore[no-any-return]

    return work


def test_the_night_is_read_in_little_more_than_its_time(worked: Callable[..., Lane]) -> None:
    alone = worked(METERS, 0)
    both = worked(METERS, METERS)
    assert both.read == METERS
    assert sum(both.blocks.values()) == METERS * BLOCKS  # and every meter has its program in the end
    assert both.night_s < 1.6 * alone.night_s
    assert worked(METERS, METERS, gives_way=False).night_s > 2 * alone.night_s  # what it would cost


def test_the_campaign_goes_on_while_the_night_is_read(worked: Callable[..., Lane]) -> None:
    night = worked(400, METERS)
    assert night.exchanges >= 0.9 * 400 / 4 * CROWDED_S / EXCHANGE_S  # a turn in five, each worth its while
