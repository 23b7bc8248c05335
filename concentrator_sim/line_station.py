"""Lines behind a transparent TCP gateway as stations: DL/T 645, IEC 62056-21, and P1 ports."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from concentrator_sim import dlt645_meter, text_meters
from concentrator_sim.line_meters import LineMeter, line_meters
from concentrator_sim.links import Line
from concentrator_sim.plan import StationKind
from concentrator_sim.served import House
from concentrator_sim.server import MeterConnection, Trouble
from concentrator_sim.tree import Station

#: A telegram each second, as P1 from version 5 on.
TELEGRAM_S: Final = 1.0
#: Bytes that may wait for a client that does not read; then it is cut off.
_MOST_WAITING: Final = 65_536


class _Language(NamedTuple):
    """Scheme, the head-end's model, how an address calls a meter, and the line; None: it tells by itself."""

    scheme: str
    model: str
    name: Callable[[LineMeter], str]
    line: Callable[[Sequence[LineMeter]], Line] | None


_LANGUAGES: Final[Mapping[StationKind, _Language]] = MappingProxyType(
    {
        StationKind.DLT645_TCP: _Language(
            "dlt645+tcp", dlt645_meter.MODEL, dlt645_meter.address_of, dlt645_meter.Dlt645Line
        ),
        StationKind.IEC62056_TCP: _Language(
            "iec62056+tcp", text_meters.READOUT_MODEL, lambda one: one.serial, text_meters.ReadoutLine
        ),
        StationKind.P1_TCP: _Language("p1+tcp", text_meters.P1_MODEL, lambda one: "", None),
    }
)


class LineStation:
    """See the module."""

    model = ""

    def __init__(self, station: Station, house: House) -> None:
        self.station = station
        self.address = ""
        self._house = house
        self._language = _LANGUAGES[station.plan.kind]
        self._meters = line_meters(station, house)
        self._server: asyncio.Server | None = None
        self._open: set[MeterConnection] = set()
        self._ports: set[P1Port] = set()

    async def start(self, port: int) -> None:
        """See `Served`."""
        faults = self._house.faults_of(self.station.code)
        trouble = Trouble(faults, self._house.now) if faults else None
        make, loop, host = self._language.line, asyncio.get_running_loop(), self._house.scenario.host
        if make is None:
            (meter,) = self._meters
            self._server = await loop.create_server(lambda: P1Port(meter, self._ports, trouble), host, port)
        else:
            self._server = await loop.create_server(
                lambda: MeterConnection(make(self._meters), self._open, trouble=trouble), host, port
            )
        self.address = f"{self._language.scheme}://{host}:{self._server.sockets[0].getsockname()[1]}"

    async def run(self) -> None:
        """A line does nothing of its own accord."""

    async def stop(self) -> None:
        """See `Served`."""
        for connection in tuple(self._open):
            connection.close()
        for port in tuple(self._ports):
            port.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def meter_rows(self) -> Iterator[dict[str, str]]:
        """See `Served`."""
        for one in self._meters:
            name = self._language.name(one)
            address = f"{self.address}?meter={name}" if name else self.address
            yield {"asset_id": one.serial, "model": self._language.model, "address": address}


class P1Port(asyncio.Protocol):
    """A connection to a P1 port: a telegram now and each second."""

    def __init__(self, meter: LineMeter, opened: "set[P1Port]", trouble: Trouble | None) -> None:
        self._meter = meter
        self._opened = opened
        self._trouble = trouble
        self._transport: asyncio.Transport | None = None
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's call."""
        self._transport = transport  # type: ignore[assignment]
        self._opened.add(self)
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's call."""
        self._transport = None
        self._opened.discard(self)
        if self._next is not None:
            self._next.cancel()

    def _tell(self) -> None:
        transport, trouble = self._transport, self._trouble
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > _MOST_WAITING:
            transport.abort()
            return
        if trouble is None or not trouble.is_deaf:
            told = text_meters.telegram(self._meter)
            for one in [] if trouble is None else trouble.deliveries(told):
                transport.write(one.data)  # it is late by the next second at most
            if trouble is None:
                transport.write(told)
        self._next = asyncio.get_running_loop().call_later(TELEGRAM_S, self._tell)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
