"""A field of simulated meters on the ports of this machine."""

import asyncio
import csv
import resource
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from typing import Any, Final
from urllib.parse import quote

from concentrator_sim.breaker import Breaker
from concentrator_sim.calendar import follow_faults
from concentrator_sim.faults import Faults
from concentrator_sim.image import Counts, ImageStore, is_away, total, troubles_of
from concentrator_sim.links import HdlcLine, Line, WrapperLine
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.meters_file import CSV_COLUMNS, dlms_row
from concentrator_sim.outbound import Pusher, SetUpPushes, cancel_all, stay_dialled_in
from concentrator_sim.part import WHOLE, Part
from concentrator_sim.push import heartbeat
from concentrator_sim.scenario import HDLC_INBOUND, Framing, Scenario
from concentrator_sim.security import MODES
from concentrator_sim.served import Served
from concentrator_sim.server import MeterConnection, SerialMeter, Trouble, UdpMeter
from concentrator_sim.station import Bus, Station, bus_of
from concentrator_sim.stations import serve
from concentrator_sim.tree import grow
from protocols.dlms.hdlc_parameters import LinkParameters

_SCHEMES: Final = {Framing.WRAPPER: "tcp", Framing.HDLC: "hdlc+tcp", Framing.UDP: "udp"}
_BACKLOG: Final = 64
_SPARE_FILES: Final = 64
_FILES_OF_STATION: Final = 16
_METERS_PER_TRANSFORMER: Final = 40
_TRANSFORMERS_PER_FEEDER: Final = 5


def unix_now() -> int:
    """The clock of the field: whole seconds."""
    return int(time.time())


def clock_from(start_s: int) -> Callable[[], int]:
    """A clock that shows ``start_s`` (Unix seconds) now and runs on."""
    begin = time.monotonic()
    return lambda: start_s + int(time.monotonic() - begin)


@dataclass(frozen=True, slots=True)
class FieldMeter:
    """A meter and where it is reached: ``port`` of ``host``, 0 until the field listens, or its ``device``."""

    meter: SimulatedMeter
    framing: Framing
    silent: bool
    host: str = ""
    port: int = 0
    device: str = ""


