"""A Modbus bus as a station: on a pseudo-terminal, behind a transparent TCP gateway, or one that speaks
Modbus TCP. Slaves have the units 1, 2, 3 ... in the tree's order."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from concentrator_sim.image import ImageStore, troubles_of
from concentrator_sim.links import Line
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.modbus_bus import Bus, RtuLine, Slave, TcpLine
from concentrator_sim.modbus_image import ImageFiles
from concentrator_sim.plan import StationKind
from concentrator_sim.registers import Map, ModelMap, SunSpecMap
from concentrator_sim.served import House
from concentrator_sim.server import MeterConnection, SerialMeter, Trouble
from concentrator_sim.tree import Station
from schemas.register_model import load_register_model

_SCHEMES: Final = {
    StationKind.MODBUS_TCP: "modbus+tcp",
    StationKind.MODBUS_RTU_TCP: "modbus+rtu+tcp",
    StationKind.MODBUS_RTU: "modbus+rtu",
}


class ModbusStation:
    """See the module."""

    model = ""

    def __init__(self, station: Station, house: House) -> None:
        self.station = station
        self.address = ""
        self._house = house
        self._slaves = {leaf.place + 1: _slave(station, leaf.place, house) for leaf in station.leaves}
        self._bus = Bus(self._slaves, house.now)
        self._server: asyncio.Server | None = None
        self._serial: SerialMeter | None = None
        self._link: Path | None = None
        self._open: set[MeterConnection] = set()

    async def start(self, port: int) -> None:
        """See `Served`."""
        for slave in self._slaves.values():
            reset_s = slave.faults.counter_reset_s()
            if reset_s is not None:
                slave.meter.consumption.reset_at(reset_s)
        faults = self._house.faults_of(self.station.code)
        trouble = Trouble(faults, self._house.now) if faults else None
        scheme = _SCHEMES[self.station.plan.kind]
        if self.station.plan.kind is StationKind.MODBUS_RTU:
            self._serial = SerialMeter(RtuLine(self._bus), trouble=trouble)
            self.address = f"{scheme}://{self._device(self._serial.device)}"
            return
        scenario = self._house.scenario
        self._server = await asyncio.get_running_loop().create_server(
            lambda: MeterConnection(self._line(), self._open, trouble=trouble), scenario.host, port
        )
        self.address = f"{scheme}://{scenario.host}:{self._server.sockets[0].getsockname()[1]}"

    def _line(self) -> Line:
        is_tcp = self.station.plan.kind is StationKind.MODBUS_TCP
        return TcpLine(self._bus) if is_tcp else RtuLine(self._bus)

    def _device(self, device: str) -> str:
        """The pseudo-terminal's name; a lasting one where the scenario names a folder for such."""
        folder = self._house.scenario.device_dir
        if folder is None:
            return device
        folder.mkdir(parents=True, exist_ok=True)
        self._link = folder.absolute() / self.station.code
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(device)
        return str(self._link)

    async def run(self) -> None:
        """A bus does nothing of its own accord."""

    async def stop(self) -> None:
        """See `Served`."""
        if self._link is not None:
            self._link.unlink(missing_ok=True)
            self._link = None
        if self._serial is not None:
            self._serial.close()
            self._serial = None
        for connection in tuple(self._open):
            connection.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def meter_rows(self) -> Iterator[dict[str, str]]:
        """See `Served`."""
        for leaf in self.station.leaves:
            address = f"{self.address}?unit={leaf.place + 1}"
            yield {
                "asset_id": self._slaves[leaf.place + 1].meter.serial,
                "model": leaf.model,
                "address": address,
            }


def _slave(station: Station, place: int, house: House) -> Slave:
    leaf = station.leaves[place]
    model = load_register_model(leaf.model)
    if model.firmware is None:
        meter = SimulatedMeter(station.seed, leaf.number)
        registers: Map = SunSpecMap(meter.serial) if model.map == "sunspec" else ModelMap(model, meter.serial)
        return Slave(meter, registers, house.faults_of(meter.serial), leaf.dead)
    plan = house.scenario.image.model_copy(update={"block_size": model.firmware.block_bytes})
    meter = SimulatedMeter(station.seed, leaf.number, image_plan=plan)
    files, faults = ImageFiles(meter, model, model.firmware, house.now), house.faults_of(meter.serial)
    if faults.touches_images:
        meter.part(ImageStore).troubles = troubles_of(faults)
    return Slave(meter, ModelMap(model, meter.serial, files.shows), faults, leaf.dead, files)
