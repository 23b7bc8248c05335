"""Jobs of simulated meters over real sockets, worked at by lanes into a real database."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from concentrator_sim.field import Field
from concentrator_sim.generator import quarter_of
from concentrator_sim.scenario import make_scenario
from headend.foundation import open_base
from headend.house import House, open_house
from headend.ingest.meter_import import import_meters
from headend.jobs.janitor import tidy
from headend.links.permits import Urgency
from headend.store import attempts, jobs, meters, queue, requests
from headend.store.jobs import Counts
from schemas.config import load_settings
from schemas.failure import Stage
from schemas.job import CurveRange, Curves, Events, JobKind, Registers, RequestState, Retry, Work

UNTIL = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=26)
SINCE = UNTIL - timedelta(hours=6)
RANGE = CurveRange(profile=1, since=SINCE, until=UNTIL)
QUARTERS = 24
RETRY = Retry(attempts=2, first_s=0.01, longest_s=0.01)


class Works:
    """A house with a simulated field, and a queue that works at lanes."""

    def __init__(self, house: House, field: Field, dsn: str) -> None:
        self.house = house
        self.field = field
        self.dsn = dsn
        self.meters: dict[str, int] = {}

    async def job(
        self, *work: Work, urgency: Urgency = Urgency.SCHEDULED, only: list[str] | None = None
    ) -> int:
        """A job for all meters of the field."""
        now = datetime.now(UTC)
        numbers = [number for name, number in self.meters.items() if only is None or name in only]
        async with self.house.base.pool.connection() as connection:
            job_id = await jobs.create(
                connection,
                jobs.NewJob(
                    kind=JobKind.ON_DEMAND if urgency is Urgency.ON_DEMAND else JobKind.SCHEDULED,
                    title="test", work=work, priority=5, deadline=now + timedelta(hours=1),
                    drop_dead=now + timedelta(hours=1), actor="test", correlation_id="c", retry=RETRY,
                ),
            )  # fmt: skip
            assert job_id is not None
            lanes = await jobs.add_requests(
                connection, job_id, numbers, urgency=urgency, due_by=now, next_at=now,
                drop_dead=now + timedelta(hours=1),
            )  # fmt: skip
            await queue.wake(connection, lanes, priority=int(urgency is Urgency.ON_DEMAND))
        return job_id

    async def ended(self, job_id: int) -> Counts:
        """When nothing of the job is open any more."""
        async with asyncio.timeout(60):
            while True:
                await tidy(self.house.base.pool.connection)
                async with self.house.base.pool.connection() as connection:
                    job = await jobs.find(connection, job_id)
                    if job is not None and job.ended_at is not None:
                        return (await jobs.counts(connection, [job_id]))[job_id]
                await asyncio.sleep(0.05)

    def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        """Rows of each meter by asset id: start and the four registers."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        with psycopg.connect(self.dsn) as connection:
            for asset_id, *row in connection.execute(
                """SELECT asset_id, start, active_import, active_export, reactive_import, reactive_export
                   FROM interval_reads JOIN meters USING (meter_id) ORDER BY asset_id, start"""
            ):
                found.setdefault(asset_id, []).append(tuple(row))
        return found

    def truth(self, n: int) -> list[tuple[Any, ...]]:
        """What the field's meter ``n`` had at the ends of the intervals of [SINCE, UNTIL)."""
        first = quarter_of(round(SINCE.timestamp())) + 1
        columns = self.field.meters[n].meter.consumption.quarters(range(4), first, QUARTERS)
        starts = [SINCE + k * timedelta(minutes=15) for k in range(QUARTERS)]
        return [(start, *(int(column[k]) for column in columns)) for k, start in enumerate(starts)]

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query).fetchall()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)


async def works(stack: AsyncExitStack, dsn: str, field: dict[str, Any], **given: Any) -> Works:
    """Everything open, the queue at work, all meters imported."""
    simulated = await stack.enter_async_context(Field(make_scenario({"base_port": 0, **field})))
    settings = load_settings(**{"database_url": dsn, "master_key": "42" * 32, **given})
    base = await stack.enter_async_context(open_base(settings))
    house = await stack.enter_async_context(open_house(base))
    async with base.pool.connection() as connection:
        done = await import_meters(
            connection, simulated.csv().encode(), vault=await base.vault(), since=SINCE - timedelta(days=8),
            actor="test", allow_plain_keys=True,
        )  # fmt: skip
        assert not done.errors, done.errors
        found = await meters.page(connection, limit=1000)
    made = Works(house, simulated, dsn)
    made.meters = {one.asset_id: one.meter_id for one in found}
    crew = await stack.enter_async_context(house.at_work("test"))
    running = asyncio.create_task(crew.run(drain_s=5))

    async def end() -> None:
        running.cancel()
        await asyncio.wait([running])

    stack.push_async_callback(end)
    return made


