"""Silent meters: a round lets them be, and their time is looked for between the rounds."""

import asyncio
import datetime as dt
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from psycopg import OperationalError

from headend.collect.collector import Collector, Limits
from headend.collect.outcome import Outcome
from headend.collect.probing import probing
from headend.drivers.contract import Target
from headend.drivers.registry import Reachable
from headend.ingest.pipeline import Pipeline
from headend.links.breaker import Breakers
from headend.links.links import Links
from headend.links.opened import Kind, State, Subject
from headend.session.retry import RetryPolicy
from headend.store.coverage import Due
from headend.store.writer import Written
from protocols.errors import LinkError
from schemas.address import LinkAddress
from schemas.failure import Stage
from schemas.network import Place
from schemas.reading import registers_only

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)
PLACE = Place(station_id=5, station="C5")


class Driver:
    """A station whose meters answer, unless it is down."""

    names = ("fake",)

    def __init__(self):
        self.down = True
        self.called = []

    @asynccontextmanager
    async def open(self, way, *, answer_s=None):
        self.called.append(way.target.meter.meter_id)
        await asyncio.sleep(1)
        if self.down:
            raise LinkError("refused", stage=Stage.CONNECT)
        yield SimpleNamespace(answers_s=[1.0], read_load_curve=self.read)

    async def read(self, number, start, end):
        return registers_only((), source="test")


class Some(Collector):
    """A collector of meters that are in no database."""

    def __init__(self, links, pipeline, driver, count):
        super().__init__(None, None, links, pipeline, limits=Limits(retry=RetryPolicy(attempts=1)))
        self.driver, self.count = driver, count

    async def _due(self, since, until, meter_ids):
        return [Due(number, 1, NOW - QUARTER, NOW) for number in range(1, self.count + 1)]

    def _its_own(self, target, due):
        return due

    async def _ways(self, meter_ids):
        found = []
        for number in meter_ids:
            target = Target(SimpleNamespace(meter_id=number, asset_id=f"M{number}"), PLACE)
            way = SimpleNamespace(target=target, address=LinkAddress.parse("tcp://192.0.2.1"))
            self.driver.is_away = lambda way: False
            found.append((target, Reachable(self.driver, way)))
        return found


async def write(batch, _settlement):
    return Written(1)


def house():
    loop = asyncio.get_running_loop()
    began = loop.time()
    links = Links(
        breakers=Breakers(
            now=lambda: NOW + dt.timedelta(seconds=loop.time() - began), draw=lambda bound: bound
        )
    )
    return links, Driver()


def test_a_station_that_is_back_costs_none_of_its_meters_the_round(run_virtual):
    async def main():
        links, driver = house()
        async with Pipeline(write) as pipeline:
            collector = Some(links, pipeline, driver, 20)
            first = await collector.collect(NOW - QUARTER, NOW)
            assert (first.read, first.failed, len(driver.called)) == (0, 20, 3), "then it is open"
            assert {failure.stage for failure in first.failures} == {Stage.CONNECT}
            driver.down = False
            await asyncio.sleep(300)
            second = await collector.collect(NOW - QUARTER, NOW)
            assert (second.read, second.failed) == (20, 0)
            assert (second.done, second.due) == (20, 20)
            assert links.breakers.state(Subject(Kind.STATION, "5")) is State.CLOSED

    run_virtual(main())


def test_a_station_that_is_still_down_is_probed_once_a_round(run_virtual):
    async def main():
        links, driver = house()
        async with Pipeline(write) as pipeline:
            collector = Some(links, pipeline, driver, 20)
            await collector.collect(NOW - QUARTER, NOW)
            await asyncio.sleep(300)
            driver.called.clear()
            outcome = await collector.collect(NOW - QUARTER, NOW)
            assert (outcome.failed, outcome.done, len(driver.called)) == (20, 20, 1)

    run_virtual(main())


class Round:
    """What collects, as probing sees it."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def collect(self, since, until, *, meter_ids):
        self.asked.append((asyncio.get_running_loop().time(), list(meter_ids), until - since))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_meters_whose_time_has_come_are_collected(run_virtual):
    async def main():
        links, _ = house()
        loop = asyncio.get_running_loop()
        began = loop.time()
        meter = Subject(Kind.METER, "7")
        for _ in range(3):
            links.breakers.failed(links.breakers.admit(meter, None), Stage.TIMEOUT, "silent")
        collector = Round(OperationalError("gone"), Outcome(read=1), asyncio.CancelledError())
        with pytest.raises(asyncio.CancelledError):
            await probing(collector, links.breakers, days=2, now=lambda: NOW)
        assert [asked[1:] for asked in collector.asked] == [([7], dt.timedelta(days=2))] * 3
        assert 300 <= collector.asked[0][0] - began <= 315

    run_virtual(main())
