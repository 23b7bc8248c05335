"""The connection on a real mosquitto: sessions that are kept, acknowledgement by us, a bounded buffer."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest

from headend.mqtt.broker import Broker, BrokerRefused
from headend.mqtt.connection import Connection, connect
from protocols.errors import LinkClosed, LinkError

from .conftest import Mosquitto


async def publish(port: int, messages: Sequence[tuple[str, bytes]], *, qos: int = 1) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for topic, payload in messages:
            await client.publish(topic, payload, qos=qos)


async def collect(connection: Connection, count: int) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [(m.topic, m.payload) for m in await connection.take(1000, 1 << 20, 1.0)]
    return found


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 - a process outside is waited for
            await asyncio.sleep(0.01)


def test_the_private_names_are_there() -> None:
    """What connection.py uses below the surface of aiomqtt and paho."""
    assert {"_client", "_disconnected"} <= set(aiomqtt.Client.__init__.__code__.co_names)
    for name in ("ack", "manual_ack_set", "loop_read", "socket"):
        assert callable(getattr(paho.Client, name))
    assert isinstance(paho.Client.on_message, property)


async def test_what_is_not_acknowledged_comes_again(mosquitto: Mosquitto) -> None:
    broker = Broker(mosquitto.url)
    sent = [(f"t/{n}", b"%d" % n) for n in range(50)]
    async with connect(broker, "slot") as connection:
        await connection.subscribe(["t/#"])
        await publish(mosquitto.port, sent)
        async with asyncio.timeout(10):
            first = await connection.take(20, 1 << 20, 5.0)
            while len(first) < 20:
                first += await connection.take(20 - len(first), 1 << 20, 5.0)
        connection.acknowledge(first)
    async with connect(broker, "slot") as connection:
        assert await collect(connection, 30) == sent[20:]


async def test_what_came_while_nobody_was_there_waits_through_a_restart(mosquitto: Mosquitto) -> None:
    broker = Broker(mosquitto.url)
    async with connect(broker, "slot") as connection:
        await connection.subscribe(["t/#"])
    sent = [("t/x", b"%d" % n) for n in range(3000)]
    async with aiomqtt.Client("127.0.0.1", mosquitto.port, max_inflight_messages=1000) as client:
        client.pending_calls_threshold = 5000
        await asyncio.gather(*(client.publish(t, p, qos=1) for t, p in sent))
    mosquitto.stop()
    mosquitto.start()
    async with connect(broker, "slot") as connection:
        assert sorted(await collect(connection, 3000)) == sorted(sent)


async def test_a_full_buffer_stops_reading_and_loses_nothing(mosquitto: Mosquitto) -> None:
    broker = Broker(mosquitto.url)
    async with connect(broker, "slot", room=10) as connection:
        await connection.subscribe(["t/#"])
        sent = [("t/x", b"%d" % n) for n in range(500)]
        publishing = asyncio.create_task(publish(mosquitto.port, sent))
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert connection.received <= 11
        found: list[tuple[str, bytes]] = []
        async with asyncio.timeout(20):
            while len(found) < 500:
                bunch = await connection.take(7, 1 << 20, 1.0)
                connection.acknowledge(bunch)
                found += [(m.topic, m.payload) for m in bunch]
        await publishing
        assert found == sent


async def test_what_the_connection_brought_is_given_out_after_its_end(mosquitto: Mosquitto) -> None:
    async with connect(Broker(mosquitto.url), "slot") as connection:
        await connection.subscribe(["t/#"])
        await publish(mosquitto.port, [("t/x", b"1"), ("t/x", b"2")])
        await until(lambda: connection.received == 2)
        mosquitto.stop()
        await until(lambda: not connection.is_open)
        left = await connection.take(10, 1 << 20, 1.0)
        assert [m.payload for m in left] == [b"1", b"2"]
        connection.acknowledge(left)  # has no effect, and no error
        with pytest.raises(LinkClosed):
            await connection.take(10, 1 << 20, 1.0)
        with pytest.raises(LinkError):
            await connection.publish("t/y", b"")
        mosquitto.start()


async def test_nobody_there(mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    with pytest.raises(LinkError):
        async with connect(Broker(mosquitto.url), "slot"):
            pass


async def test_a_wrong_password_is_said_without_it(tmp_path: Path, mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    closed = Mosquitto(tmp_path, "allow_anonymous false")
    closed.start()
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    broker = Broker(closed.url, "headend", secret)
    try:
        with pytest.raises(BrokerRefused) as refused:
            async with connect(broker, "slot"):
                pass
    finally:
        closed.stop()
    assert "hunter2" not in str(refused.value) + repr(broker)


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "mqtt://user:secret@host", "mqtt://h/path"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError) as error:
        _ = Broker(url).place
    assert "secret" not in str(error.value)
