"""Storing new intervals: the product's writer beside a bare COPY BINARY into the same kind of table.

Both are given the same columns and lay them out for the wire within the clock. Batches hold a day of a
thousand meters, one transaction each. The writer does what it always does: order, coverage that is locked and
kept, change rows, exactly once; the bare copy does nothing but copy.
"""

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from headend.ingest.pipeline import Pipeline
from headend.store import layouts, rows, writer
from headend.store.embedded import EmbeddedPostgres
from headend.store.migrate import HYPERTABLES, migrate
from headend.store.pool import Pool, open_pool
from headend.store.sql import load
from schemas.reading import (
    INTERVAL_QUANTITIES,
    Channel,
    ChannelLayout,
    Quality,
    ReadingBatch,
)

#: A server for tests and benchmarks, as deploy/timescaledb.sh gives it.
TIMESCALEDB_URL: Final = "HEADEND_TEST_TIMESCALEDB_URL"
_METERS: Final = 1_000  # of one batch, and of one transaction
_ROWS: Final = 96
#: Rows of one batch.
BATCH_ROWS: Final = _METERS * _ROWS
_FIRST_DAY_US: Final = 1_772_409_600_000_000  # 2026-03-02T00:00Z
_DAY_US: Final = 86_400_000_000
_PERIOD_S: Final = 900
_QUERIES: Final = load("writer")
_LAYOUT: Final = ChannelLayout(
    (
        Channel("active_import", "1-0:1.8.0*255", 0, "Wh"),
        Channel("active_export", "1-0:2.8.0*255", 0, "Wh"),
        Channel("reactive_import", "1-0:3.8.0*255", 0, "varh"),
        Channel("reactive_export", "1-0:4.8.0*255", 0, "varh"),
    )
)


class StoreRound(NamedTuple):
    """Seconds for each batch of 96,000 rows: a bare copy, the writer given the batch, and the ingest pipeline
    given each meter's rows by themselves.
    """

    bare: list[float]
    writer: list[float]
    pipeline: list[float]


@asynccontextmanager
async def database() -> AsyncIterator[tuple[str, str]]:
    """A fresh, migrated database: its DSN, and what it is in words."""
    url = os.environ.get(TIMESCALEDB_URL)
    async with AsyncExitStack() as stack:
        if url:
            dsn, where = await stack.enter_async_context(_created(url)), "TimescaleDB hypertable"
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-bench-"))
            # As root the server runs as another user, who must get to its data.
            await asyncio.to_thread(os.chmod, folder, 0o711)
            dsn = await stack.enter_async_context(EmbeddedPostgres(Path(folder)))
            where = "embedded PostgreSQL, plain table (no TimescaleDB here)"
        await asyncio.to_thread(migrate, dsn)
        yield dsn, where


