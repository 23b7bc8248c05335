"""File records (functions 20 and 21) against pymodbus, as server and as client.

Its server keeps no files: it decodes requests, repeats writes and answers any read with a text of its own.
What such firmware means to a meter is this project's own convention, so there is no recorded trace of it, and
no foreign peer.
"""

import asyncio
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.pdu.file_message import FileRecord, WriteFileRecordRequest

from concentrator_sim.field import Field
from concentrator_sim.image import ImageStore, simulated_image
from concentrator_sim.modbus_station import ModbusStation
from concentrator_sim.scenario import make_scenario
from headend.drivers.modbus.bus import Bus
from protocols.modbus.requests import read_file, write_file, write_registers
from schemas.address import LinkAddress
from schemas.register_model import load_register_model
from tests.integration.modbus_peers import port_of, serving_tcp, slave

FRAMERS = {"modbus+tcp": FramerType.SOCKET, "modbus+rtu+tcp": FramerType.RTU}
DUMMY = b"SERVER DUMMY RECORD."
NOW = 1_800_000_123


@pytest.mark.parametrize("scheme", FRAMERS)
async def test_pymodbus_understands_what_we_write_and_we_what_it_answers(scheme: str) -> None:
    got: list[Any] = []

    def trace(is_sent: bool, pdu: Any) -> Any:
        if not is_sent:
            got.append(pdu)
        return pdu

    data = bytes(range(244))  # the most that a request holds
    async with serving_tcp(slave(7, {0: 1, 1: 2, 2: 3}), framer=FRAMERS[scheme]) as server:
        server.trace_pdu = trace
        bus = Bus(
            LinkAddress.parse(f"{scheme}://127.0.0.1:{port_of(server)}?unit=7"), connect_s=10, idle_s=10
        )
        try:
            assert (await bus.ask(7, write_file(3, 9_878, data), 10)).data == b""
            assert (await bus.ask(7, write_file(0xFFFF, 0, b"\1\2"), 10)).data == b""
            assert (await bus.ask(7, read_file(4, 12, len(DUMMY) // 2), 10)).data == DUMMY
            assert (await bus.ask(7, write_registers(1, b"\0\5\0\6"), 10)).data == b""
        finally:
            bus.close()
    assert isinstance(got[0], WriteFileRecordRequest)
    written = [
        (one.file_number, one.record_number, one.record_data) for pdu in got[:2] for one in pdu.records
    ]
    assert written == [(3, 9_878, data), (0xFFFF, 0, b"\1\2")]
    (read,) = got[2].records
    assert (read.file_number, read.record_number, read.record_length) == (4, 12, 10)
    assert (got[3].address, got[3].registers) == (1, [5, 6])


@pytest.mark.parametrize("kind", ["modbus_tcp", "modbus_rtu_tcp"])
async def test_pymodbus_gives_a_simulated_meter_a_program(kind: str) -> None:
    image = simulated_image("2.0.0", 300)
    blocks = [image[at : at + 128] for at in range(0, len(image), 128)]
    plan = {"kind": kind, "meters": 1, "models": ["headend-sim-modbus"]}
    table = {"meters": 0, "base_port": 0, "stations": [plan], "image": {"restart_s": 5}}
    now = [NOW]
    at = {name: one.at for name, one in load_register_model("headend-sim-modbus").registers.items()}
    async with Field(make_scenario(table), clock=lambda: now[0]) as field:
        (station,) = field.stations
        assert isinstance(station, ModbusStation)
        address = LinkAddress.parse(station.address)
        framer = FRAMERS[str(address.scheme)]
        client = AsyncModbusTcpClient(
            str(address.host), port=address.port or 0, framer=framer, timeout=5, retries=0
        )
        assert await client.connect()
        try:

            async def write(name: str, *words: int) -> Any:
                return await client.write_registers(at[name], list(words), device_id=1)

            async def status() -> int:
                return (await client.read_holding_registers(at["image_status"], device_id=1)).registers[0]

            async def send(number: int, record: int) -> Any:
                part = FileRecord(file_number=2, record_number=record, record_data=blocks[number])
                return await client.write_file_record([part], device_id=1)

            async def bitmap() -> bytes:
                part = FileRecord(file_number=1, record_number=0, record_length=2)
                return (await client.read_file_record([part], device_id=1)).records[0].record_data

            assert (await send(0, 0)).exception_code == 2  # nothing was begun
            assert not (await write("image_size", 0, len(image))).isError()
            assert not (await write("image_identifier", 0x5349, 0x4D00, *[0] * 30)).isError()
            assert (await write("image_control", 99)).exception_code == 3
            assert (await write("firmware_version", 1)).exception_code == 2
            assert not (await write("image_control", 1)).isError()
            assert await status() == 1
            for number in (0, 2):
                assert not (await send(number, 64 * number)).isError()
            assert (await send(1, 63)).exception_code == 2  # no block begins there
            assert await bitmap() == b"\xa0\0"
            assert not (await send(1, 64)).isError()
            assert await bitmap() == b"\xe0\0"
            await write("image_control", 2)
            assert await status() == 3
            assert not (await write("image_control", 3)).isError()
            if kind == "modbus_tcp":  # it restarts; on an RTU line that is silence
                assert (await write("image_control", 3)).exception_code == 11
            now[0] += 5
            assert await status() == 6
            told = (
                await client.read_holding_registers(at["firmware_version"], count=8, device_id=1)
            ).registers
            assert b"".join(word.to_bytes(2) for word in told) == b"2.0.0".ljust(16, b"\0")
        finally:
            client.close()
            await asyncio.sleep(0)
        assert station._slaves[1].meter.part(ImageStore).counts == (3, 0, 0, 1)
