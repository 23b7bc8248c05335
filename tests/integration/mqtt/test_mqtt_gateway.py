"""DL/T 645 behind a transparent MQTT gateway, over a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import aiomqtt
import pytest

from headend.drivers.dlt645.driver import Dlt645Driver
from headend.drivers.line_driver import LineTiming
from headend.mqtt.broker import Broker
from headend.mqtt.gateway import GatewayLines
from protocols.errors import LinkClosed, LinkError, LinkTimeout
from schemas.address import LinkAddress
from tests.contract.subjects import meter
from tests.integration.line_peers import Meter645

from .conftest import Mosquitto

QUICK = LineTiming(connect_s=10.0, answer_s=5.0, quiet_s=0.01)
ADDRESS = "dlt645+mqtt:///plant/gw7?meter=000000000001"


@asynccontextmanager
async def gateway(port: int, answer: Callable[[bytes], bytes]) -> AsyncIterator[None]:
    """Passes bytes to a meter on its line, and the answer back in two messages."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("plant/gw7/down", qos=1)
        await client.publish("plant/gw7/up", b"what was said long ago", qos=1, retain=True)

        async def carry() -> None:
            async for message in client.messages:
                said = answer(bytes(message.payload))
                for part in (said[:5], said[5:]):
                    await client.publish("plant/gw7/up", part, qos=1)

        task = asyncio.create_task(carry())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def driver(mosquitto: Mosquitto) -> Dlt645Driver:
    return Dlt645Driver(timing=QUICK, dial_mqtt=GatewayLines(Broker(mosquitto.url)).dial)


async def test_a_meter_behind_an_mqtt_gateway_is_read(mosquitto: Mosquitto) -> None:
    line = driver(mosquitto)
    way = (await line.prepare([meter(1, "dlt645-2007", ADDRESS)]))[1]
    device = Meter645({"00-01-FF-00": bytes.fromhex("7856341200000001")})
    async with gateway(mosquitto.port, device):
        for _ in range(2):
            async with line.open(way) as conversation:
                batch, _ = await conversation.read_registers(["1-0:1.8.0*255"])
                assert [one.value for one in batch.registers] == [Decimal(123456780)]


async def test_a_gateway_that_is_silent_is_the_links_fault(mosquitto: Mosquitto) -> None:
    line = driver(mosquitto)
    way = (await line.prepare([meter(1, "dlt645-2007", ADDRESS)]))[1]
    with pytest.raises(LinkTimeout):
        async with line.open(way, answer_s=0.2) as conversation:
            await conversation.read_registers(["1-0:1.8.0"])


async def test_a_broker_that_goes_or_is_not_there(mosquitto: Mosquitto) -> None:
    lines = GatewayLines(Broker(mosquitto.url))
    address = LinkAddress.parse(ADDRESS)
    stream = await lines.dial(address, 10.0)
    assert stream.is_open
    mosquitto.stop()
    loop = asyncio.get_running_loop()
    with pytest.raises(LinkClosed):
        await stream.read_some(loop.time() + 10)
    with pytest.raises(LinkClosed):
        stream.write(b"x")
    await stream.wait_closed(loop.time() + 10)
    with pytest.raises(LinkError):
        await lines.dial(address, 5.0)


async def test_what_was_written_is_sent_before_the_line_is_closed(mosquitto: Mosquitto) -> None:
    heard: list[bytes] = []

    def answer(data: bytes) -> bytes:
        heard.append(data)
        return b"."

    async with gateway(mosquitto.port, answer):
        stream = await GatewayLines(Broker(mosquitto.url)).dial(LinkAddress.parse(ADDRESS), 10.0)
        stream.write(b"last words")
        await stream.wait_closed(asyncio.get_running_loop().time() + 10)
        assert not stream.is_open
        async with asyncio.timeout(10):
            while not heard:  # noqa: ASYNC110 - the peer hears it when it hears it
                await asyncio.sleep(0.01)
    assert heard == [b"last words"]