async def test_a_job_is_read_to_the_end_each_interval_once(database: Any) -> None:
    async with AsyncExitStack() as stack:
        made = await works(stack, database.dsn, {"meters": 33, "mix": "all"})
        job_id = await made.job(RANGE)
        assert await made.ended(job_id) == Counts(done=33)
        rows = made.stored()
        for n, item in enumerate(made.field.meters):
            assert rows[item.meter.serial] == made.truth(n), item.meter.mode
        # one attempt each, and it says what came
        assert made.rows("SELECT count(*), sum(rows), max(number), count(stage) FROM attempts") == [
            (33, 33 * QUARTERS, 1, 0)
        ]
        assert made.rows("SELECT count(*) FROM attempts WHERE bytes_out > 100 AND bytes_in > 500") == [(33,)]
        # in the end the lanes are free for others, and the queue is empty
        await until(lambda: made.rows("SELECT count(*) FROM lanes WHERE holder IS NOT NULL") == [(0,)])
        await until(lambda: made.rows("SELECT count(*) FROM procrastinate_jobs") == [(0,)])


async def test_what_is_covered_is_not_asked_again(embedded_database: Any) -> None:
    async with AsyncExitStack() as stack:
        made = await works(stack, embedded_database.dsn, {"meters": 3})
        assert await made.ended(await made.job(Curves(days=2))) == Counts(done=3)
        (count,) = made.rows("SELECT count(*) FROM interval_reads")[0]
        assert count >= 3 * 2 * 95
        assert await made.ended(await made.job(Curves(days=1))) == Counts(done=3)
        sums = made.rows("SELECT sum(rows) FROM attempts GROUP BY job_id ORDER BY job_id")
        assert len(sums) == 1 or sums[1][0] <= 3, "at most the interval that ended meanwhile"


async def test_several_requests_to_one_meter_are_one_association(embedded_database: Any) -> None:
    async with AsyncExitStack() as stack:
        made = await works(stack, embedded_database.dsn, {"meters": 1})
        (asset_id,) = made.meters
        pool = made.house.base.pool
        async with pool.connection() as connection:  # all of them are there before anybody looks
            await connection.execute("UPDATE lanes SET holder = 'somebody', expires_at = 'infinity'")
            await connection.execute(
                "INSERT INTO lanes VALUES (lane_of(%s, 'tcp://x:1', NULL), 'somebody', 1, 'infinity')",
                (made.meters[asset_id],),
            )
        numbers = [await made.job(one) for one in (RANGE, Registers(obis=("1-0:1.8.0*255",)), Events())]
        async with pool.connection() as connection:
            await connection.execute("UPDATE lanes SET holder = NULL, expires_at = '-infinity'")
        for job_id in numbers:
            assert await made.ended(job_id) == Counts(done=1)
        assert made.rows("SELECT count(*) FROM attempts") == [(1,)]
        assert made.rows("SELECT count(*) FROM register_reads") == [(1,)]
        assert made.rows("SELECT count(*) FROM event_cursors") == [(1,)]


async def test_what_somebody_waits_for_says_what_came(embedded_database: Any) -> None:
    async with AsyncExitStack() as stack:
        made = await works(stack, embedded_database.dsn, {"meters": 1})
        work = (Registers(obis=("1-0:1.8.0*255", "1-0:99.99.9*255")), RANGE)
        job_id = await made.job(*work, urgency=Urgency.ON_DEMAND)
        assert await made.ended(job_id) == Counts(done=1)
        async with made.house.base.pool.connection() as connection:
            (request,) = await requests.of_job(connection, job_id, limit=10)
        assert request.result is not None
        assert [one["obis"] for one in request.result["registers"]] == ["1-0:1.8.0*255"]
        assert [one["obis"] for one in request.result["refused"]] == ["1-0:99.99.9*255"]
        assert request.result["intervals"] == QUARTERS


async def test_dead_meters_fail_with_their_stage_and_cost_nobody_else(embedded_database: Any) -> None:
    async with AsyncExitStack() as stack:
        made = await works(
            stack, embedded_database.dsn, {"meters": 8, "silent_every": 4}, response_timeout_s=0.3
        )
        job_id = await made.job(RANGE)
        assert await made.ended(job_id) == Counts(done=6, failed=2)
        async with made.house.base.pool.connection() as connection:
            failed = await requests.of_job(connection, job_id, limit=10, states=[RequestState.FAILED])
            assert {(one.stage, one.attempts) for one in failed} == {(Stage.TIMEOUT, 2)}
            tried = await attempts.of_meter(connection, failed[0].meter_id, limit=10)
            assert [(one.number, one.stage, one.fault, one.rows) for one in tried] == [
                (2, Stage.TIMEOUT, "link", 0), (1, Stage.TIMEOUT, "link", 0),
            ]  # fmt: skip


@pytest.mark.parametrize("urgency", [Urgency.SCHEDULED, Urgency.ON_DEMAND])
async def test_a_cancelled_job_is_asked_for_no_more(embedded_database: Any, urgency: Urgency) -> None:
    async with AsyncExitStack() as stack:
        made = await works(
            stack, embedded_database.dsn, {"meters": 4, "silent_every": 1}, response_timeout_s=0.3
        )
        job_id = await made.job(RANGE, urgency=urgency)
        async with made.house.base.pool.connection() as connection:
            assert await jobs.cancel(connection, job_id) == 4
        assert await made.ended(job_id) == Counts(cancelled=4)
