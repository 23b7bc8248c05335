"""The change feed's rows: who reads below the oldest open transaction misses no late commit."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from headend.ingest.reading_import import import_readings
from headend.store import meters
from schemas.meter import NewMeter
from schemas.reading import Quality

T0 = datetime(2026, 1, 1, tzinfo=UTC)
#: What a reader asks: complete up to the oldest transaction that may still write, after its cursor.
FEED = """SELECT xid::text::bigint, change_id, meter_id FROM changes
           WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
             AND (xid::text::bigint, change_id) > (%s, %s)
           ORDER BY changes.xid, change_id"""


async def read(
    connection: psycopg.AsyncConnection[Any], cursor: tuple[int, int]
) -> Sequence[tuple[int, int, int]]:
    return await (await connection.execute(FEED, cursor)).fetchall()


async def told_since(
    connection: psycopg.AsyncConnection[Any], cursor: tuple[int, int], rows: int
) -> Sequence[tuple[int, int, int]]:
    """As `read`, once it has ``rows``: the server's own transactions (ANALYZE, say) may hold it back."""
    for _ in range(1000):
        found = await read(connection, cursor)
        if len(found) >= rows:
            return found
        await connection.execute("SELECT pg_sleep(0.01)")
    raise AssertionError(f"{rows} rows did not come")


async def test_a_late_commit_is_not_skipped(database: Any) -> None:
    connect = psycopg.AsyncConnection.connect
    async with (
        await connect(database.dsn) as slow,
        await connect(database.dsn) as fast,
        await connect(database.dsn, autocommit=True) as reader,
    ):
        first, second, _ = [
            (await meters.add(reader, NewMeter(name, "headend-sim"), since=T0)).meter_id for name in "ABC"
        ]

        async def store(connection: psycopg.AsyncConnection[Any], meter: str) -> None:
            data = f"asset_id,obis,time,value\n{meter},1.8.0,2026-01-02T00:00:00Z,1\n".encode()
            done = await import_readings(
                connection, data, quality=Quality.MANUAL, now=datetime(2026, 2, 1, tzinfo=UTC), source="test"
            )
            assert done.written is not None
            assert done.written.registers == 1

        await store(fast, "C")  # TimescaleDB makes the chunk, for which others would wait
        await fast.commit()
        begin = (await told_since(reader, (0, 0), 1))[-1][:2]
        await store(slow, "A")  # it has its number, and is not committed
        await store(fast, "B")
        await fast.commit()
        assert await read(reader, begin) == [], "what comes after an open transaction waits for it"
        await slow.commit()
        told = await told_since(reader, begin, 2)
        assert [meter for _, _, meter in told] == [first, second]
        assert await read(reader, told[0][:2]) == told[1:]
        assert await read(reader, told[-1][:2]) == []
