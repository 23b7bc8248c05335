"""Workers on one database, killed, stopped and resumed while a job runs: each interval once, and true."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from concentrator_sim.field import Field
from concentrator_sim.generator import quarter_of
from concentrator_sim.scenario import make_scenario
from headend.foundation import open_base
from headend.ingest.meter_import import import_meters
from headend.jobs.janitor import PERIOD_S
from headend.links.permits import Urgency
from headend.store import jobs, meters, queue
from headend.store.jobs import NewJob
from headend.store.pool import open_pool
from schemas.config import load_settings
from schemas.job import CurveRange, JobKind, Retry

from .conftest import MASTER_KEY, Process, Processes

pytestmark = pytest.mark.timeout(600)

UNTIL = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=26)
SINCE = UNTIL - timedelta(hours=6)
QUARTERS = 24
LEASE_S = 2.0
#: What a takeover may take by the tables: the lease, a janitor's longest period, and a slow machine.
TAKEOVER_S = LEASE_S + 1.5 * PERIOD_S + 10.0
GUARD_S = 150.0
#: Meters whose numbers lie so far apart stand in lots of their own, five and five.
APART = 100


class Night:
    """A job for a simulated field, and what the tables say of it."""

    def __init__(self, processes: Processes, dsn: str, field: Field) -> None:
        self.processes = processes
        self.dsn = dsn
        self.field = field
        self.workers: dict[str, Process] = {}

    def rows(self, query: str, *given: Any) -> list[Any]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode(), given).fetchall()

    async def hire(self, *, concurrency: int = 6, **settings: Any) -> str:
        """A worker process; its name in the tables."""
        process = self.processes.start(
            "worker", database_url=self.dsn, master_key=MASTER_KEY, lane_lease_s=LEASE_S,
            collector_concurrency=concurrency, shutdown_timeout_s=10, **settings,
        )  # fmt: skip
        name = (await asyncio.to_thread(process.until, "worker ")).split()[-1]
        self.workers[name] = process
        return name

    def held(self, worker: str) -> dict[str, int]:
        """Lanes of a worker and their fences."""
        found = self.rows("SELECT lane, fence FROM lanes WHERE holder = %s AND expires_at > now()", worker)
        return dict(found)

    def is_open(self) -> bool:
        ((number,),) = self.rows("SELECT count(*) FROM requests WHERE state = 'open'")
        return bool(number)

    async def until(self, query: str, *given: Any) -> None:
        """Until the query, asked again and again, tells of a row."""
        async with asyncio.timeout(GUARD_S):
            while not await asyncio.to_thread(self.rows, query, *given):  # noqa: ASYNC110 - tables tell nobody
                await asyncio.sleep(0.1)

    async def at_work(self, worker: str) -> None:
        """Until the worker holds lanes and has read of them."""
        held = "SELECT FROM lanes WHERE holder = %s AND expires_at > now()"
        await self.until(f"{held} AND EXISTS (SELECT FROM attempts WHERE worker = %s)", worker, worker)

    async def through(self) -> None:
        """Until nothing is open."""
        await self.until("SELECT WHERE NOT EXISTS (SELECT FROM requests WHERE state = 'open')")

    def check(self) -> None:
        """Every interval is stored once, as the simulator had it, and every request is done."""
        assert self.rows("SELECT state, count(*) FROM requests GROUP BY 1") == [
            ("done", len(self.field.meters))
        ]
        first = quarter_of(round(SINCE.timestamp())) + 1
        starts = [SINCE + n * timedelta(minutes=15) for n in range(QUARTERS)]
        found: dict[str, list[tuple[Any, ...]]] = {}
        for serial, *row in self.rows(
            """SELECT asset_id, start, active_import, active_export, reactive_import, reactive_export
                 FROM interval_reads JOIN meters USING (meter_id) ORDER BY asset_id, start"""
        ):
            found.setdefault(serial, []).append(tuple(row))
        for item in self.field.meters:
            columns = item.meter.consumption.quarters(range(4), first, QUARTERS)
            truth = [(start, *(int(column[n]) for column in columns)) for n, start in enumerate(starts)]
            assert found[item.meter.serial] == truth
        assert self.rows("SELECT count(*) FROM interval_revisions") == [(0,)]


@asynccontextmanager
async def night(processes: Processes, dsn: str, *, count: int, delay_ms: int) -> AsyncIterator[Night]:
    """The field serves, its meters are stored, and one job wants all of them."""
    scenario = make_scenario({"base_port": 0, "meters": count, "security": "hls5", "delay_ms": delay_ms})
    async with Field(scenario) as field:
        numbers = await import_field(dsn, field, count)
        await ask(dsn, numbers)
        try:
            yield Night(processes, dsn, field)
        finally:
            await asyncio.to_thread(processes.end)


async def import_field(dsn: str, field: Field, count: int) -> list[int]:
    """Store the field's meters, apart from each other; their numbers."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER SEQUENCE meters_meter_id_seq INCREMENT BY {APART}".encode())
    settings = load_settings(database_url=dsn, master_key=MASTER_KEY)
    async with open_base(settings) as base, base.pool.connection() as connection_:
        done = await import_meters(
            connection_, field.csv().encode(), vault=await base.vault(), since=SINCE - timedelta(days=8),
            actor="test", allow_plain_keys=True,
        )  # fmt: skip
        assert not done.errors
        return [one.meter_id for one in await meters.page(connection_, limit=count)]


