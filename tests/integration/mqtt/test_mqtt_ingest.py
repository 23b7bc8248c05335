"""Bunches of messages into the store: repeats, sequences, what is wrong, what nobody knows."""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from headend.mqtt import ingest as module
from headend.mqtt.connection import Message
from headend.mqtt.ingest import BatchSpan, Ingest
from headend.store import batch_runs, ingest_slots, quarantine
from headend.store.batch_runs import Span
from headend.store.errors import DatabaseError
from headend.store.ingest_slots import LeaseLost
from headend.store.pool import Pool, open_pool
from tests.conftest import Database

from .field import UP, add_fleet, batch, lease_of, lost, make_ingest, message, rows, tasmota


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.dsn, max_size=4) as opened:
        await add_fleet(opened)
        yield opened


async def store(pool: Pool, ingest: Ingest, told: Sequence[Message]) -> list[BatchSpan]:
    return await ingest.store(await lease_of_slot(pool), await ingest.decode(told))


async def lease_of_slot(pool: Pool) -> ingest_slots.Lease:
    async with pool.connection() as connection:
        await connection.execute(b"UPDATE ingest_slots SET expires_at = '-infinity'")
    return await lease_of(pool)


async def count(pool: Pool, table: str) -> int:
    async with pool.connection() as connection:
        cursor = await connection.execute(f"SELECT count(*) FROM {table}".encode())
        (found,) = await cursor.fetchone() or (0,)
    return int(found)


async def waiting(pool: Pool) -> list[quarantine.Kept]:
    async with pool.connection() as connection:
        return await quarantine.page(connection, limit=99)


async def test_a_bunch_of_both_kinds_is_stored_and_told(pool: Pool) -> None:
    ingest = make_ingest(pool)
    told = [tasmota(0, 15), batch(0), tasmota(1, 7), batch(1)]
    assert await store(pool, ingest, [message(one) for one in told]) == [
        BatchSpan(UP, "dc1", "r1", Span(0, 1))
    ]
    async with rows(pool) as found:
        assert found == [(f"m-{n}", 15 * (s + 1), s) for n in range(5) for s in (0, 1)] + [("p-0", 15, 15000)]
    assert await count(pool, "register_reads") == 1
    assert await waiting(pool) == []


async def test_a_repeat_has_no_effect_and_is_acknowledged_again(pool: Pool) -> None:
    told = [message(one) for one in (tasmota(0, 7), batch(0), tasmota(0, 8))]
    spans = await store(pool, make_ingest(pool), told)
    batches = await count(pool, "batches")
    ingest = make_ingest(pool)
    again = [one._replace(received_us=one.received_us + 7_000_000) for one in (*told, told[0])]
    assert await store(pool, ingest, again) == spans
    assert await count(pool, "batches") == batches
    assert await count(pool, "register_reads") == 2
    assert (ingest.totals.received, ingest.totals.repeated) == (4, 4)


async def test_a_gap_is_filled_and_its_batches_acknowledged_apart(pool: Pool) -> None:
    ingest = make_ingest(pool)
    spans = await store(pool, ingest, [message(batch(0)), message(batch(3)), message(batch(4))])
    assert spans == [BatchSpan(UP, "dc1", "r1", Span(0, 0)), BatchSpan(UP, "dc1", "r1", Span(3, 4))]
    async with pool.connection() as connection:
        assert [gap.gap for gap in await batch_runs.gaps(connection, limit=9)] == [Span(1, 2)]
    await store(pool, ingest, [message(batch(1)), message(lost(2, 2))])
    async with pool.connection() as connection:
        assert await batch_runs.gaps(connection, limit=9) == []
    async with rows(pool) as found:
        assert [minute for name, minute, _ in found if name == "m-0"] == [15, 30, 60, 75]


async def test_a_wrong_payload_is_kept_and_stops_nobody(pool: Pool) -> None:
    wrong = ("tele/plug-0/SENSOR", b'{"Time": "2026-03-02T00:00:00", "ENERGY": {"Total": 0x')
    ingest = make_ingest(pool)
    await store(
        pool, ingest, [message(tasmota(0, 15)), message(wrong), message(wrong), message(tasmota(1, 15))]
    )
    (kept,) = await waiting(pool)
    assert (kept.topic, kept.payload, kept.times) == (*wrong, 2)
    assert "JSON" in kept.reason
    assert await count(pool, "interval_reads") == 2


