"""Meters that dial in and push, the simulated field against the listeners over real sockets.

The field shares our codec; what it shows is that claims, proofs, lines and confirms go together.
"""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from concentrator_sim.field import Field, unix_now
from concentrator_sim.outbound import Pusher
from concentrator_sim.push import framed, heartbeat, notifications
from concentrator_sim.scenario import Framing, Scenario
from concentrator_sim.station import bus_of
from headend.drivers.contract import Target
from headend.ingest.meter_import import import_meters
from headend.ingest.pipeline import Pipeline
from headend.keys.counters import CounterBlocks
from headend.keys.seal import MasterKey, Sealer
from headend.keys.vault import Vault
from headend.listen.directory import Directory
from headend.listen.inbound import InboundListener
from headend.listen.limits import Limits
from headend.listen.push import PushListener
from headend.session.access import Access
from headend.session.deadlines import Deadlines
from headend.store import inbox, meters
from headend.store.pool import open_pool
from headend.store.writer import write
from protocols.dlms import axdr, wrapper
from protocols.dlms.apdu.fields import Raw
from protocols.dlms.apdu.notification import EventNotificationRequest
from protocols.dlms.cosem import LOGICAL_DEVICE_NAME
from protocols.errors import LinkError
from schemas.config import Settings

TITLE = bytes.fromhex("4845440000000001")


class House:
    """Database, access and both listeners; ``door`` is where meters dial in."""

    def __init__(self, pool, vault, access, push, inbound):
        self.pool = pool
        self.vault = vault
        self.access = access
        self.push = push
        self.inbound = inbound

    @property
    def door(self):
        return f"127.0.0.1:{self.inbound.door.port}"

    async def import_field(self, field, change=lambda text: text):
        async with self.pool.connection() as connection:
            done = await import_meters(
                connection,
                change(field.csv()).encode(),
                vault=self.vault,
                since=datetime.now(UTC) - timedelta(days=1),
                actor="test",
                allow_plain_keys=True,
            )
        assert done.errors == ()

    async def meter(self, asset_id):
        async with self.pool.connection() as connection:
            return await meters.by_asset(connection, asset_id)

    async def name_of(self, asset_id):
        """The logical device name, read over the meter's own line."""
        reach = await self.access.prepare_one(Target(await self.meter(asset_id)))
        async with self.access.session(reach) as session:
            return axdr.decode_exact(await session.get(LOGICAL_DEVICE_NAME)).value.decode()

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the listener tells nobody what it counts
                await asyncio.sleep(0.005)


@asynccontextmanager
async def _house(dsn, greeting_s=10.0):
    settings = Settings(
        listen_push_tcp="127.0.0.1:0",
        listen_push_udp="127.0.0.1:0",
        listen_inbound="127.0.0.1:0",
        response_timeout_s=5,
    )
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn))
        async with pool.connection() as connection:
            vault = await Vault.open(connection, Sealer(MasterKey(bytes(32))))
        pipeline = await stack.enter_async_context(Pipeline(partial(write, pool), linger_s=0.01))
        access = await stack.enter_async_context(
            Access(
                pool.connection,
                vault,
                CounterBlocks(pool.connection, TITLE),
                system_title=TITLE,
                deadlines=Deadlines(associate_s=5, response_s=5),
            )
        )
        directory = Directory(pool.connection, vault, ttl_s=0.0)
        push = await stack.enter_async_context(
            PushListener(settings, pool.connection, vault, pipeline, directory=directory)
        )
        inbound = await stack.enter_async_context(
            InboundListener(
                settings, access, directory, push.handler, limits=Limits(idle_s=30), greeting_s=greeting_s
            )
        )
        access.notified = push.handler.told
        yield House(pool, vault, access, push, inbound)


@pytest.fixture
async def house(embedded_database):
    async with _house(embedded_database.dsn) as one:
        yield one


@pytest.fixture
async def brisk_house(embedded_database):
    """One that asks callers soon. Not for those that say a heartbeat, which may be late on a busy machine."""
    async with _house(embedded_database.dsn, greeting_s=0.2) as one:
        yield one


@pytest.fixture
async def impatient_house(embedded_database):
    """One that asks every caller at once, so that a heartbeat crosses the question."""
    async with _house(embedded_database.dsn, greeting_s=0.0) as one:
        yield one


@pytest.fixture
async def house_on_both(database):
    async with _house(database.dsn) as one:
        yield one


def field_for(house, **options):
    return Field(Scenario(seed=7, base_port=0, dial_in=house.door, **options))


