"""DLMS concentrators as stations: those that pass through, and those that keep load curves too."""

import asyncio
from collections.abc import Iterator
from typing import Final

from concentrator_sim.breaker import Breaker
from concentrator_sim.calendar import follow_faults
from concentrator_sim.concentrator import Concentrator, Member, Route
from concentrator_sim.distribution import Distributor
from concentrator_sim.faults import Faults
from concentrator_sim.image import IMAGE_TRANSFER, ImageStore, troubles_of
from concentrator_sim.meter import SimulatedMeter, serial_of
from concentrator_sim.meters_file import dlms_row
from concentrator_sim.plan import StationKind
from concentrator_sim.security import MODES
from concentrator_sim.served import House
from concentrator_sim.server import Trouble
from concentrator_sim.station import bus_of
from concentrator_sim.store_forward import StoreForward
from concentrator_sim.tree import Leaf, Station
from schemas.address import GatewayAddress

#: Numbers of the concentrators' own logical devices: their serial numbers are above all meters'.
_FIRST_HEAD: Final = 9_000_000
_NETWORK: Final = 0
_MAX_PDU: Final = 0xFFFF
#: Rows of each meter that a full buffer leaves, and how often it is looked at, in seconds.
_FULL_ROWS: Final = 4
_LOOK_S: Final = 5.0


class DlmsStation:
    """See the module. Its meters have gateway addresses made of their numbers."""

    def __init__(self, station: Station, house: House) -> None:
        self.station = station
        self.address = ""
        self._house = house
        self._members = [_member(station, leaf, house) for leaf in station.leaves]
        self._faults = house.faults_of(station.code)
        #: its own logical device
        self.head = head = SimulatedMeter(
            station.seed,
            _head_number(station),
            MODES["none"],
            max_pdu=_MAX_PDU,
            image_plan=house.scenario.image,
        )
        trouble = Trouble(self._faults, house.now) if self._faults else None
        self.store: StoreForward | None = None
        #: what hands images on to its meters
        self.distributor = Distributor(head, is_down=lambda: self._faults.is_down(house.now()))
        own = bus_of([head])
        if station.plan.kind is StationKind.STORE_AND_FORWARD:
            self.store = StoreForward(
                self._members,
                house.now,
                shelf_rows=station.plan.shelf_rows,
                further=(IMAGE_TRANSFER, *self.distributor.objects()),
            )
            own = self.store.own(head)
        self.concentrator = Concentrator(own, self._members, house.now, trouble=trouble)

    @property
    def model(self) -> str:
        """See `Served`: what only passes through is no device that is read."""
        return "" if self.store is None else "headend-dc"

    async def start(self, port: int) -> None:
        """See `Served`."""
        if self._faults.touches_images:
            self.head.part(ImageStore).troubles = troubles_of(self._faults)
        for member in self._members:
            faults = self._house.faults_of(member.meter.serial)
            if faults.touches_images:
                member.meter.part(ImageStore).troubles = troubles_of(faults)
            if faults.has_breaker:
                member.meter.part(Breaker).sticks = faults.breaker_sticks
            follow_faults(member.meter, faults, self._house.now)
            reset_s = faults.counter_reset_s()
            if reset_s is not None:
                member.meter.consumption.reset_at(reset_s)
        host = self._house.scenario.host
        self.address = f"tcp://{host}:{await self.concentrator.listen(host, port)}"

    async def run(self) -> None:
        """Hand images on, and let the buffer be struck by its fault, on the field's clock."""
        if self.store is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self.distributor.run(self.concentrator))
            group.create_task(self._watch(self.store))

    async def _watch(self, store: StoreForward) -> None:
        while True:
            rows = _FULL_ROWS if self._faults.is_full(self._house.now()) else self.station.plan.shelf_rows
            for shelf in store.shelves.values():
                shelf.capacity = rows
            await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """See `Served`."""
        await self.concentrator.stop()

    def meter_rows(self) -> Iterator[dict[str, str]]:
        """See `Served`: the network tells which concentrator it is, so that a meter may move."""
        for member in self._members:
            yield dlms_row(member.meter, member.meter.mode.model, f"via:?gateway={member.address}")


def _head_number(station: Station) -> int:
    return _FIRST_HEAD + int(station.code.rpartition("-")[2])


class _StruckRoute:
    """A route to a meter with faults: a meter that restarts, or is lost, is one that is not reached."""

    def __init__(self, route: Route, faults: Faults) -> None:
        self._route = route
        self._faults = faults

    def send(self, size: int, now: float) -> float | None:
        """See `concentrator_sim.concentrator.Route`."""
        took = self._route.send(size, now)
        if took is None or self._faults.is_down(now) or self._faults.is_half_open(now):
            return None
        arrived = self._faults.deliveries(b"", now)
        return took + arrived[0].delay_s if arrived else None


def _member(station: Station, leaf: Leaf, house: House) -> Member:
    meter = SimulatedMeter(
        station.seed,
        leaf.number,
        MODES[leaf.model],
        entries=house.scenario.profile_rows,
        image_plan=house.scenario.image,
    )
    faults = house.faults_of(meter.serial)
    route: Route = station.route(leaf)
    return Member(
        meter,
        GatewayAddress(_NETWORK, leaf.number.to_bytes(4, "big")),
        route=_StruckRoute(route, faults) if faults else route,
        link=station.plan.link_kind,
        hops=leaf.hops,
        quality=leaf.quality,
        via="" if leaf.relay is None else serial_of(station.seed, station.leaves[leaf.relay].number),
        is_dead=leaf.dead,
    )
