"""Slots of a real broker, read by workers: resumed sessions, acknowledgements to concentrators, fencing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiomqtt
import pytest

from headend.mqtt.broker import Broker
from headend.mqtt.connection import connect
from headend.mqtt.slots import Plan, Worker
from headend.store import ingest_slots
from headend.store.pool import Pool, open_pool
from tests.conftest import Database

from .conftest import Mosquitto
from .field import add_fleet, batch, lost, make_ingest, tasmota

GUARD_S = 60.0
PLAN = Plan(
    {"0": ("headend/batch/+", "tele/#")}, lease_s=0.6, gap_poll_s=0.05, gap_first_s=0.1, gap_attempts=50
)


@pytest.fixture
async def pool(embedded_database: Database) -> AsyncIterator[Pool]:
    async with open_pool(embedded_database.dsn, max_size=8) as opened:
        await add_fleet(opened)
        yield opened


@asynccontextmanager
async def working(pool: Pool, broker: Mosquitto, plan: Plan = PLAN, name: str = "w") -> AsyncIterator[Worker]:
    worker = Worker(Broker(broker.url), pool.connection, make_ingest(pool), plan, name=name)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        while not task.done():  # asked again: a pool may lose a cancellation (before Python 3.12)
            task.cancel()
            await asyncio.wait([task], timeout=1)
        with pytest.raises(asyncio.CancelledError):
            await task


async def stored(pool: Pool) -> int:
    async with pool.connection() as connection:
        cursor = await connection.execute(b"SELECT count(*) FROM interval_reads")
        (count,) = await cursor.fetchone() or (0,)
    return int(count)


async def eventually(pool: Pool, count: int) -> None:
    async with asyncio.timeout(GUARD_S):
        while await stored(pool) < count:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.02)


async def subscribed(pool: Pool) -> None:
    """Wait until the session of the slot gets messages."""
    async with asyncio.timeout(GUARD_S):
        filters: tuple[str, ...] = ()
        while not filters:
            async with pool.connection() as connection:
                filters = next((s.filters for s in await ingest_slots.all_slots(connection)), ())
            await asyncio.sleep(0.02)


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not done():  # noqa: ASYNC110 - other tasks and processes are waited for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def concentrator(port: int) -> AsyncIterator[tuple[aiomqtt.Client, list[dict[str, object]]]]:
    """A client that hears what is said to concentrators."""
    heard: list[dict[str, object]] = []

    async def listen() -> None:
        async for message in client.messages:
            heard.append(json.loads(bytes(message.payload)))  # noqa: PERF401 - it never ends

    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe([("headend/ack/dc1", 1), ("headend/request/dc1", 1)])
        task = asyncio.create_task(listen())
        try:
            yield client, heard
        finally:
            task.cancel()


async def test_a_batch_is_stored_and_acknowledged_to_its_concentrator(
    pool: Pool, mosquitto: Mosquitto
) -> None:
    async with concentrator(mosquitto.port) as (client, heard), working(pool, mosquitto):
        await subscribed(pool)
        for told in (batch(0), tasmota(0, 15), batch(1)):
            await client.publish(*told, qos=1)
        await eventually(pool, 11)
        await until(lambda: heard and heard[-1]["last"] == 1)
    assert all(told["format"] == "headend.batch-ack.1" for told in heard)
    assert heard[0]["first"] == 0


async def test_a_missing_batch_is_asked_for_until_it_comes_or_is_lost(
    pool: Pool, mosquitto: Mosquitto
) -> None:
    def requests() -> list[tuple[object, object]]:
        return [(t["first"], t["last"]) for t in heard if t["format"] == "headend.batch-request.1"]

    async with concentrator(mosquitto.port) as (client, heard), working(pool, mosquitto):
        await subscribed(pool)
        for told in (batch(0), batch(4)):
            await client.publish(*told, qos=1)
        await until(lambda: len(requests()) > 2)
        assert set(requests()) == {(1, 3)}
        await client.publish(*batch(2), qos=1)
        await until(lambda: {(1, 1), (3, 3)} <= set(requests()))
        for told in (batch(1), lost(3, 3)):
            await client.publish(*told, qos=1)
        await eventually(pool, 20)
        async with pool.connection() as connection, asyncio.timeout(GUARD_S):
            closed = False
            while not closed:
                cursor = await connection.execute(b"SELECT closed_at IS NOT NULL FROM batch_gaps")
                ((closed,),) = await cursor.fetchall()
                await connection.rollback()
                await asyncio.sleep(0.02)


async def test_a_worker_resumes_what_another_left(pool: Pool, mosquitto: Mosquitto) -> None:
    async with working(pool, mosquitto):
        await subscribed(pool)
        async with connect(Broker(mosquitto.url), "test") as publisher:
            await publisher.publish(*batch(0))
            await eventually(pool, 5)
    async with connect(Broker(mosquitto.url), "test") as publisher:
        for number in range(1, 20):
            await publisher.publish(*batch(number))
    async with working(pool, mosquitto, name="other"):
        await eventually(pool, 100)


async def test_a_second_worker_stands_by(pool: Pool, mosquitto: Mosquitto) -> None:
    plan = replace(PLAN, lease_s=2.0)  # renewed each half second, however slow the machine is
    async with working(pool, mosquitto, plan, name="a") as one:
        await until(lambda: one.slots)
        async with working(pool, mosquitto, plan, name="b") as two:
            await asyncio.sleep(2.5)  # more than a lease
            assert (one.slots, two.slots) == (("0",), ())


async def test_a_filter_that_left_the_settings_leaves_the_session(pool: Pool, mosquitto: Mosquitto) -> None:
    async with working(pool, mosquitto):
        await subscribed(pool)
        async with connect(Broker(mosquitto.url), "test") as publisher:
            await publisher.publish(*batch(0))
            await eventually(pool, 5)
    async with working(pool, mosquitto, replace(PLAN, filters={"0": ("headend/batch/+",)})) as worker:
        async with connect(Broker(mosquitto.url), "test") as publisher:
            await publisher.publish(*batch(1))
            await eventually(pool, 10)
            await publisher.publish(*tasmota(0, 15))
            await publisher.publish(*batch(2))
            await eventually(pool, 15)
        assert worker._ingest.totals.received == 2


async def test_the_broker_goes_and_comes_back(pool: Pool, mosquitto: Mosquitto) -> None:
    async with working(pool, mosquitto, replace(PLAN, retry_longest_s=0.3)):
        await subscribed(pool)
        async with connect(Broker(mosquitto.url), "test") as publisher:
            await publisher.publish(*batch(0))
            await eventually(pool, 5)
        mosquitto.stop()
        await asyncio.sleep(0.3)
        mosquitto.start()
        async with connect(Broker(mosquitto.url), "test") as publisher:
            await publisher.publish(*batch(1))
        await eventually(pool, 10)


async def test_a_slot_that_left_the_settings_is_drained(pool: Pool, mosquitto: Mosquitto) -> None:
    two = replace(PLAN, filters={"0": ("headend/batch/+",), "1": ("tele/#",)})
    async with working(pool, mosquitto, two):
        async with asyncio.timeout(GUARD_S):
            found: list[ingest_slots.Slot] = []
            while [bool(slot.filters) for slot in found] != [True, True]:
                async with pool.connection() as connection:
                    found = await ingest_slots.all_slots(connection)
                await asyncio.sleep(0.02)
    async with connect(Broker(mosquitto.url), "test") as publisher:
        await publisher.publish(*tasmota(0, 15))
        async with working(pool, mosquitto, replace(PLAN, filters={"0": ("headend/batch/+",)})):
            await eventually(pool, 1)
            async with asyncio.timeout(GUARD_S):
                while any(slot.slot == "1" and slot.filters for slot in found):
                    async with pool.connection() as connection:
                        found = await ingest_slots.all_slots(connection)
                    await asyncio.sleep(0.02)