@pytest.mark.parametrize("framing", [Framing.WRAPPER, Framing.HDLC])
async def test_meters_dial_in_prove_themselves_and_are_read_again_and_again(house, framing):
    field = field_for(house, meters=3, framing=framing)
    await house.import_field(field)
    async with field:
        await house.until(lambda: len(house.inbound.meters) == 3)
        for _ in range(2):
            for item in field.meters:
                assert await house.name_of(item.meter.serial) == item.meter.name
    assert house.inbound.totals.proven == 3
    await house.until(lambda: len(house.inbound.meters) == 0)
    with pytest.raises(LinkError, match="it dials in"):
        await house.name_of(field.meters[0].meter.serial)


async def test_a_newer_connection_replaces_the_older(house):
    field = field_for(house, meters=1)
    await house.import_field(field)
    (item,) = field.meters
    async with field:
        await house.until(lambda: len(house.inbound.meters) == 1)
        older = house.inbound.meters._lines[(await house.meter(item.meter.serial)).meter_id]
        closed = asyncio.Event()
        host, port = house.door.split(":")
        _, newer = await asyncio.get_running_loop().create_connection(
            lambda: field.connection(
                field_bus(item), item.framing, greeting=heartbeat(item.meter), closed=closed.set
            ),
            host,
            int(port),
        )
        await house.until(lambda: house.inbound.totals.proven == 2)
        assert await older.ended == "replaced by a newer connection"
        assert await house.name_of(item.meter.serial) == item.meter.name
        newer.close()


def field_bus(item):
    return bus_of([item.meter])


async def test_a_silent_meter_is_asked_for_its_name(brisk_house):
    house = brisk_house
    field = field_for(house, meters=1)
    await house.import_field(field)
    (item,) = field.meters
    host, port = house.door.split(":")
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: field.connection(field_bus(item), item.framing), host, int(port)
    )
    await house.until(lambda: len(house.inbound.meters) == 1)
    assert await house.name_of(item.meter.serial) == item.meter.name
    connection.close()


async def test_a_heartbeat_that_crosses_our_question_does_no_harm(impatient_house):
    house = impatient_house
    field = field_for(house, meters=2)
    await house.import_field(field)
    async with field:
        await house.until(lambda: len(house.inbound.meters) == 2)
        for item in field.meters:
            assert await house.name_of(item.meter.serial) == item.meter.name
    assert (house.inbound.totals.proven, house.inbound.totals.unproven) == (2, 0)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("keys", "rejected"),
        ("address", "its address is not inbound:"),
        ("unknown", "no meter, or more than one, is known as"),
    ],
)
async def test_a_claim_without_proof_is_worth_nothing(house, caplog, what, reason):
    field = field_for(house, meters=1)
    (item,) = field.meters
    changes = {
        "keys": lambda text: text.replace(item.meter.keys.encryption.reveal().hex(), "ab" * 16),
        "address": lambda text: text.replace("inbound:", "tcp://192.0.2.1:4059"),
        "unknown": lambda text: text.replace(item.meter.name, "OTHER"),
    }
    await house.import_field(field, changes[what])
    async with field:
        await house.until(lambda: house.inbound.totals.unproven >= 1)
    assert len(house.inbound.meters) == 0
    assert house.inbound.totals.proven == 0
    assert reason in caplog.text


@pytest.mark.parametrize("security", ["lls", "none"])
async def test_meters_that_cannot_prove_themselves_are_sent_away(house, caplog, security):
    field = field_for(house, meters=1, security=security)
    await house.import_field(field)
    async with field:
        await house.until(lambda: house.inbound.totals.unproven >= 1)
    assert house.inbound.totals.proven == 0
    assert "a meter that dials in needs high level security" in caplog.text


async def test_strangers_are_sent_away(brisk_house):
    house = brisk_house
    for words in (b"hello\r\n" * 10, b"SIM:NOBODY\r\n", b"\x7e\xa0"):
        before = house.inbound.totals.unproven
        reader, writer = await asyncio.open_connection(*house.door.split(":"))
        writer.write(words)
        async with asyncio.timeout(10):
            while await reader.read(100):
                pass
        writer.close()
        await house.until(lambda before=before: house.inbound.totals.unproven == before + 1)


async def test_heartbeats_between_sessions_are_taken(house):
    field = field_for(house, meters=1)
    await house.import_field(field)
    (item,) = field.meters
    async with field:
        await house.until(lambda: len(house.inbound.meters) == 1)
        (connection,) = field._connections
        for _ in range(3):
            connection._transport.write(heartbeat(item.meter))
            assert await house.name_of(item.meter.serial) == item.meter.name
        # and within a session, before the answer or together with it
        reach = await house.access.prepare_one(Target(await house.meter(item.meter.serial)))
        async with house.access.session(reach) as session:
            for _ in range(3):
                connection._transport.write(heartbeat(item.meter))
                assert await session.get(LOGICAL_DEVICE_NAME)
    assert house.push.totals.everything.bad_frames == 0
    assert house.inbound.totals.proven == 1


