"""Batches into the database, on both: exactly once, never half, never doubled."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np
import psycopg
import pytest

from headend.store import registers
from headend.store.pool import open_pool
from headend.store.writer import UnknownMeter, Written, write
from schemas.reading import (
    NO_STATUS,
    Channel,
    ChannelLayout,
    Fragment,
    Quality,
    ReadingBatch,
    RegisterRead,
)

DAY_US = 86_400_000_000
START_US = 1_772_323_200_000_000  # 2026-03-01 00:00 UTC
QUARTER_US = 900_000_000


def layout(scaler: int = 0) -> ChannelLayout:
    def channel(quantity: str, obis: str, unit: str) -> Channel:
        return Channel(quantity, f"1-0:{obis}*255", scaler, unit, modulus=2**32)

    return ChannelLayout((
        channel("active_import", "1.8.0", "Wh"),
        channel("active_export", "2.8.0", "Wh"),
        channel("reactive_import", "3.8.0", "varh"),
        channel("reactive_export", "4.8.0", "varh"),
    ))  # fmt: skip


def batch(
    meters: Sequence[int],
    rows: int = 96,
    *,
    first: int = 0,
    covered: bool = True,
    base: int = 0,
    fragment: Fragment = Fragment.NONE,
    registers: tuple[RegisterRead, ...] = (),
) -> ReadingBatch:
    """``rows`` quarter-hours for each meter from the ``first`` on; value = base + 100 * place + column."""
    n = len(meters) * rows
    place = np.tile(np.arange(first, first + rows, dtype=np.int64), len(meters))
    start = START_US + place * QUARTER_US
    since, until = START_US + first * QUARTER_US, START_US + (first + rows) * QUARTER_US
    return ReadingBatch(
        meter_id=np.repeat(np.array(meters, dtype=np.int32), rows),
        profile=np.ones(n, dtype=np.int16),
        start_us=start,
        period_s=np.full(n, 900, dtype=np.int32),
        stamp_us=start + QUARTER_US,
        amr_status=np.zeros(n, dtype=np.int64),
        clock_status=np.full(n, NO_STATUS, dtype=np.int16),
        quality=np.full(n, Quality.MEASURED, dtype=np.int16),
        fragment=np.full(n, fragment, dtype=np.int8),
        layout=np.zeros(n, dtype=np.int16),
        values=base + 100 * place[:, None] + np.arange(4, dtype=np.int64),
        valid=np.ones((n, 4), dtype=np.bool_),
        layouts=(layout(),),
        covered_us=tuple((meter, 1, since, until) for meter in meters) if covered and rows else (),
        source="test",
        registers=registers,
    )


@pytest.fixture
def meters(database) -> list[int]:
    with psycopg.connect(database.dsn) as connection:
        rows = connection.execute(
            """INSERT INTO meters (asset_id, model) SELECT i, 'x' FROM generate_series(1, 20) i
            RETURNING meter_id"""
        )
        return [row[0] for row in rows]


TABLES = ("batches", "interval_reads", "interval_fragments", "interval_revisions", "coverage", "changes",
          "register_reads", "channel_layouts", "inbox")  # fmt: skip


WAITING = """SELECT 1 FROM pg_stat_activity
             WHERE wait_event_type = 'Lock' AND datname = current_database()"""


def contents(dsn: str) -> dict[str, list[tuple]]:
    with psycopg.connect(dsn) as connection:
        return {t: connection.execute(f"SELECT * FROM {t} ORDER BY {t}::text").fetchall() for t in TABLES}


def query(dsn: str, text: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(text).fetchall()


async def test_new_rows_are_stored_with_every_column_and_told_once(database, meters):
    async with open_pool(database.dsn) as pool:
        written = await write(pool, batch(meters[:3]))
    assert written == Written(written.batch_id, new=288, covered=3)
    assert query(
        database.dsn,
        f"""SELECT extract(epoch FROM start)::bigint, extract(epoch FROM stamp)::bigint, batch_id,
                   active_import, active_export, reactive_import, reactive_export,
                   period_s, amr_status, profile, clock_status, quality
            FROM interval_reads WHERE meter_id = {meters[1]} ORDER BY start LIMIT 2""",
    ) == [
        (START_US // 10**6, START_US // 10**6 + 900, written.batch_id, 0, 1, 2, 3, 900, 0, 1, None, 0),
        (
            START_US // 10**6 + 900,
            START_US // 10**6 + 1800,
            written.batch_id,
            100,
            101,
            102,
            103,
            900,
            0,
            1,
            None,
            0,
        ),
    ]
    told = query(
        database.dsn, "SELECT meter_id, kind, upper(during) - lower(during) = '1 day' FROM changes ORDER BY 1"
    )
    assert told == [(meter, "new", True) for meter in meters[:3]]


@pytest.mark.parametrize("covered", [True, False])
async def test_the_same_batch_again_leaves_no_trace(database, meters, covered):
    reads = (
        RegisterRead(meters[0], "1-0:1.8.0*255", 2, START_US, None, Decimal("12.340"), None, "kWh"),
        RegisterRead(meters[0], "0-0:96.1.0*255", 2, START_US, START_US, None, "a\0b", None),
    )
    one = batch(meters[:2], covered=covered, registers=reads)
    fragments = batch(meters[:2], 1, covered=covered, fragment=Fragment.OFF_GRID)
    async with open_pool(database.dsn) as pool:
        first = await write(pool, one)
        assert (first.new, first.registers, first.quarantined) == (192, 1, 1)
        assert (await write(pool, fragments)).fragments == 2
        before = contents(database.dsn)
        assert await write(pool, one) == Written(None, repeated=194)
        assert await write(pool, fragments) == Written(None, repeated=2)
    assert contents(database.dsn) == before


async def test_what_is_missing_is_completed_and_what_differs_is_corrected(database, meters):
    whole = batch(meters[:1], 4)
    valid = whole.valid.copy()
    valid[1, 2] = valid[3] = False
    changed = whole.values.copy()
    changed[0, 0] = 999
    async with open_pool(database.dsn) as pool:
        await write(pool, replace(whole, valid=valid))
        completed = await write(pool, whole)
        assert completed == Written(completed.batch_id, completed=2, repeated=2)
        corrected = await write(pool, replace(whole, values=changed))
        assert corrected == Written(corrected.batch_id, corrected=1, repeated=3)
        nulls = replace(whole, valid=np.zeros_like(whole.valid))
        assert await write(pool, nulls) == Written(None, repeated=4)
    rows = query(database.dsn, "SELECT active_import, reactive_import FROM interval_reads ORDER BY start")
    assert rows == [(999, 2), (100, 102), (200, 202), (300, 302)]
    assert query(database.dsn, "SELECT revision, active_import, replaced_by FROM interval_revisions") == [
        (1, 0, corrected.batch_id)
    ]
    kinds = query(database.dsn, "SELECT kind, count(*) FROM changes GROUP BY 1 ORDER BY 1")
    assert kinds == [("completion", 2), ("correction", 1), ("new", 1)]


async def test_the_same_values_from_a_better_source_are_told(database, meters):
    measured = batch(meters[:1], 3)
    estimated = replace(measured, quality=np.full(3, Quality.ESTIMATED, np.int16))
    async with open_pool(database.dsn) as pool:
        await write(pool, estimated)
        better = await write(pool, measured)
        assert better == Written(better.batch_id, completed=3)
        assert await write(pool, estimated) == Written(None, repeated=3)
    assert query(database.dsn, "SELECT DISTINCT quality, batch_id FROM interval_reads") == [
        (0, better.batch_id)
    ]
    assert query(database.dsn, "SELECT kind FROM changes ORDER BY change_id") == [("new",), ("completion",)]


async def test_a_coarser_source_of_the_same_value_is_no_correction(database, meters):
    fine = batch(meters[:1], 2)
    fine = replace(fine, values=fine.values // 100 * 100)
    coarse = replace(fine, values=fine.values // 100, layouts=(layout(2),))
    async with open_pool(database.dsn) as pool:
        await write(pool, fine)
        assert await write(pool, coarse) == Written(None, repeated=2)


async def test_a_source_with_fewer_channels_completes_and_corrects_only_those(database, meters):
    full = batch(meters[:1], 2)
    one_channel = ChannelLayout((layout().channels[0], None, None, None))
    only = np.zeros_like(full.valid)
    only[:, 0] = True
    fewer = replace(full, layouts=(one_channel,), valid=only, values=full.values + 5)
    async with open_pool(database.dsn) as pool:
        await write(pool, fewer)
        assert (await write(pool, full)).corrected == 2
        assert (await write(pool, fewer)).corrected == 2
    rows = query(
        database.dsn, "SELECT active_import, reactive_export, layout_id FROM interval_reads ORDER BY start"
    )
    assert [row[:2] for row in rows] == [(5, 3), (105, 103)]


async def test_the_second_row_of_one_interval_in_a_batch_is_a_fragment(database, meters):
    one = batch(meters[:1], 2)
    twice = replace(one, start_us=np.full(2, START_US), stamp_us=np.full(2, START_US + QUARTER_US))
    async with open_pool(database.dsn) as pool:
        written = await write(pool, twice)
        assert (written.new, written.fragments) == (1, 1)
        same = replace(twice, values=np.tile(one.values[:1], (2, 1)))
        assert await write(pool, same) == Written(None, repeated=2)


async def test_extremes_are_exact(database, meters):
    one = batch(meters[:1], 1)
    values = np.array([[2**63 - 1, -(2**63), 0, 2**53 + 1]])
    odd = replace(
        one,
        values=values,
        start_us=one.start_us + 1,
        covered_us=((meters[0], 1, START_US + 1, START_US + 2),),
    )
    big = RegisterRead(
        meters[0],
        "1-0:1.8.0*255",
        2,
        START_US + 1,
        None,
        Decimal("-0.00012345678901234567890123456789"),
        None,
        "Wh",
    )
    async with open_pool(database.dsn) as pool:
        await write(pool, replace(odd, registers=(big,)))
    assert query(
        database.dsn,
        "SELECT active_import, active_export, reactive_import, reactive_export FROM interval_reads",
    ) == [tuple(int(v) for v in values[0])]
    assert query(database.dsn, "SELECT value FROM register_reads") == [(big.value,)]
    assert query(database.dsn, "SELECT extract(microseconds FROM start)::bigint FROM interval_reads") == [
        (1,)
    ]
    assert query(
        database.dsn,
        """SELECT covered = tstzmultirange(
               tstzrange('2026-03-01 00:00:00.000001Z', '2026-03-01 00:00:00.000002Z'))
           FROM coverage""",
    ) == [(True,)]


async def test_impossible_times_go_to_the_inbox_and_the_rest_is_stored(database, meters):
    one = batch(meters[:1], 3, covered=False)
    start = one.start_us.copy()
    start[0], start[2] = -(2**63), 2**63 - 1
    async with open_pool(database.dsn) as pool:
        written = await write(pool, replace(one, start_us=start))
    assert (written.new, written.quarantined) == (1, 2)
    assert len(query(database.dsn, "SELECT payload FROM inbox WHERE identity IS NOT NULL")) == 2


async def test_coverage_adds_up(database, meters):
    async with open_pool(database.dsn) as pool:
        for first in (0, 48, 24):
            await write(pool, batch(meters[:1], 24, first=first))
        empty = replace(batch(meters[:1], 0), covered_us=((meters[0], 1, START_US, START_US + DAY_US),))
        assert (await write(pool, empty)).covered == 1
        assert await write(pool, empty) == Written(None)
    assert query(database.dsn, "SELECT covered::text FROM coverage") == [
        ('{["2026-03-01 00:00:00+00","2026-03-02 00:00:00+00")}',)
    ]


async def test_an_unknown_meter_is_named_and_nothing_is_stored(database, meters):
    before = contents(database.dsn)
    async with open_pool(database.dsn) as pool:
        with pytest.raises(UnknownMeter) as error:
            await write(pool, batch([meters[0], 10**9]))
        assert error.value.meter_ids == (10**9,)
        stray = RegisterRead(10**9, "1-0:1.8.0*255", 2, START_US, None, Decimal(0), None, "Wh")
        with pytest.raises(UnknownMeter):
            await write(pool, batch(meters[:1], registers=(stray,)))
    assert contents(database.dsn) == before


async def test_a_push_that_comes_again_is_the_same_push(database, meters):
    def push(read_us, *, meter_us=START_US, **more):
        told = {"value": Decimal("0.50"), "text": None, "quality": Quality.PUSHED, **more}
        return RegisterRead(meters[0], "1-0:1.8.0*255", 2, read_us, meter_us, unit="kWh", **told)

    first = push(START_US + 1)
    text = push(START_US + 3, value=None, text="METER")
    others = (
        push(START_US + 10, value=Decimal("0.51")),
        push(START_US + 11, meter_us=START_US + 1),
        push(START_US + 12, meter_us=None),
        push(START_US + 13, meter_us=None),  # no time of its own: a reading each time
        push(START_US + 14, quality=Quality.MEASURED),
        push(START_US + 15, quality=Quality.MEASURED),
    )
    again = (
        push(START_US + 20),
        push(START_US + 30 * DAY_US, value=Decimal("0.5")),
        text._replace(read_us=START_US + 21),
    )
    async with open_pool(database.dsn) as pool:
        twice = (first, first._replace(read_us=START_US + 2), text)
        one = await write(pool, batch(meters[:1], 0, registers=twice))
        assert (one.registers, one.repeated) == (2, 1)
        assert (await write(pool, batch(meters[:1], 0, registers=others))).registers == 6
    async with open_pool(database.dsn) as pool:
        before = contents(database.dsn)
        assert await write(pool, batch(meters[:1], 0, registers=again)) == Written(None, repeated=3)
        assert contents(database.dsn) == before


async def test_a_float_stays_flagged(database, meters):
    volts = RegisterRead(
        meters[0], "1-0:32.7.0*255", 2, START_US, None, Decimal("230.1"), None, "V", from_float=True
    )
    amperes = volts._replace(obis="1-0:31.7.0*255", unit="A", from_float=False)
    async with open_pool(database.dsn) as pool:
        await write(pool, batch(meters[:1], 0, registers=(volts, amperes)))
        async with pool.connection() as connection:
            stored = await registers.latest(connection, meters[0])
    assert [(one.obis, one.from_float) for one in stored] == [
        ("1-0:31.7.0*255", False),
        ("1-0:32.7.0*255", True),
    ]


async def test_a_register_is_not_overwritten(database, meters):
    first = RegisterRead(meters[0], "1-0:1.8.0*255", 2, START_US, None, Decimal(0), None, "Wh")
    async with open_pool(database.dsn) as pool:
        await write(pool, batch(meters[:1], 0, registers=(first,)))
        second = await write(pool, batch(meters[:1], 0, registers=(first._replace(value=Decimal(1)),)))
    assert (second.registers, second.quarantined, second.repeated) == (0, 1, 0)
    assert query(database.dsn, "SELECT value FROM register_reads") == [(Decimal(0),)]


@pytest.mark.parametrize("covered", [True, False])
async def test_writers_that_overlap_neither_double_nor_deadlock(database, meters, covered):
    one = batch(meters, covered=covered)
    backwards = batch(meters[::-1], covered=covered)
    async with open_pool(database.dsn, max_size=4) as pool:
        results = await asyncio.gather(
            *(write(pool, b) for b in (one, backwards, one, batch(meters[5:], 48, first=72)))
        )
    assert sum(r.new for r in results) == len(query(database.dsn, "SELECT 1 FROM interval_reads"))
    assert sum(r.corrected + r.completed for r in results) == 0
    assert len(query(database.dsn, "SELECT 1 FROM interval_reads")) == 20 * 96 + 15 * 24


async def test_a_cancelled_write_leaves_nothing(database, meters):
    before = contents(database.dsn)
    async with open_pool(database.dsn) as pool:
        async with pool.connection() as blocker:
            await blocker.execute(
                "LOCK TABLE changes IN ACCESS EXCLUSIVE MODE"
            )  # the write stops after its COPY
            task = asyncio.create_task(write(pool, batch(meters)))
            async with pool.connection() as watcher:
                await watcher.set_autocommit(True)
                while not await (await watcher.execute(WAITING)).fetchone():  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0)
                await watcher.set_autocommit(False)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert contents(database.dsn) == before
        assert (await write(pool, batch(meters))).new == 20 * 96


async def test_in_a_transaction_of_the_caller_a_batch_is_a_part_of_it(database, meters):
    before = contents(database.dsn)
    async with await psycopg.AsyncConnection.connect(database.dsn) as connection:
        await connection.execute("SELECT 1")  # opens the transaction
        await write(connection, batch(meters[:1]))
        assert (await write(connection, batch(meters[:1], 100))).new == 4
        await connection.rollback()
    assert contents(database.dsn) == before


async def test_a_batch_that_contradicts_itself_is_refused(database, meters):
    good = batch(meters[:1], 2)
    none = ChannelLayout((None, None, None, None))
    bad = [
        replace(good, layouts=(none,)),
        replace(good, layout=good.layout + 1),
        replace(good, period_s=good.period_s * 0),
        replace(good, covered_us=((meters[0], 1, START_US, START_US),)),
    ]
    async with open_pool(database.dsn) as pool:
        for each in bad:
            with pytest.raises(ValueError):
                await write(pool, each)
