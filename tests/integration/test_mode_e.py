"""A DLMS meter behind the opening of IEC 62056-21: signed on, brought to HDLC (mode E), associated, read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario
from headend.drivers.dlms.driver import DlmsDriver
from headend.session.access import Access
from headend.session.deadlines import Deadlines
from protocols.errors import RemoteProtocolError
from tests.contract.subject_dlms import NAME, _no_database, _NoCounters
from tests.contract.subjects import meter


@asynccontextmanager
async def _optical_head(hdlc_port: int, identification: bytes) -> AsyncIterator[int]:
    """A port that opens as a meter in mode E does, and is then the meter's HDLC."""
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        sinks = [writer]
        try:
            assert await reader.readuntil(b"!\r\n") == b"/?12345!\r\n"
            writer.write(identification)
            option = await reader.readexactly(6)
            assert (option[:2], option[3:]) == (b"\x062", b"2\r\n")
            writer.write(option)
            theirs, meters = await asyncio.open_connection("127.0.0.1", hdlc_port)
            sinks.append(meters)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pipe(reader, meters))
                both.create_task(_pipe(theirs, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it hung up
        finally:
            for sink in sinks:
                sink.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(4096):
        sink.write(data)
    sink.close()


def _driver() -> DlmsDriver:
    access = Access(
        _no_database,
        None,
        _NoCounters(),  # type: ignore[arg-type]
        system_title=bytes.fromhex("4845440000000001"),
        deadlines=Deadlines(connect_s=10.0, release_s=1.0),
    )
    return DlmsDriver(access)


async def test_a_dlms_meter_is_read_through_mode_e() -> None:
    scenario = make_scenario({"meters": 1, "base_port": 0, "security": "none", "framing": "hdlc"})
    async with Field(scenario) as field:
        (item,) = field.meters
        async with _optical_head(item.port, b"/HED5\\2HES000001\r\n") as port:
            driver = _driver()
            target = meter(1, "headend-sim", f"iec62056+tcp://127.0.0.1:{port}?meter=12345")
            way = (await driver.prepare([target]))[1]
            assert not isinstance(way, Exception), way
            async with driver.open(way) as conversation:
                readout = await conversation.read_registers([NAME])
    assert [one.text for one in readout.batch.registers] == [item.meter.name]


async def test_a_meter_without_hdlc_says_so() -> None:
    async with _optical_head(1, b"/HED5HES000001\r\n") as port:
        driver = _driver()
        target = meter(1, "headend-sim", f"iec62056+tcp://127.0.0.1:{port}?meter=12345")
        way = (await driver.prepare([target]))[1]
        assert not isinstance(way, Exception), way
        with pytest.raises(RemoteProtocolError, match="offers no HDLC"):
            async with driver.open(way):
                pass
