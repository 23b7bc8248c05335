"""A scheduler killed while it plans leaves nothing half done; an API killed while it waits loses no read."""

import asyncio
import signal
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario
from headend.foundation import open_base
from headend.schedules import changes
from headend.store import meters, tokens
from headend.store.pool import open_pool
from headend.store.tokens import Scope
from schemas.config import load_settings
from schemas.job import Curves
from schemas.meter import MeterState, NewMeter
from schemas.schedule import Schedule

from .conftest import Processes
from .test_workers_killed import Night, import_field
from .test_workers_killed import processes as processes

pytestmark = pytest.mark.timeout(240)

METERS = 50
_PLANNED = """SELECT count(DISTINCT j.job_id), count(r.request_id)
                FROM jobs j LEFT JOIN requests r USING (job_id) WHERE j.title = 'night'"""


async def due_schedule(dsn: str) -> None:
    """A schedule whose run has just come, of meters that nobody reads here."""
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    async with open_pool(dsn, max_size=1) as pool, pool.connection() as connection:
        new = [NewMeter(f"M-{n}", "headend-sim", address="tcp://127.0.0.1:1") for n in range(METERS)]
        await meters.add_many(connection, new, since=long_ago, state=MeterState.COMMISSIONED)
        wanted = Schedule(name="night", every_min=60 * 24, works=(Curves(),), deadline="6h")
        await changes.add(connection, wanted, now=datetime.now(UTC), actor="test")
        await connection.execute(
            "UPDATE schedules SET next_at = now() - interval '10 s' WHERE name = 'night'"
        )


async def test_a_scheduler_that_is_killed_while_it_plans_is_followed_by_another(
    processes: Processes, embedded_database: Any
) -> None:
    dsn = embedded_database.dsn
    it = Night(processes, dsn, Field(make_scenario({"base_port": 0, "meters": 1})))
    await due_schedule(dsn)
    with psycopg.connect(dsn) as blocking:
        # reading goes on, and the planner stops where it adds requests
        blocking.execute("LOCK TABLE requests IN SHARE MODE")
        first = processes.start("scheduler", database_url=dsn)
        await it.until(
            """SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
                  AND strpos(query, 'INSERT INTO requests') > 0 AND pid <> pg_backend_pid()"""
        )
        first.send(signal.SIGKILL)
        first.end()
    assert it.rows(_PLANNED) == [(0, 0)]
    both = [processes.start("scheduler", database_url=dsn) for _ in range(2)]
    await it.until("SELECT FROM jobs WHERE title = 'night'")
    for one in both:
        await asyncio.to_thread(one.until, "scheduler ")
        assert await asyncio.to_thread(one.stop) == 0
    assert it.rows(_PLANNED) == [(1, METERS)]


async def test_a_read_goes_on_when_the_api_that_waits_for_it_is_killed(
    processes: Processes, embedded_database: Any
) -> None:
    dsn = embedded_database.dsn
    scenario = make_scenario({"base_port": 0, "meters": 1, "security": "hls5", "delay_ms": 400})
    async with Field(scenario) as field:
        await import_field(dsn, field, 1)
        async with open_base(load_settings(database_url=dsn)) as base, base.pool.connection() as connection:
            secret = (await tokens.create(connection, name="t", scopes=[Scope.OPERATE])).secret
        it = Night(processes, dsn, field)
        try:
            worker = await it.hire()
            asset_id = field.meters[0].meter.serial
            headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "once"}
            ask = {"selection": {"meters": [asset_id]}, "works": [{"kind": "registers"}], "wait_s": 30}

            async def api() -> tuple[Any, httpx.AsyncClient]:
                process = processes.start("api", "--port", "0", database_url=dsn)
                url = (await asyncio.to_thread(process.until, "API ")).split()[-1]
                return process, httpx.AsyncClient(base_url=url, headers=headers, timeout=60)

            process, client = await api()
            async with client:
                asking = asyncio.create_task(client.post("/api/v1/reads", json=ask))
                await it.until("SELECT FROM requests")
                process.send(signal.SIGKILL)
                with pytest.raises(httpx.TransportError):
                    await asking
            process, client = await api()
            async with client:
                answer = await client.post("/api/v1/reads", json=ask)
            assert answer.status_code == 200, answer.text
            assert it.rows("SELECT count(*) FROM jobs WHERE kind = 'on_demand'") == [(1,)]
            assert it.rows("SELECT state FROM requests") == [("done",)]
            assert it.rows("SELECT worker, count(*) FROM attempts GROUP BY 1") == [(worker, 1)]
        finally:
            await asyncio.to_thread(processes.end)