async def ask(dsn: str, numbers: Sequence[int]) -> None:
    """A job as a schedule makes it."""
    now = datetime.now(UTC)
    hour = now + timedelta(hours=1)
    async with open_pool(dsn, max_size=1) as pool, pool.connection() as connection:
        job_id = await jobs.create(
            connection,
            NewJob(
                kind=JobKind.SCHEDULED, title="night", priority=5, deadline=hour, drop_dead=hour,
                work=(CurveRange(profile=1, since=SINCE, until=UNTIL),), actor="test", correlation_id="c",
                retry=Retry(attempts=5, first_s=0.1, longest_s=0.5),
            ),
        )  # fmt: skip
        assert job_id is not None
        lanes = await jobs.add_requests(
            connection, job_id, numbers, urgency=Urgency.SCHEDULED, due_by=hour, next_at=now, drop_dead=hour
        )
        await queue.wake(connection, lanes)


@pytest.fixture
def processes(tmp_path: Path) -> Any:
    made = Processes(tmp_path, "")
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("database", ["timescaledb"], indirect=True)
async def test_each_of_three_workers_is_killed_in_turn(processes: Processes, database: Any) -> None:
    async with night(processes, database.dsn, count=200, delay_ms=120) as it:
        for name in await asyncio.gather(*(it.hire() for _ in range(3))):
            await it.at_work(name)
            it.workers[name].send(signal.SIGKILL)
            assert it.is_open()  # or nothing was cut off
            await it.hire()
        await it.through()
        for name, process in it.workers.items():
            if process.is_up():
                assert await asyncio.to_thread(process.stop) == 0, name
        it.check()


async def test_a_lost_holder_is_followed_within_lease_and_janitor(
    processes: Processes, embedded_database: Any
) -> None:
    async with night(processes, embedded_database.dsn, count=100, delay_ms=150) as it:
        first, other = await asyncio.gather(it.hire(concurrency=12), it.hire(concurrency=12))
        await it.at_work(first)
        await it.at_work(other)
        lanes = list(it.held(first))
        ((killed_at,),) = it.rows("SELECT clock_timestamp()")
        it.workers[first].send(signal.SIGKILL)
        assert lanes
        assert it.is_open()
        await it.through()
        it.check()
        ((taken_at,),) = it.rows(
            """SELECT min(began_at) FROM attempts JOIN meters USING (meter_id)
                WHERE worker = %s AND began_at > %s AND lane_of(meter_id, address, NULL) = ANY (%s)""",
            other, killed_at, lanes,
        )  # fmt: skip
        assert (taken_at - killed_at).total_seconds() <= TAKEOVER_S


async def test_a_holder_that_was_stopped_writes_nothing_of_what_it_lost(
    processes: Processes, embedded_database: Any
) -> None:
    async with night(processes, embedded_database.dsn, count=60, delay_ms=60) as it:
        sleeper = await it.hire(concurrency=8)
        await it.at_work(sleeper)
        it.workers[sleeper].send(signal.SIGSTOP)
        held = it.held(sleeper)
        assert held
        await it.hire(concurrency=8)
        taken = "SELECT FROM lanes WHERE holder = %s HAVING count(*) = 0"
        await it.until(taken, sleeper)
        ((stopped_at, before),) = it.rows(
            "SELECT clock_timestamp(), count(*) FROM attempts WHERE worker = %s", sleeper
        )
        it.workers[sleeper].send(signal.SIGCONT)
        await it.through()
        assert await asyncio.to_thread(it.workers[sleeper].stop) == 0
        it.check()
        ((after,),) = it.rows(
            "SELECT count(*) FROM attempts WHERE worker = %s AND began_at <= %s", sleeper, stopped_at
        )
        assert after == before
        said = "".join(it.workers[sleeper].said)
        assert any(f"{lane} is lost" in said or f"lane {lane} is given up" in said for lane in held)


async def test_a_worker_that_is_asked_to_end_gives_its_lanes_back(
    processes: Processes, embedded_database: Any
) -> None:
    async with night(processes, embedded_database.dsn, count=60, delay_ms=60) as it:
        leaving = await it.hire(concurrency=8)
        await it.at_work(leaving)
        assert await asyncio.to_thread(it.workers[leaving].stop) == 0
        assert it.is_open()
        assert it.held(leaving) == {}
        assert it.rows("SELECT count(*) FROM workers") == [(0,)]
        # what was read is settled; what was not waits for nobody's lease to end
        read = it.rows("SELECT count(DISTINCT meter_id) FROM attempts WHERE stage IS NULL")
        assert read == it.rows("SELECT count(*) FROM requests WHERE state = 'done'")
        assert it.rows("SELECT count(*) FROM lanes WHERE expires_at > now()") == [(0,)]
        await it.hire(concurrency=24)
        await it.through()
        it.check()