async def test_pushes_within_a_session_of_a_meter_that_dialled_in_are_stored(house):
    field = field_for(house, meters=1)
    await house.import_field(field)
    (item,) = field.meters
    async with field:
        await house.until(lambda: len(house.inbound.meters) == 1)
        (connection,) = field._connections
        reach = await house.access.prepare_one(Target(await house.meter(item.meter.serial)))
        async with house.access.session(reach) as session:
            for apdu in notifications(item.meter, unix_now):
                connection._transport.write(framed(apdu, item.framing, item.meter.management.sap, 0))
            assert await session.get(LOGICAL_DEVICE_NAME)
        await house.until(lambda: house.push.totals.everything.stored == 1)
    assert list(house.push.totals.by_source) == [f"session {item.meter.serial}"]


async def test_a_push_that_crosses_our_question_is_kept(impatient_house):
    house = impatient_house
    field = field_for(house, meters=1)
    await house.import_field(field)
    (item,) = field.meters
    event = EventNotificationRequest(None, LOGICAL_DEVICE_NAME, Raw(axdr.encode(axdr.u8(1)))).to_bytes()
    host, port = house.door.split(":")
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: field.connection(field_bus(item), item.framing, greeting=wrapper.encode(1, 16, event)),
        host,
        int(port),
    )
    await house.until(lambda: len(house.inbound.meters) == 1)
    connection.close()
    async with house.pool.connection() as database:
        (left,) = await inbox.unresolved(database, limit=10)
    assert (left.payload, left.source) == (event, "inbound 127.0.0.1")


@pytest.mark.parametrize("framing", [Framing.WRAPPER, Framing.HDLC])
@pytest.mark.parametrize("security", ["none", "hls5", "hls5-general", "hls5-suite2"])
async def test_simulated_meters_push_and_are_confirmed(house_on_both, framing, security):
    house = house_on_both
    field = Field(Scenario(meters=2, seed=7, base_port=0, framing=framing, security=security, max_pdu=256))
    target = f"tcp://127.0.0.1:{house.push.tcp.port}"
    everybody = [(item.meter, item.framing) for item in field.meters]
    async with field:
        await house.import_field(field)
        pusher = Pusher(target, everybody, unix_now, every_s=900, confirm=True)
        for item in field.meters:
            await pusher.push(item.meter, item.framing)  # returns when it is confirmed
    for item in field.meters:
        async with house.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT obis, unit, text FROM register_reads JOIN meters USING (meter_id)"
                " WHERE asset_id = %s ORDER BY read_at DESC, obis LIMIT 7", [item.meter.serial]
            )  # fmt: skip
            rows = await cursor.fetchall()
        assert {obis for obis, _, _ in rows} >= {"1-0:1.8.0*255", "1-0:4.8.0*255", "0-0:42.0.0*255"}
        assert ("0-0:42.0.0*255", None, item.meter.name) in rows
    async with house.pool.connection() as connection:
        kept = await inbox.unresolved(connection, limit=10)
    assert kept == []
    assert house.push.totals.everything.confirmed == 2


async def test_idle_slow_and_noisy_callers_keep_no_meter_out(brisk_house, monkeypatch):
    """A thousand that say nothing, one that never ends its frame, one that talks rubbish."""
    house = brisk_house
    field = field_for(house, meters=2)
    await house.import_field(field)
    host, port = house.door.split(":")
    idle = [await asyncio.open_connection(host, int(port)) for _ in range(1_000)]
    _, slow = await asyncio.open_connection(host, int(port))
    _, noisy = await asyncio.open_connection(host, int(port))

    async def dribble():
        for byte in wrapper.encode(1, 16, bytes(2_000)):
            slow.write(bytes((byte,)))
            await asyncio.sleep(0.005)

    dribbling = asyncio.create_task(dribble())
    noisy.write(bytes(range(256)) * 400)
    async with field:
        await house.until(lambda: len(house.inbound.meters) == 2)
        for item in field.meters:
            assert await house.name_of(item.meter.serial) == item.meter.name
    for _, writer in [*idle, (None, slow), (None, noisy)]:
        writer.close()
    dribbling.cancel()
    await asyncio.wait([dribbling])
    assert house.inbound.totals.proven == 2
