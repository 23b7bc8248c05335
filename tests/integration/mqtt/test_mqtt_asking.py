"""A device of a real broker is asked for its registers, and its answer alone is taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import aiomqtt
import pytest

from headend.drivers.mqtt.driver import MqttDriver
from headend.mqtt.broker import Broker
from headend.mqtt.exchange import BrokerExchange
from protocols.errors import LinkError, LinkTimeout
from tests.contract.subjects import meter

from .conftest import Mosquitto

ANSWER = b'{"StatusSNS":{"Time":"2026-11-22T12:00:00","ENERGY":{"Total":12.345,"Power":7}}}'


@asynccontextmanager
async def device(port: int) -> AsyncIterator[None]:
    """Answers as Tasmota does, once for each time it is asked."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("cmnd/plug/STATUS", qos=1)
        # what it said long ago is no answer
        await client.publish(
            "stat/plug/STATUS10", b'{"StatusSNS":{"ENERGY":{"Total":1}}}', qos=1, retain=True
        )

        async def answer() -> None:
            async for message in client.messages:
                assert message.payload == b"10"
                await client.publish("stat/plug/STATUS10", ANSWER, qos=1)

        task = asyncio.create_task(answer())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_a_device_is_asked_and_answers(mosquitto: Mosquitto) -> None:
    driver = MqttDriver(BrokerExchange(Broker(mosquitto.url)))
    target = meter(1, "tasmota", "mqtt:plug")
    ways = await driver.prepare([target])
    async with device(mosquitto.port), driver.open(ways[1], answer_s=20) as conversation:
        for _ in range(2):
            batch, refusals = await conversation.read_registers(["1-0:1.8.0", "1-0:32.7.0"])
            assert [(one.obis, one.value) for one in batch.registers] == [("1-0:1.8.0*255", Decimal(12345))]
            assert [one.obis for one in refusals] == ["1-0:32.7.0*255"]
        assert len(conversation.answers_s) == 2


async def test_a_device_that_is_not_there_is_the_links_fault(mosquitto: Mosquitto) -> None:
    driver = MqttDriver(BrokerExchange(Broker(mosquitto.url)))
    way = (await driver.prepare([meter(1, "tasmota", "mqtt:nobody")]))[1]
    with pytest.raises(LinkTimeout, match=r"mqtt:nobody: no answer within 0\.3 s"):
        async with driver.open(way, answer_s=0.3) as conversation:
            await conversation.read_registers()
    mosquitto.stop()
    with pytest.raises(LinkError):
        async with driver.open(way, answer_s=0.3):
            pass