class Field:
    """The meters of a scenario; `start` makes them listen. ``clock`` gives Unix seconds: it is what all
    meters, logs and faults go by, and may jump forward, as a test's does. ``part`` is the share of the
    scenario that this field has.

    Use it as an async context manager, or call `start` and `stop`.
    """

    def __init__(
        self, scenario: Scenario, *, clock: Callable[[], int] = unix_now, part: Part = WHOLE
    ) -> None:
        self.scenario = scenario
        self._clock = clock
        self._started = clock()
        self._servers: list[asyncio.Server] = []
        self._udp: list[asyncio.DatagramTransport] = []
        self._serial: list[SerialMeter] = []
        self._connections: set[MeterConnection] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.pusher: Pusher | None = None
        #: what meters push because it was written to them
        self.set_up_pushes = SetUpPushes(clock, scenario.hdlc_physical)
        #: the network below which stations and their meters are
        self.tree = grow(scenario.seed, scenario.network, scenario.stations, part)
        self._no_faults = Faults("", (), seed=scenario.seed, started=self._started)
        self._transformers = tuple(self.tree.feeder_of)
        #: the same stations, as they are served
        self.stations: list[Served] = [serve(station, self) for station in self.tree.stations]
        self.meters = [self._meter(n + 1) for n in range(scenario.meters) if part.has(n)]

    async def __aenter__(self) -> "Field":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def _meter(self, number: int) -> FieldMeter:
        scenario = self.scenario
        kind = scenario.kind(number)
        meter = SimulatedMeter(
            scenario.seed,
            number,
            MODES[kind.mode],
            sap=1 + (number - 1) * (1 + scenario.further_devices) if scenario.shared_port else 1,
            further=scenario.further_devices,
            max_pdu=scenario.max_pdu,
            block_size=scenario.block_size,
            entries=scenario.profile_rows,
            image_plan=scenario.image,
        )
        return FieldMeter(meter, kind.framing, scenario.is_silent(number), scenario.place_of(number)[0])

    async def start(self) -> None:
        """Listen. Raises OSError where a port is taken or files do not suffice; nothing is left open then."""
        self._started = self._clock()
        raise_file_limit(2 * len(self.meters) + _FILES_OF_STATION * len(self.stations) + _SPARE_FILES)
        try:
            if self.scenario.dial_in is not None:
                self._dial_in(self.scenario.dial_in)
            elif self.scenario.shared_port:
                talking = bus_of([item.meter for item in self.meters if not item.silent])
                place = await self._listen(talking, self.meters[0], self.scenario.base_port, silent=False)
                self.meters = [replace(item, port=place.port, device=place.device) for item in self.meters]
            else:
                for n, item in enumerate(self.meters):
                    bus = bus_of([item.meter])
                    _, port = self.scenario.place_of(item.meter.number)
                    self.meters[n] = await self._listen(bus, item, port, silent=item.silent)
            for station in self.stations:
                await station.start(self.scenario.station_port(station.station.place))
                self._start(station.run())
            if self.scenario.push_to is not None:
                self._push(self.scenario.push_to)
        except BaseException:
            await self.stop()
            raise

    def _dial_in(self, endpoint: str) -> None:
        for item in self.meters:
            self._start(stay_dialled_in(endpoint, partial(self._dialled, item, bus_of([item.meter]))))

    def _dialled(self, item: FieldMeter, bus: Bus, closed: Callable[[], None]) -> MeterConnection:
        greeting = heartbeat(item.meter)
        return self.connection(
            bus,
            item.framing,
            silent=item.silent,
            greeting=greeting,
            closed=closed,
            trouble=self._trouble(item.meter),
        )

    def _push(self, target: str) -> None:
        scenario = self.scenario
        self.pusher = Pusher(
            target,
            [(item.meter, item.framing) for item in self.meters if not item.silent],
            self._clock,
            every_s=scenario.push_every_s,
            confirm=scenario.push_confirm,
            physical=scenario.hdlc_physical,
        )
        self._start(self.pusher.run())
        struck = [(item.meter, item.framing, self.faults_of(item.meter.serial)) for item in self.meters]
        struck = [one for one in struck if one[2]]
        if struck:
            self._start(self.pusher.gasps(struck))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def watch(self) -> None:
        """Wait for ever; raises what ended one of the field's own tasks."""
        if self._tasks:
            await asyncio.gather(*self._tasks)
        await asyncio.get_running_loop().create_future()

    async def _listen(self, bus: Bus, item: FieldMeter, port: int, *, silent: bool) -> FieldMeter:
        loop = asyncio.get_running_loop()
        host, framing = item.host, item.framing
        trouble = self._trouble(item.meter)
        clock = self._clock_of(trouble)
        if framing is Framing.SERIAL:
            serial = SerialMeter(self.line(bus, framing, clock), silent=silent, trouble=trouble)
            self._serial.append(serial)
            return replace(item, device=serial.device)
        if framing is Framing.UDP:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: UdpMeter(
                    lambda: Station(bus, clock, partial(self.set_up_pushes.take, framing)),
                    silent=silent,
                    trouble=trouble,
                ),
                (host, port),
            )
            self._udp.append(transport)
            return replace(item, port=int(transport.get_extra_info("sockname")[1]))
        server = await loop.create_server(
            lambda: self.connection(bus, framing, silent=silent, trouble=trouble),
            host,
            port,
            backlog=_BACKLOG,
        )
        self._servers.append(server)
        return replace(item, port=int(server.sockets[0].getsockname()[1]))

    def connection(
        self,
        bus: Bus,
        framing: Framing,
        *,
        silent: bool = False,
        greeting: bytes = b"",
        closed: Callable[[], None] | None = None,
        trouble: Trouble | None = None,
    ) -> MeterConnection:
        """The protocol of one connection with these logical devices, however it came to be."""
        return MeterConnection(
            self.line(bus, framing, self._clock_of(trouble)),
            self._connections,
            answer_delay_s=self.scenario.delay_ms / 1000,
            silent=silent,
            greeting=greeting,
            closed=closed,
            trouble=trouble,
            is_away=lambda: any(is_away(device.meter, self._clock()) for device in bus.values()),
        )

    def now(self) -> int:
        """The field's clock: Unix seconds."""
        return self._clock()

    def images(self) -> Counts:
        """What came of images to its own meters."""
        stores = (item.meter.part_if_any(ImageStore) for item in self.meters)
        return total(store for store in stores if store is not None)

    def faults_of(self, target: str) -> Faults:
        """What goes wrong with the meter or station of this name."""
        scenario = self.scenario
        if not scenario.faults:
            return self._no_faults
        return Faults(target, scenario.faults, seed=scenario.seed, started=self._started)

    def _trouble(self, meter: SimulatedMeter) -> Trouble | None:
        faults = self.faults_of(meter.serial)
        if not faults:
            return None
        meter.events.follow(faults.power_failures)
        if faults.has_breaker:
            meter.part(Breaker).sticks = faults.breaker_sticks
        reset_s = faults.counter_reset_s()
        if reset_s is not None:
            meter.consumption.reset_at(reset_s)
        if faults.touches_images:
            meter.part(ImageStore).troubles = troubles_of(faults)
        follow_faults(meter, faults, self._clock)
        return Trouble(faults, self._clock)

    def _clock_of(self, trouble: Trouble | None) -> Callable[[], int]:
        if trouble is None:
            return self._clock
        return lambda: trouble.faults.clock(self._clock())

    def line(self, bus: Bus, framing: Framing, clock: Callable[[], int] | None = None) -> Line:
        """A fresh line, no association standing."""
        station = Station(bus, clock or self._clock, partial(self.set_up_pushes.take, framing))
        if framing not in (Framing.HDLC, Framing.SERIAL):
            return WrapperLine(station)
        scenario = self.scenario
        info, window = scenario.hdlc_max_info, scenario.hdlc_window
        limits = LinkParameters(info, info, window, window)
        return HdlcLine(station, physical=scenario.hdlc_physical, limits=limits)

    async def stop(self) -> None:
        """Close ports and connections, end pushes. Raises what one of the field's own tasks ended with."""
        tasks, self._tasks = self._tasks, []
        for server in self._servers:
            server.close()
        for transport in self._udp:
            transport.close()
        for serial in self._serial:
            serial.close()
        for connection in tuple(self._connections):
            connection.close()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        self._udp.clear()
        self._serial.clear()
        try:
            await cancel_all(tasks)
            await self.set_up_pushes.stop()
        finally:
            for station in self.stations:
                await station.stop()

    def csv(self) -> str:
        """The file that ``headend meters import --allow-plain-keys`` takes; the keys are simulated too."""
        text = StringIO()
        writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._row(item) for item in self.meters)
        for served in self.stations:
            transformer = served.station.transformer
            place = {"feeder": self.tree.feeder_of[transformer], "transformer": transformer}
            for row in served.meter_rows():
                writer.writerow(place | {"point": f"MP-{row['asset_id']}", "state": "commissioned"} | row)
        return text.getvalue()

    def address(self, item: FieldMeter) -> str:
        """Where the head-end reaches a meter, as `schemas.address` writes it."""
        scenario = self.scenario
        query = []
        if item.meter.management.sap != 1:
            query.append(f"server={item.meter.management.sap}")
        if item.framing in (Framing.HDLC, Framing.SERIAL) and scenario.hdlc_physical != _MODEL_PHYSICAL:
            query.append(f"physical={scenario.hdlc_physical}")
        tail = f"?{'&'.join(query)}" if query else ""
        if scenario.dial_in is not None:
            return "inbound:"
        if item.framing is Framing.SERIAL:
            return f"hdlc+serial://{quote(item.device)}{tail}"
        return f"{_SCHEMES[item.framing]}://{item.host}:{item.port}{tail}"

    def _model(self, item: FieldMeter) -> str:
        if self.scenario.dial_in is not None and item.framing is Framing.HDLC:
            return HDLC_INBOUND[item.meter.mode.name]
        return item.meter.mode.model

    def supply(self, item: FieldMeter) -> tuple[str, str]:
        """Feeder and transformer of a direct meter: in turn, or at transformers of their own."""
        n = item.meter.number - 1
        if self.scenario.network.takes_direct:
            code = self._transformers[n % len(self._transformers)]
            return self.tree.feeder_of[code], code
        transformer = n // _METERS_PER_TRANSFORMER
        return f"F{transformer // _TRANSFORMERS_PER_FEEDER + 1:02d}", f"T{transformer + 1:03d}"

    def _row(self, item: FieldMeter) -> dict[str, str]:
        meter = item.meter
        feeder, transformer = self.supply(item)
        place = {"feeder": feeder, "transformer": transformer}
        standing = {"point": f"MP-{meter.serial}", "state": "commissioned"}
        return dlms_row(meter, self._model(item), self.address(item)) | place | standing


#: HDLC lower address that the head-end's profile of these meters has.
_MODEL_PHYSICAL: Final = 17


def raise_file_limit(wanted: int) -> None:
    """Let this process open ``wanted`` files, as far as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # then opening the files tells what is missing
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def find_meter(meters: Sequence[FieldMeter], text: str) -> FieldMeter:
    """The meter with this serial number or number. Raises KeyError."""
    for item in meters:
        if text in (item.meter.serial, str(item.meter.number)):
            return item
    raise KeyError(text)
