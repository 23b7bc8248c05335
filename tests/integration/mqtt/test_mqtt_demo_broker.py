"""The demonstration's broker does what the product asks of a broker."""

import asyncio
import socket

import pytest

from headend.demo_broker import DemoBrokerError, demo_broker
from headend.mqtt.broker import Broker
from headend.mqtt.connection import Message, connect


async def test_it_keeps_a_session_and_what_is_not_acknowledged() -> None:
    async with demo_broker() as url, connect(Broker(url), "publisher") as publisher:
        async with connect(Broker(url), "slot") as connection:
            await connection.subscribe(["t/#"])
            for number in range(20):
                await publisher.publish("t/x", b"%d" % number)
            first = await taken(connection.take, 20)
            connection.acknowledge(first[:5])
            await asyncio.sleep(0.2)  # the acknowledgements are on their way, and nothing answers them
        await publisher.publish("t/x", b"x" * 500_000)
        async with connect(Broker(url), "slot") as connection:
            again = await taken(connection.take, 16)
    assert [m.payload for m in again[:15]] == [b"%d" % n for n in range(5, 20)]
    assert len(again[15].payload) == 500_000


async def taken(take: object, count: int) -> list[Message]:
    found: list[Message] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await take(100, 1 << 20, 1.0)  # type: ignore[operator]
    return found


async def test_it_is_gone_afterwards_and_says_when_its_port_is_taken() -> None:
    async with demo_broker() as url:
        host, port, _ = Broker(url).place
        with pytest.raises(DemoBrokerError, match=str(port)):
            async with demo_broker(port):
                pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, port), 1).close()