async def test_what_the_store_refuses_is_found_by_halving(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    real, sizes = module.write, []

    async def picky(where: Any, readings: Any) -> Any:
        sizes.append(len(readings))
        if 15 * 6 * 60_000_000 + 1_772_409_600_000_000 in readings.stamp_us.tolist():
            raise ValueError("not this one")
        return await real(where, readings)

    monkeypatch.setattr(module, "write", picky)
    ingest = make_ingest(pool)
    told = [message(batch(n)) for n in range(8)]
    assert await store(pool, ingest, told) == [BatchSpan(UP, "dc1", "r1", Span(0, 7))]
    (kept,) = await waiting(pool)
    assert kept.payload == batch(5)[1]
    assert "not this one" in kept.reason
    assert await count(pool, "interval_reads") == 35
    assert sizes[0] == 40
    async with pool.connection() as connection:  # its number came: nobody asks for it
        assert await batch_runs.gaps(connection, limit=9) == []


async def test_a_defect_in_a_decoder_stops_nobody(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    ingest = make_ingest(pool)
    real = ingest._decoder.decode

    def broken(topic: str, payload: bytes, **more: Any) -> Any:
        if topic == "tele/plug-0/SENSOR":
            raise ZeroDivisionError
        return real(topic, payload, **more)

    monkeypatch.setattr(ingest._decoder, "decode", broken)
    await store(pool, ingest, [message(tasmota(0, 15)), message(tasmota(1, 15))])
    (kept,) = await waiting(pool)
    assert "a defect of ours: ZeroDivisionError" in kept.reason
    assert await count(pool, "interval_reads") == 1


async def test_the_database_is_away_for_a_while(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = module.write, 3

    async def away(where: Any, readings: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            await where.execute(b"SELECT pg_terminate_backend(pg_backend_pid())")
        return await real(where, readings)

    monkeypatch.setattr(module, "write", away)
    ingest = make_ingest(pool)
    await store(pool, ingest, [message(tasmota(0, 15)), message(batch(0))])
    assert (failures, ingest.totals.retries) == (0, 3)
    assert await count(pool, "interval_reads") == 6


async def test_devices_that_nobody_knows_are_kept_until_somebody_does(pool: Pool) -> None:
    stranger = ("tele/plug-99/SENSOR", tasmota(0, 15)[1])
    mixed = batch(0, meters=("m-0", "m-77"))
    ingest = make_ingest(pool)
    spans = await store(
        pool, ingest, [message(stranger), message(mixed), message(batch(1, meters=("m-78",)))]
    )
    assert spans == [BatchSpan(UP, "dc1", "r1", Span(0, 1))]
    assert [(kept.identity, kept.payload) for kept in await waiting(pool)] == [
        ("plug-99", stranger[1]),
        ("m-77", mixed[1]),
        ("m-78", batch(1, meters=("m-78",))[1]),
    ]
    async with rows(pool) as found:
        assert [name for name, _, _ in found] == ["m-0"]


async def test_who_lost_the_lease_stores_nothing(pool: Pool) -> None:
    ingest = make_ingest(pool)
    lease = await lease_of(pool)
    items = await ingest.decode([message(tasmota(0, 15))])
    await lease_of_slot(pool)
    with pytest.raises(LeaseLost):
        await ingest.store(lease, items)
    assert await count(pool, "interval_reads") == 0


async def test_retained_readings_without_a_time_are_counted_alone(pool: Pool) -> None:
    timeless = ("tele/plug-0/SENSOR", b'{"ENERGY":{"Total":1.5}}')
    ingest = make_ingest(pool)
    await store(pool, ingest, [message(timeless, retained=True), message(tasmota(0, 7), retained=True)])
    assert (ingest.totals.ignored, await count(pool, "register_reads")) == (1, 1)
    assert await waiting(pool) == []


async def test_last_wills_are_events_when_they_change(pool: Pool) -> None:
    wills = [("tele/plug-0/LWT", word) for word in (b"Online", b"Offline", b"Offline", b"Online", b"Offline")]
    told = [message(will, minute=n) for n, will in enumerate(wills)]
    await store(pool, make_ingest(pool), [message(wills[1], retained=True), *told])
    async with pool.connection() as connection:
        cursor = await connection.execute(b"SELECT meaning FROM events ORDER BY at")
        meanings = [meaning for (meaning,) in await cursor.fetchall()]
    assert meanings == ["link_restored", "link_lost", "link_restored", "link_lost"]


async def test_other_errors_of_the_database_are_told(pool: Pool) -> None:
    ingest = make_ingest(pool)
    lease = await lease_of(pool)
    items = await ingest.decode([message(("tele/plug-0/SENSOR", b"no JSON"))])
    async with pool.connection() as connection:
        await connection.execute(b"DROP TABLE quarantine")
    with pytest.raises(DatabaseError):
        await ingest.store(lease, items)
