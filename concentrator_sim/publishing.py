"""What all stations at a broker have in common: their meters, their hours, and when there is none."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import ClassVar, Final

from concentrator_sim.dice import Dice
from concentrator_sim.faults import Faults
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.image import ImageStore, troubles_of
from concentrator_sim.instant import Instant
from concentrator_sim.medium import Route
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.served import House
from concentrator_sim.shapes import QUARTERS_PER_DAY
from concentrator_sim.tariff_talk import ProgramBook
from concentrator_sim.tree import Leaf, Station

#: A device publishes within so many seconds after a boundary, each at its own second.
_SPREAD_S: Final = (1.0, 8.0)
#: Longest sleep, so that a clock that is set is noticed.
_NAP_S: Final = 30.0


class Publisher:
    """A meter that pushes, alone or through a station."""

    def __init__(self, station: Station, leaf: Leaf, house: House) -> None:
        self.meter = SimulatedMeter(station.seed, leaf.number, image_plan=house.scenario.image)
        self.leaf = leaf
        self.faults: Faults = house.faults_of(self.meter.serial)
        self._route: Route = station.route(leaf)
        reset_s = self.faults.counter_reset_s()
        if reset_s is not None:
            self.meter.consumption.reset_at(reset_s)
        if self.faults.touches_images:
            self.meter.part(ImageStore).troubles = troubles_of(self.faults)
        if self.faults.touches_tariffs:
            self.meter.part(ProgramBook).is_wrong = lambda: self.faults.stores_wrongly(house.now())

    @property
    def serial(self) -> str:
        """Its name at the broker, and the head-end's asset id."""
        return self.meter.serial

    def shows(self, now: int) -> Instant:
        """What it shows at ``now``, by its own clock."""
        return Instant(self.meter.consumption, self.meter.number, self.faults.clock(now))

    def is_reached(self, now: int, size: int = 64) -> bool:
        """Whether a message of it arrives at its station now."""
        if self.leaf.dead or self.faults.is_down(now) or self.faults.is_half_open(now):
            return False
        return self._route.send(size, now) is not None


class PublishingStation:
    """Base of stations at a broker: nothing listens, and without a broker nothing is said."""

    model = ""
    #: the head-end's model of its meters, by the plan's word for them
    meter_models: ClassVar[Mapping[str, str]]

    def __init__(self, station: Station, house: House) -> None:
        self.station = station
        self.house = house
        self.publishers = [Publisher(station, leaf, house) for leaf in station.leaves]

    @property
    def address(self) -> str:
        """See `Served`: nobody calls it."""
        return ""

    async def start(self, port: int) -> None:
        """Nothing listens."""

    async def run(self) -> None:
        """See `Served`."""
        url = self.house.scenario.mqtt_url
        if url is not None:
            await asyncio.sleep(self.house.scenario.publish_after_s)
            await self.live(url)

    async def live(self, url: str) -> None:
        """Be at the broker until cancelled."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Its tasks are the field's, which has ended them."""

    def meter_rows(self) -> Iterator[dict[str, str]]:
        """See `Served`."""
        if self.house.scenario.mqtt_url is None:
            return
        for one in self.publishers:
            model = self.meter_models[one.leaf.model]
            yield {"asset_id": one.serial, "model": model, "address": f"mqtt:{one.serial}"}

    @property
    def first_quarter(self) -> int:
        """The oldest quarter that it has data of at its start."""
        return quarter_of(self.house.now()) + 1 - self.station.plan.history_days * QUARTERS_PER_DAY

    async def boundaries(self, *name: object) -> AsyncIterator[int]:
        """The quarters as they end, each a few seconds later: a device has its own second."""
        dice = Dice(self.station.seed, "boundary", *name)
        last = quarter_of(self.house.now())
        while True:
            due = moment_of(last + 1) + dice.between(*_SPREAD_S)
            while True:
                wait_s = due - self.house.now()
                if wait_s <= 0:
                    break
                await asyncio.sleep(min(wait_s, _NAP_S))
            last = max(last + 1, quarter_of(self.house.now()))
            yield last
