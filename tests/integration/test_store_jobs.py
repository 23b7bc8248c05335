"""Jobs and their requests in a real database."""

from datetime import UTC, datetime, timedelta

import pytest

from headend.store import jobs
from headend.store.pool import Pool, open_pool
from headend.store.sql import Connection
from schemas.job import CurveRange, Curves, JobKind

_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_DAY = CurveRange(profile=1, since=_NOW, until=_NOW + timedelta(days=1))


@pytest.fixture
async def pool(database):
    async with open_pool(database.dsn, max_size=2) as opened:
        yield opened


def _new(**changed: object) -> jobs.NewJob:
    told = {
        "kind": JobKind.SCHEDULED, "title": "night", "work": (Curves(days=2),), "priority": 5,
        "deadline": _NOW + timedelta(hours=6), "drop_dead": _NOW + timedelta(hours=8), "actor": "test",
        "correlation_id": "c-1", "schedule_id": 7, "run_at": _NOW,
    }  # fmt: skip
    return jobs.NewJob(**(told | changed))  # type: ignore[arg-type]


async def _meter(connection: Connection, name: str, address: str) -> int:
    cursor = await connection.execute(
        "INSERT INTO meters (asset_id, model, address) VALUES (%s, 'm', %s) RETURNING meter_id",
        (name, address),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _node(connection: Connection, code: str, kind: str, meter_id: int | None = None) -> int:
    cursor = await connection.execute(
        "INSERT INTO network_nodes (code, kind, meter_id) VALUES (%s, %s, %s) RETURNING node_id",
        (code, kind, meter_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _hang(connection: Connection, child: int, parent: int) -> None:
    await connection.execute(
        "INSERT INTO network_links (child, parent, hops, during) VALUES (%s, %s, 1, '[2020-01-01,)')",
        (child, parent),
    )


async def test_a_request_stands_in_the_lane_of_what_is_shared(pool: Pool) -> None:
    async with pool.connection() as connection:
        direct = await _meter(connection, "direct", "tcp://127.0.0.1:4059")
        modbus = await _meter(connection, "modbus", "modbus+rtu+tcp://127.0.0.1:4001?unit=3")
        inbound = await _meter(connection, "inbound", "inbound:")
        behind = await _meter(connection, "behind", "via:?gateway=0:0A")
        feeder, station = (
            await _node(connection, "F1", "feeder"),
            await _node(connection, "DC1", "concentrator"),
        )
        transformer = await _node(connection, "T1", "transformer")
        relay, node = (
            await _node(connection, "R", "relay"),
            await _node(connection, "behind", "meter", behind),
        )
        for child, parent in ((transformer, feeder), (station, transformer), (relay, station), (node, relay)):
            await _hang(connection, child, parent)
        job_id = await jobs.create(connection, _new())
        assert job_id is not None
        lanes = await jobs.add_requests(
            connection, job_id, [direct, modbus, inbound, behind, -station],
            urgency=20, due_by=_NOW, next_at=_NOW, drop_dead=_NOW + timedelta(hours=8),
            works=[None, None, None, (_DAY,), None],
        )  # fmt: skip
        assert lanes == sorted(
            [
                f"lot:{direct // 500}",
                "line:modbus+rtu+tcp://127.0.0.1:4001",
                f"inbound:{inbound}",
                f"station:{station}",
            ]
        )
        cursor = await connection.execute("SELECT meter_id, lane, work FROM requests ORDER BY request_id")
        rows = {meter: (lane, work) for meter, lane, work in await cursor.fetchall()}
        assert rows[behind][0] == rows[-station][0] == f"station:{station}"
        assert rows[behind][1][0]["kind"] == "range"
        assert rows[direct][1] is None
        assert (await jobs.counts(connection, [job_id]))[job_id] == jobs.Counts(open=5)


async def test_a_schedule_has_one_job_for_each_of_its_times(pool: Pool) -> None:
    async with pool.connection() as connection:
        assert await jobs.create(connection, _new()) is not None
        assert await jobs.create(connection, _new()) is None
        assert await jobs.create(connection, _new(run_at=_NOW + timedelta(days=1))) is not None
        # those that no schedule made are as many as are asked for
        for _ in range(2):
            assert await jobs.create(connection, _new(schedule_id=None, run_at=None)) is not None


async def test_a_job_ends_with_its_last_request(pool: Pool) -> None:
    async with pool.connection() as connection:
        meter = await _meter(connection, "one", "tcp://127.0.0.1:4059")
        job_id = await jobs.create(connection, _new())
        assert job_id is not None
        await jobs.add_requests(
            connection, job_id, [meter], urgency=20, due_by=_NOW, next_at=_NOW, drop_dead=_NOW
        )
        assert await jobs.end(connection) == []
        found = await jobs.find(connection, job_id)
        assert found is not None
        assert found.work == (Curves(days=2),)
        assert await jobs.cancel(connection, job_id) == 1
        found = await jobs.find(connection, job_id)
        assert found is not None
        assert found.ended_at is not None
        assert found.cancelled_at is not None
        assert [one.job_id for one in await jobs.page(connection, limit=10, is_open=False)] == [job_id]
