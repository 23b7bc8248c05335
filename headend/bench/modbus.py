"""Modbus under measurement: ``python -m headend.bench.modbus client`` and ``... slaves``, two processes.

The slaves are pymodbus' server: Eastron SDM630 on one bus, over TCP and over RTU frames in TCP; units that
are not there are silent. The client reads them by our driver, and by bare calls of pymodbus for the same
registers, with and without their conversion to floats.
"""

import asyncio
import hashlib
import json
import logging
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import uvloop
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from headend.bench import worker
from headend.drivers.contract import Conversation, Target, Way
from headend.drivers.modbus.driver import ModbusDriver
from headend.links.links import Links
from protocols.errors import CommunicationError
from protocols.modbus.plan import Span
from protocols.modbus.readout import Readout
from schemas.meter import Meter, MeterState
from schemas.reading import ReadingBatch
from schemas.register_model import load_register_model

MODEL: Final = "eastron-sdm630"
SLAVES: Final = 20
#: Units from here on answer nothing.
DEAD: Final = 200
_NOON: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
_QUARTER: Final = timedelta(minutes=15)
_WORDS: Final = 400


# ---- slaves ---------------------------------------------------------------------------------------


def _slave(unit: int) -> SimDevice:
    """Float n + unit / 8 in register pair n, exact in any notation."""
    words: list[int] = []
    for pair in range(_WORDS // 2):
        words += struct.unpack(">HH", struct.pack(">f", pair + unit / 8))
    return SimDevice(id=unit, simdata=[SimData(0, values=words, datatype=DataType.REGISTERS)])


async def _slaves() -> None:
    """Serve until standard input ends."""
    logging.disable()  # what is asked of units that are not there
    devices = [_slave(unit) for unit in range(1, SLAVES + 1)]
    ports = {}
    for name, framer, at in (("tcp", FramerType.SOCKET, 6), ("rtu", FramerType.RTU, 0)):

        def trace(is_sent: bool, data: bytes, at: int = at) -> bytes:
            return data if not is_sent or data[at] < DEAD else b""

        server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", 0), trace_packet=trace)
        await server.serve_forever(background=True)
        sockets = server.transport.sockets  # type: ignore[attr-defined]
        ports[name] = sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    await ended.wait()


# ---- client ---------------------------------------------------------------------------------------


def _target(scheme: str, port: int, unit: int) -> Target:
    address = f"{scheme}://127.0.0.1:{port}?unit={unit}"
    state = MeterState.COMMISSIONED
    return Target(Meter(unit, f"M{unit}", MODEL, None, None, address, None, None, state, _NOON, _NOON, _NOON))


async def _ways(driver: ModbusDriver, scheme: str, port: int, units: list[int]) -> list[Way]:
    found = await driver.prepare([_target(scheme, port, unit) for unit in units])
    ways = []
    for unit in units:
        way = found[unit]
        assert not isinstance(way, Exception), way
        ways.append(way)
    return ways


def _print_of(values: list[Decimal]) -> str:
    return hashlib.sha256(repr([str(value) for value in values]).encode()).hexdigest()


async def _repeat(poll: Callable[[int], Awaitable[object]], seconds: float, fingerprint: str) -> worker.Round:
    """Poll slave after slave for ``seconds`` of the clock."""
    for place in range(SLAVES):
        await poll(place)
    count = 0
    wall, cpu = time.perf_counter(), time.process_time()
    end = wall + seconds
    while (now := time.perf_counter()) < end:
        await poll(count % SLAVES)
        count += 1
    return worker.Round(
        count=count, cpu_s=time.process_time() - cpu, wall_s=now - wall, fingerprint=fingerprint
    )


def _registers() -> tuple[str, ...]:
    model = load_register_model(MODEL)
    return tuple(
        name for name, one in model.registers.items() if one.obis and one.group in ("energy", "live")
    )


def _quantities() -> tuple[str, ...]:
    return tuple(name for name, one in load_register_model(MODEL).registers.items() if one.quantity)


async def _read(conversation: Conversation, what: str) -> ReadingBatch:
    if what == "sample":
        return await conversation.read_load_curve(1, _NOON - _QUARTER, _NOON)
    return (await conversation.read_registers()).batch


def _values(batch: ReadingBatch) -> list[Decimal]:
    if not len(batch):
        return [one.value for one in batch.registers if one.value is not None]
    channels = batch.layouts[0].channels
    return [
        channel.exact(int(batch.values[0, column]))
        for column, channel in enumerate(channels)
        if channel is not None
    ]


async def _ours(request: Mapping[str, Any]) -> worker.Round:
    driver = ModbusDriver(now=lambda: _NOON)
    scheme, what = request["scheme"], request["what"]
    try:
        ways = await _ways(driver, scheme, request["port"], list(range(1, SLAVES + 1)))

        async def poll(place: int) -> ReadingBatch:
            async with driver.open(ways[place]) as conversation:
                return await _read(conversation, what)

        first = _values(await poll(0))
        return await _repeat(poll, request["seconds"], _print_of([Decimal(str(float(one))) for one in first]))
    finally:
        driver.close()


async def _bare(request: Mapping[str, Any]) -> worker.Round:
    rtu = request["scheme"] != "modbus+tcp"
    client = AsyncModbusTcpClient(
        "127.0.0.1", port=request["port"], framer=FramerType.RTU if rtu else FramerType.SOCKET
    )
    await client.connect()
    readout = Readout(
        load_register_model(MODEL), _quantities() if request["what"] == "sample" else _registers()
    )
    blocks = [(block.address, block.count) for block in readout.blocks]
    model = load_register_model(MODEL)
    wanted = _quantities() if request["what"] == "sample" else _registers()
    places = [
        [model.registers[name].at - at for name in wanted if at <= model.registers[name].at < at + count]
        for at, count in blocks
    ]
    converts = request.get("converts", False)

    async def poll(place: int) -> list[list[int]]:
        found = []
        for address, count in blocks:
            answer = await client.read_input_registers(address, count=count, device_id=place + 1)
            found.append(list(answer.registers))
        if converts:
            for words, offsets in zip(found, places, strict=True):
                for at in offsets:
                    client.convert_from_registers(words[at : at + 2], client.DATATYPE.FLOAT32)
        return found

    answers: dict[Span, list[int] | None] = dict(zip(readout.blocks, await poll(0), strict=True))
    first = [one.value for one in readout.decode(answers) if one.value is not None]
    try:
        return await _repeat(poll, request["seconds"], _print_of([Decimal(str(float(one))) for one in first]))
    finally:
        client.close()


async def _bus(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rounds over two buses by turns, a healthy one and one with ``dead`` slaves, by `Links` with its
    breakers: seconds of each, the first one first."""
    rounds: dict[str, list[float]] = {"healthy": [], "dead": []}
    drivers = {name: ModbusDriver(now=lambda: _NOON) for name in rounds}
    links = Links()
    try:
        ways = {}
        for name, driver in drivers.items():
            dead = request["dead"] if name == "dead" else 0
            units = [unit + DEAD if unit <= dead else unit for unit in range(1, SLAVES + 1)]
            ways[name] = await _ways(driver, "modbus+rtu+tcp", request["port"], units)
        for _ in range(request["rounds"]):
            for name, driver in drivers.items():
                began = time.perf_counter()
                for way in ways[name]:
                    try:
                        async with links.conversation(driver, way) as conversation:
                            assert len(await _read(conversation, "sample")) == 1
                    except CommunicationError:
                        assert way.target.meter.meter_id > DEAD
                rounds[name].append(time.perf_counter() - began)
        return rounds
    finally:
        for driver in drivers.values():
            driver.close()


def main() -> None:
    """One of the two processes."""
    if sys.argv[1:] == ["slaves"]:
        asyncio.run(_slaves())  # as pymodbus runs its servers
    else:
        worker.serve(
            {
                "ours": lambda request: uvloop.run(_ours(request)),
                "bare": lambda request: uvloop.run(_bare(request)),
                "converted": lambda request: uvloop.run(_bare({**request, "converts": True})),
                "bus": lambda request: uvloop.run(_bus(request)),
            }
        )


if __name__ == "__main__":
    main()