@asynccontextmanager
async def _created(url: str) -> AsyncIterator[str]:
    name = f"bench_{uuid.uuid4().hex}"
    base, _, options = url.partition("?")
    async with open_pool(url, max_size=1) as pool:
        await _execute(pool, f"CREATE DATABASE {name}")
        try:
            yield f"{base.rpartition('/')[0]}/{name}" + (f"?{options}" if options else "")
        finally:
            await _execute(pool, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(pool: Pool, *statements: str) -> None:
    async with pool.connection() as connection:
        await connection.set_autocommit(True)
        try:
            for statement in statements:
                await connection.execute(statement.encode())
        finally:
            await connection.set_autocommit(False)


def day_of(first_meter: int, meters: int, day: int) -> ReadingBatch:
    """A day of some meters, as the vectorised decoder hands it over."""
    n = meters * _ROWS
    random = np.random.default_rng([first_meter, day])
    ids = np.arange(first_meter, first_meter + meters)
    since = _FIRST_DAY_US + day * _DAY_US
    start = np.tile(since + np.arange(_ROWS, dtype=np.int64) * _PERIOD_S * 1_000_000, meters)
    shape = (meters, 1, len(INTERVAL_QUANTITIES))
    steps = random.integers(0, 97, size=(meters, _ROWS, len(INTERVAL_QUANTITIES)))
    values = random.integers(0, 5_000_000, size=shape) + np.cumsum(steps, axis=1)
    return ReadingBatch(
        meter_id=np.repeat(ids, _ROWS).astype(np.int32),
        profile=np.ones(n, np.int16),
        start_us=start,
        period_s=np.full(n, _PERIOD_S, np.int32),
        stamp_us=start + _PERIOD_S * 1_000_000,
        amr_status=random.integers(0, 3, size=n),
        clock_status=np.zeros(n, np.int16),
        quality=np.full(n, Quality.MEASURED, np.int16),
        fragment=np.zeros(n, np.int8),
        layout=np.zeros(n, np.int16),
        values=values.reshape(n, len(INTERVAL_QUANTITIES)),
        valid=np.ones((n, len(INTERVAL_QUANTITIES)), np.bool_),
        layouts=(_LAYOUT,),
        covered_us=tuple((int(meter), 1, since, since + _DAY_US) for meter in ids),
        source="bench",
    )


class StoreBench:
    """Rounds on one database; each round is a new day of the same meters, so coverage grows as it does."""

    def __init__(self, pool: Pool, batches: int) -> None:
        self._pool = pool
        self._batches = batches
        self._day = 0
        self._layout_ids = np.zeros(0, np.int32)
        self._copy_bare = _QUERIES["copy_direct"].replace(b"COPY interval_reads", b"COPY bare")

    async def prepare(self) -> None:
        """Meters, the layout, and the bare table: like interval_reads in everything."""
        async with self._pool.connection() as connection:
            await connection.execute(
                b"INSERT INTO meters (meter_id, asset_id, model) OVERRIDING SYSTEM VALUE "
                b"SELECT i, 'bench-' || i, 'headend-sim' FROM generate_series(1, %s) i",
                (self._batches * _METERS,),
            )
            ids = await layouts.ids(connection, [_LAYOUT])
            self._layout_ids = np.array([ids[_LAYOUT]], dtype=np.int32)
            await connection.execute(b"CREATE TABLE bare (LIKE interval_reads INCLUDING ALL)")
            cursor = await connection.execute(
                b"SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"
            )
            found = await cursor.fetchone()
            if found is not None and found[0]:
                column, chunk = HYPERTABLES["interval_reads"]
                await connection.execute(
                    b"SELECT create_hypertable('bare', by_range(%s, %s::interval), "
                    b"create_default_indexes => false)",
                    (column, chunk),
                )

    async def round(self) -> StoreRound:
        """A day of each batch's meters stored in each way, turn by turn."""
        await _execute(self._pool, "TRUNCATE interval_reads, bare, changes", "CHECKPOINT")
        ways = (self._bare, self._writer, self._pipeline)
        took_s: tuple[list[float], ...] = ([], [], [])
        days = range(self._day, self._day + len(ways))  # each way has days of its own: all rows are new
        self._day += len(ways)
        for place in range(self._batches):
            for turn in range(len(ways)):
                way = (turn + place) % len(ways)
                batch = day_of(1 + place * _METERS, _METERS, days[way])
                parts = _by_meter(batch) if ways[way] == self._pipeline else [batch]
                began = time.perf_counter()
                await ways[way](parts)
                took_s[way].append(time.perf_counter() - began)
        total = self._batches * _METERS * _ROWS
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                b"SELECT (SELECT count(*) FROM bare), (SELECT count(*) FROM interval_reads)"
            )
            assert await cursor.fetchone() == (total, 2 * total)
        return StoreRound(*took_s)

    async def _bare(self, batches: list[ReadingBatch]) -> None:
        for batch in batches:
            async with (
                self._pool.connection() as connection,
                connection.cursor() as cursor,
                cursor.copy(self._copy_bare) as copy,
            ):
                everything = np.arange(len(batch))
                for block in rows.copy_rows(batch, everything, self._layout_ids, batch_id=1):
                    await copy.write(block)

    async def _writer(self, batches: list[ReadingBatch]) -> None:
        for batch in batches:
            written = await writer.write(self._pool, batch)
            assert written.new == len(batch)

    async def _pipeline(self, batches: list[ReadingBatch]) -> None:
        async with Pipeline(partial(writer.write, self._pool)) as pipeline:
            done = [await pipeline.submit(part) for part in batches]
        await asyncio.gather(*done)


def _by_meter(batch: ReadingBatch) -> list[ReadingBatch]:
    """The same rows as a collector brings them: one batch for each meter."""
    parts = []
    for place, covered in enumerate(batch.covered_us):
        rows_of = slice(place * _ROWS, (place + 1) * _ROWS)
        columns = {name: getattr(batch, name)[rows_of] for name in _COLUMNS}
        parts.append(ReadingBatch(**columns, layouts=batch.layouts, covered_us=(covered,), source="bench"))
    return parts


_COLUMNS: Final = (
    "meter_id", "profile", "start_us", "period_s", "stamp_us", "amr_status", "clock_status", "quality",
    "fragment", "layout", "values", "valid",
)  # fmt: skip


async def measure(rounds: int, batches: int) -> tuple[str, list[StoreRound]]:
    """Where it was stored, and the rounds; a first one, in which coverage is made, is not counted."""
    async with database() as (dsn, where), open_pool(dsn, max_size=2) as pool:
        bench = StoreBench(pool, batches)
        await bench.prepare()
        await bench.round()
        return where, [await bench.round() for _ in range(rounds)]
