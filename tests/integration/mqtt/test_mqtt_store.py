"""The tables of MQTT ingest: leases with fencing, receipts, sequence numbers, the quarantine."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import pytest

from headend.store import batch_runs, ingest_slots, quarantine, receipts
from headend.store.batch_runs import Came, Span
from headend.store.errors import ConflictError, UnknownError
from headend.store.ingest_slots import LeaseLost
from headend.store.pool import Pool, open_pool
from headend.store.sql import Connection
from tests.conftest import Database

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.dsn, max_size=3) as opened:
        yield opened


def connection(pool: Pool) -> AbstractAsyncContextManager[Connection]:
    return pool.connection()


# ---- slots ----


async def test_a_slot_has_one_holder_and_a_growing_fence(pool: Pool) -> None:
    async with connection(pool) as one:
        await ingest_slots.ensure(one, ["0", "1"])
        first = await ingest_slots.take(one, ["0", "1"], holder="a", lease_s=60)
        second = await ingest_slots.take(one, ["0", "1"], holder="b", lease_s=60)
        assert first is not None
        assert second is not None
        assert {first.slot, second.slot} == {"0", "1"}
        assert await ingest_slots.take(one, ["0", "1"], holder="c", lease_s=60) is None
        await ingest_slots.give_back(one, first)
        third = await ingest_slots.take(one, ["0", "1"], holder="c", lease_s=60)
        assert third is not None
        assert (third.slot, third.fence) == (first.slot, first.fence + 1)
        with pytest.raises(LeaseLost):
            await ingest_slots.hold(one, first)
        await ingest_slots.hold(one, third)


async def test_a_lease_that_ended_is_held_until_somebody_takes_it(pool: Pool) -> None:
    async with connection(pool) as one:
        await ingest_slots.ensure(one, ["0"])
        sleeper = await ingest_slots.take(one, ["0"], holder="a", lease_s=-1)
        assert sleeper is not None
        await ingest_slots.hold(one, sleeper)  # it ends at once again
    async with connection(pool) as one:
        taker = await ingest_slots.take(one, ["0"], holder="b", lease_s=60)
        assert taker is not None
    async with connection(pool) as one:
        with pytest.raises(LeaseLost):
            await ingest_slots.hold(one, sleeper)


async def test_a_slot_in_the_middle_of_a_transaction_is_not_taken(pool: Pool) -> None:
    async with connection(pool) as one:
        await ingest_slots.ensure(one, ["0"])
        lease = await ingest_slots.take(one, ["0"], holder="a", lease_s=-1)
    assert lease is not None
    async with connection(pool) as writing, connection(pool) as other:
        await ingest_slots.hold(writing, lease)
        assert await ingest_slots.take(other, ["0"], holder="b", lease_s=60) is None


async def test_the_filters_of_a_session_are_remembered(pool: Pool) -> None:
    async with connection(pool) as one:
        await ingest_slots.ensure(one, ["0"])
        lease = await ingest_slots.take(one, ["0"], holder="a", lease_s=60)
        assert lease is not None
        await ingest_slots.subscribed(one, lease, ["a/#", "b/+"])
        await ingest_slots.give_back(one, lease)
        again = await ingest_slots.take(one, ["0"], holder="a", lease_s=60)
        assert again is not None
        assert again.filters == ("a/#", "b/+")
        (slot,) = await ingest_slots.all_slots(one)
        assert slot.holder == "a"


# ---- receipts ----


async def test_a_message_is_new_once_in_24_hours(pool: Pool) -> None:
    one, two = b"1" * 32, b"2" * 32
    async with connection(pool) as database:
        assert await receipts.note(database, [one]) == {one}
        assert await receipts.note(database, [one, two]) == {two}
        await database.execute(
            b"UPDATE mqtt_receipts SET generation = (generation + 2) % 3, "
            b"received_at = now() - interval '23 hours'"
        )
        assert await receipts.note(database, [one]) == set()
        await database.execute(b"UPDATE mqtt_receipts SET received_at = now() - interval '25 hours'")
        assert await receipts.note(database, [one, two]) == {one, two}


async def test_pruning_takes_the_oldest_generation_alone(pool: Pool) -> None:
    async with connection(pool) as database:
        await receipts.note(database, [b"1" * 32])
        await database.execute(
            b"INSERT INTO mqtt_receipts SELECT (generation + n) % 3, digest, "
            b"now() - (3 - n) * interval '1 day' FROM mqtt_receipts, generate_series(1, 2) AS n"
        )
        await receipts.prune(database)
        cursor = await database.execute(
            b"SELECT (extract(epoch FROM now())::bigint / 86400 + 3 - generation) % 3 FROM mqtt_receipts "
            b"ORDER BY 1"
        )
        assert await cursor.fetchall() == [(0,), (1,)]


async def test_presence_is_news_when_it_changes(pool: Pool) -> None:
    async with connection(pool) as database:
        told = [await receipts.has_changed(database, "tele/x/LWT", s) for s in ("on", "on", "off", "on")]
    assert told == [True, False, True, True]


# ---- sequences ----


def batch(sequence: int, run: str = "r") -> Came:
    return Came("dc1", run, Span(sequence, sequence), "headend/batch/dc1/up")


def lost(first: int, last: int) -> Came:
    return Came("dc1", "r", Span(first, last), "headend/batch/dc1/up", is_lost=True)


async def test_a_gap_is_noticed_filled_and_closed(pool: Pool) -> None:
    async with connection(pool) as database:
        assert await batch_runs.note(database, "0", [batch(0), batch(1), batch(1)]) == [True, True, False]
        assert await batch_runs.note(database, "0", [batch(5), batch(6), batch(0)]) == [True, True, False]
        (gap,) = await batch_runs.gaps(database, limit=9)
        assert (gap.gap, gap.missing, gap.closed_at) == (Span(2, 4), (Span(2, 4),), None)
        assert await batch_runs.note(database, "0", [batch(3), batch(3)]) == [True, False]
        (gap,) = await batch_runs.gaps(database, limit=9)
        assert gap.missing == (Span(2, 2), Span(4, 4))
        assert await batch_runs.note(database, "0", [batch(2), batch(4), batch(4)]) == [True, True, False]
        assert await batch_runs.gaps(database, limit=9) == []
        (gap,) = await batch_runs.gaps(database, limit=9, closed=True)
        assert (gap.missing, gap.lost, gap.next_request_at) == ((), (), None)
        assert gap.closed_at is not None


async def test_what_is_declared_lost_is_no_longer_missing(pool: Pool) -> None:
    async with connection(pool) as database:
        assert await batch_runs.note(database, "0", [batch(0), batch(9)]) == [True, True]
        assert await batch_runs.note(database, "0", [lost(1, 5), lost(1, 5), batch(7)]) == [True, False, True]
        (gap,) = await batch_runs.gaps(database, limit=9)
        assert (gap.missing, gap.lost) == ((Span(6, 6), Span(8, 8)), (Span(1, 5),))
        # what comes although it was declared lost is no repeat: nobody has it
        assert await batch_runs.note(database, "0", [lost(6, 20), batch(20), batch(21)]) == [True, True, True]
        assert await batch_runs.note(database, "0", [batch(8), batch(8), batch(20)]) == [True, False, False]
        found = await batch_runs.gaps(database, limit=9, closed=True)
        assert sorted((one.missing, one.lost) for one in found) == [
            ((), (Span(1, 6),)),
            ((), (Span(10, 19),)),
        ]


async def test_a_run_that_begins_in_the_middle_misses_its_beginning(pool: Pool) -> None:
    async with connection(pool) as database:
        await batch_runs.note(database, "0", [batch(3), batch(0, "next")])
        (gap,) = await batch_runs.gaps(database, limit=9)
        assert (gap.run, gap.gap) == ("r", Span(0, 2))


async def test_requests_wait_longer_each_time_and_end(pool: Pool) -> None:
    async with connection(pool) as database:
        await batch_runs.note(database, "0", [batch(0), batch(4)])

        async def due(slot: str = "0") -> list[batch_runs.Due]:
            return await batch_runs.due(database, slot, first_s=10, longest_s=30, attempts=3)

        pauses = []
        assert await due("other") == []
        for number in (1, 2, 3):
            (one,) = await due()
            assert (one.missing, one.topic, one.requests) == ((Span(1, 3),), batch(0).topic, number)
            assert await due() == []
            (gap,) = await batch_runs.gaps(database, limit=9)
            if gap.next_request_at is not None:
                cursor = await database.execute(
                    b"SELECT extract(epoch FROM next_request_at - now())::float8 FROM batch_gaps"
                )
                pauses += [pause for (pause,) in await cursor.fetchall()]
                await database.execute(b"UPDATE batch_gaps SET next_request_at = now()")
        assert gap.next_request_at is None  # given up, and still open
        assert gap.closed_at is None
        assert 5 <= pauses[0] <= 10
        assert 10 <= pauses[1] <= 20
        assert await batch_runs.note(database, "0", [batch(1), batch(2), batch(3)]) == [True] * 3
        assert await batch_runs.gaps(database, limit=9) == []


# ---- quarantine ----


async def put(database: Connection, digest: bytes, topic: str = "t", **more: str) -> int | None:
    return await quarantine.put(
        database,
        digest=digest,
        topic=topic,
        payload=digest,
        retained=False,
        reason=more.pop("reason", "no JSON"),
        at=NOW,
        **more,
    )


async def test_the_quarantine_keeps_bytes_once_and_counts(pool: Pool) -> None:
    async with connection(pool) as database:
        first = await put(database, b"a")
        assert await put(database, b"a", reason="still no JSON\0") == first
        await put(database, b"b", "u", identity="plug")
        (one, two) = await quarantine.page(database, limit=9)
        assert (one.payload, one.times, one.reason) == (b"a", 2, "still no JSON\ufffd")
        assert (two.topic, two.identity, two.is_whole) == ("u", "plug", True)
        assert [k.number for k in await quarantine.page(database, limit=9, identity="plug")] == [two.number]
        assert [(c.payloads, c.times) for c in await quarantine.counts(database)] == [(1, 2), (1, 1)]
        await quarantine.settle(database, one.number, quarantine.State.DROPPED)
        with pytest.raises(ConflictError):
            await quarantine.settle(database, one.number, quarantine.State.REPLAYED)
        with pytest.raises(UnknownError):
            await quarantine.settle(database, 4711, quarantine.State.DROPPED)
        assert await put(database, b"a") != first  # it comes again after a person dropped it


async def test_one_topic_cannot_fill_the_quarantine(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MOST_PER_TOPIC", 3)
    monkeypatch.setattr(quarantine, "MOST_BYTES", 2)
    async with connection(pool) as database:
        numbers = [await put(database, b"%d" % n * 5) for n in range(5)]
        assert numbers[3:] == [None, None]
        assert await put(database, b"0" * 5) == numbers[0]
        assert await put(database, b"x", "other") is not None
        found = await quarantine.page(database, limit=9, topic="t")
        assert [(k.payload, k.size, k.times, k.is_whole) for k in found] == [
            (b"00", 5, 2, False),
            (b"11", 5, 1, False),
            (b"22", 5, 3, False),
        ]
