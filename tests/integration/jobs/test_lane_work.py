"""A lane at work in a real database, with a driver of the test's own: order, giving way, fences."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headend.drivers.contract import Curve, Feature, Recall, Target
from headend.drivers.registry import Drivers
from headend.ingest.pipeline import Pipeline
from headend.jobs.asked import Preparer
from headend.jobs.forwarding import Forwarding
from headend.jobs.janitor import tidy
from headend.jobs.lanes import LaneKeeper
from headend.jobs.queue import Queue
from headend.jobs.visit import Visitor
from headend.jobs.work import SLOTS, LaneWorker
from headend.links import limits
from headend.links.limits import Limits
from headend.links.links import Links
from headend.links.permits import Urgency
from headend.programs.applier import Applier
from headend.store import jobs, lanes, meters, queue
from headend.store.jobs import Counts, NewJob
from headend.store.pool import Pool, open_pool
from headend.store.writer import write
from protocols.errors import LinkTimeout
from schemas.address import LinkAddress
from schemas.job import CurveRange, JobKind, Retry
from schemas.meter import MeterState, NewMeter
from schemas.reading import Channel, ChannelLayout, ReadingBatch

T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
RANGE = CurveRange(profile=1, since=T0, until=T0 + timedelta(minutes=15))
WEEK = CurveRange(profile=1, since=T0, until=T0 + 7 * DAY)
LAYOUT = ChannelLayout((Channel("active_import", "1-0:1.8.0*255", 0, "Wh"), None, None, None))
RETRY = Retry(attempts=2, first_s=0.01, longest_s=0.01)


def row(meter_id: int, start: datetime) -> ReadingBatch:
    """One interval."""
    us = round(start.timestamp()) * 1_000_000
    return ReadingBatch(
        meter_id=np.array([meter_id], np.int32),
        profile=np.ones(1, np.int16),
        start_us=np.array([us]),
        period_s=np.full(1, 900, np.int32),
        stamp_us=np.array([us + 900_000_000]),
        amr_status=np.zeros(1, np.int64),
        clock_status=np.zeros(1, np.int16),
        quality=np.zeros(1, np.int16),
        fragment=np.zeros(1, np.int8),
        layout=np.zeros(1, np.int16),
        values=np.zeros((1, 4), np.int64),
        valid=np.array([[True, False, False, False]]),
        layouts=(LAYOUT,),
        covered_us=((meter_id, 1, us, us + 900_000_000),),
        source="test",
    )


@dataclass
class Driver:
    """Meters that answer when the test lets them: ``asked`` tells who was, ``gates`` hold those named."""

    names: tuple[str, ...] = ("dlms",)
    asked: list[tuple[int, datetime]] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    on_read: Callable[[int], None] = lambda _: None

    def features(self, model: str) -> frozenset[Feature]:
        return frozenset({Feature.CURVES})

    def curves(self, model: str) -> tuple[Curve, ...]:
        return (Curve(1, 900, Recall.STORED),)

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Any]:
        return {
            one.meter.meter_id: SimpleNamespace(
                target=one, address=LinkAddress.parse(one.meter.address or "")
            )
            for one in targets
        }

    def is_away(self, way: Any) -> bool:
        return False

    @asynccontextmanager
    async def open(self, way: Any, *, answer_s: float | None = None) -> AsyncIterator[Any]:
        meter_id = way.target.meter.meter_id
        self.opened.append(meter_id)
        if meter_id in self.silent:
            raise LinkTimeout("silent")

        async def read(number: int, start: datetime, end: datetime) -> ReadingBatch:
            self.asked.append((meter_id, start))
            self.on_read(meter_id)
            if (gate := self.gates.get(meter_id)) is not None:
                await gate.wait()
            return row(meter_id, start)

        yield SimpleNamespace(answers_s=[0.1], traffic=(10, 400), read_load_curve=read)


class Bench:
    """Meters ``1..n`` of one lane, and what works at it."""

    def __init__(self, pool: Pool, pipeline: Pipeline) -> None:
        self.pool = pool
        self.pipeline = pipeline
        self.driver = Driver()
        self.links = Links(Limits())
        self.meters: list[int] = []

    async def add(self, address: str, count: int) -> None:
        async with self.pool.connection() as connection:
            for n in range(count):
                meter = await meters.add(
                    connection, NewMeter(f"M{n}", "headend-sim", address=address.format(n=n)), since=T0
                )
                await meters.change_state(connection, meter.meter_id, MeterState.INSTALLED, since=T0 + HOUR)
                await meters.change_state(
                    connection, meter.meter_id, MeterState.COMMISSIONED, since=T0 + 2 * HOUR
                )
                self.meters.append(meter.meter_id)

    async def ask(
        self, numbers: Sequence[int], work: CurveRange = RANGE, urgency: Urgency = Urgency.SCHEDULED
    ) -> int:
        """A job for these meters, the earlier in the list the earlier due."""
        now = datetime.now(UTC)
        async with self.pool.connection() as connection:
            job_id = await jobs.create(
                connection,
                NewJob(
                    kind=JobKind.SCHEDULED, title="t", work=(work,), priority=5, deadline=now + DAY,
                    drop_dead=now + DAY, actor="t", correlation_id="c", retry=RETRY,
                ),
            )  # fmt: skip
            assert job_id is not None
            found: list[str] = []
            for n, meter_id in enumerate(numbers):
                found += await jobs.add_requests(
                    connection, job_id, [meter_id], urgency=urgency, due_by=now + timedelta(seconds=n),
                    next_at=now, drop_dead=now + DAY,
                )  # fmt: skip
            await queue.wake(connection, sorted(set(found)), priority=int(urgency is Urgency.ON_DEMAND))
        return job_id

    @asynccontextmanager
    async def crew(self, name: str = "one", lease_s: float = 15) -> AsyncIterator[Queue]:
        connect = self.pool.connection
        async with LaneKeeper(self.pool, name, lease_s=lease_s) as keeper:
            drivers = Drivers([self.driver])
            visitor = Visitor(
                self.links,
                self.pipeline,
                Forwarding(connect, self.pipeline),
                Applier(connect, ()),
                drivers,
                worker=name,
                lease_s=lease_s,
            )
            yield Queue(
                self.pool, keeper, LaneWorker(connect, Preparer(connect, drivers), visitor, self.pipeline)
            )

    async def counts(self, job_id: int) -> Counts:
        async with self.pool.connection() as connection:
            return (await jobs.counts(connection, [job_id]))[job_id]

    async def count(self, table: str) -> int:
        async with self.pool.connection() as connection:
            (found,) = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchone() or (0,)
        return int(found)

    async def lane(self) -> str:
        async with self.pool.connection() as connection:
            (found,) = await lanes.page(connection, limit=10)
        return found.lane


@pytest.fixture
async def bench(embedded_database: Any) -> AsyncIterator[Bench]:
    async with (
        open_pool(embedded_database.dsn, max_size=6) as pool,
        Pipeline(lambda batch, settlement: write(pool, batch, settlement), linger_s=0) as pipeline,
    ):
        yield Bench(pool, pipeline)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_what_somebody_waits_for_is_next_on_a_line_where_bulk_work_waits(bench: Bench) -> None:
    await bench.add("hdlc+tcp://127.0.0.1:1?physical={n}", 8)
    first, last = bench.meters[0], bench.meters[-1]
    gate = bench.driver.gates[first] = asyncio.Event()
    bulk = await bench.ask(bench.meters[:-1])
    async with bench.crew() as crew:
        working = asyncio.create_task(crew.lane(await bench.lane()))
        await until(lambda: bool(bench.driver.asked))
        urgent = await bench.ask([last], urgency=Urgency.ON_DEMAND)
        await until(lambda: bench.links.permits.waiting == 1)
        gate.set()
        await working
    order = [meter_id for meter_id, _ in bench.driver.asked]
    assert order == [first, last, *bench.meters[1:-1]]
    assert (await bench.counts(bulk)).done == 7
    assert (await bench.counts(urgent)).done == 1


async def test_programs_have_a_fifth_of_the_slots_while_readings_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or visits that take long would fill them all, turn by turn, and readings would wait for their end."""
    monkeypatch.setattr(limits, "_KIND_FIRST", 64)
    bench.links = Links(Limits())
    await bench.add("tcp://127.0.0.1:1{n}", 160)
    slots, gate = SLOTS["lot"], asyncio.Event()
    long_ones, others = bench.meters[:40], bench.meters[40:]
    bench.driver.gates = dict.fromkeys(long_ones, gate)
    program = await bench.ask(long_ones, urgency=Urgency.PROGRAM)
    readings = await bench.ask(others)
    under_way: list[int] = []  # programs, as each reading begins

    def began(meter_id: int) -> None:
        if meter_id not in bench.driver.gates:
            under_way.append(sum(one in bench.driver.gates for one, _ in bench.driver.asked))

    bench.driver.on_read = began
    urgencies: list[Urgency] = []  # at which permits are asked for, of programs
    conversation = bench.links.conversation

    def recorded(driver: Any, way: Any, *, urgency: Urgency, force: bool) -> Any:
        if way.target.meter.meter_id in bench.driver.gates:
            urgencies.append(urgency)
        return conversation(driver, way, urgency=urgency, force=force)

    monkeypatch.setattr(bench.links, "conversation", recorded)
    async with bench.crew() as crew:
        working = asyncio.create_task(crew.lane(await bench.lane()))
        await until(lambda: len(under_way) == len(others))
        while_others_wait = under_way[:-slots]
        assert max(while_others_wait) == slots // 5
        await until(lambda: len(bench.driver.asked) == len(others) + slots)  # nobody waits any more
        first = urgencies[: slots // 5]
        assert set(first) == {Urgency.SCHEDULED}  # their turn has come: no reading takes the permits away
        assert set(urgencies[slots // 5 + 1 :]) == {Urgency.PROGRAM}
        gate.set()
        await working
    assert (await bench.counts(program)).done == len(long_ones)
    assert (await bench.counts(readings)).done == len(others)


async def test_neighbours_are_not_asked_all_at_once(bench: Bench) -> None:
    """They share a cell, and would wait for its permits in all slots."""
    await bench.add("tcp://127.0.0.1:1{n}", 200)
    await bench.ask(bench.meters)
    async with bench.pool.connection() as connection:
        await connection.execute("UPDATE requests SET due_by = clock_timestamp() + interval '1 day'")
        await connection.execute("UPDATE requests SET due_by = (SELECT min(due_by) FROM requests)")
    async with bench.crew() as crew:
        await crew.lane(await bench.lane())
    first = sorted(bench.driver.opened[:32])
    assert max(after - before for before, after in pairwise(first)) < 20
    assert first[-1] - first[0] > 150


async def test_a_long_bulk_read_gives_way_between_two_questions_and_goes_on_behind(bench: Bench) -> None:
    await bench.add("hdlc+tcp://127.0.0.1:1?physical={n}", 2)
    bulk_meter, other = bench.meters
    gate = bench.driver.gates[bulk_meter] = asyncio.Event()
    bulk = await bench.ask([bulk_meter], WEEK)
    async with bench.crew() as crew:
        working = asyncio.create_task(crew.lane(await bench.lane()))
        await until(lambda: bool(bench.driver.asked))
        urgent = await bench.ask([other], urgency=Urgency.ON_DEMAND)
        await until(lambda: bench.links.permits.waiting == 1)
        gate.set()
        await working
    assert [meter_id for meter_id, _ in bench.driver.asked[:2]] == [bulk_meter, other]
    assert {start for meter_id, start in bench.driver.asked if meter_id == bulk_meter} == {
        T0 + n * DAY for n in range(7)
    }
    assert bench.driver.opened == [bulk_meter, other, bulk_meter]
    assert (await bench.counts(bulk)).done == (await bench.counts(urgent)).done == 1
    assert await bench.count("interval_reads") == 8


async def test_a_holder_that_was_stopped_for_longer_than_its_lease_stores_nothing(bench: Bench) -> None:
    await bench.add("hdlc+tcp://127.0.0.1:1?physical={n}", 1)
    (meter_id,) = bench.meters
    gate = bench.driver.gates[meter_id] = asyncio.Event()
    job_id = await bench.ask([meter_id])
    async with bench.crew("stopped", lease_s=600) as stopped, bench.crew("other", lease_s=600) as other:
        lane = await bench.lane()
        first = asyncio.create_task(stopped.lane(lane))
        await until(lambda: bool(bench.driver.asked))
        async with bench.pool.connection() as connection:  # its lease ends, and it knows nothing of that
            await connection.execute("UPDATE lanes SET expires_at = '-infinity'")
        taken = await other.keeper.take([lane])
        assert [one.lease.fence for one in taken] == [2]
        gate.set()
        await first
        assert await bench.count("interval_reads") == await bench.count("attempts") == 0
        assert (await bench.counts(job_id)).open == 1
        await other.keeper.give_back(taken)
        await other.lane(lane)
    assert (await bench.counts(job_id)).done == 1
    assert await bench.count("interval_reads") == 1
    assert bench.driver.opened == [meter_id, meter_id]


async def test_a_lost_lease_ends_the_work_and_costs_other_lanes_of_one_transaction_nothing(
    bench: Bench,
) -> None:
    await bench.add("hdlc+tcp://127.0.0.{n}:1", 2)
    job_id = await bench.ask(bench.meters)
    committed = bench.pipeline._write
    gate = asyncio.Event()

    async def slow(batch: ReadingBatch, settlement: Any) -> Any:
        await gate.wait()
        return await committed(batch, settlement)

    bench.pipeline._write = slow
    async with bench.crew("one", lease_s=600) as crew:
        async with bench.pool.connection() as connection:
            found = [one.lane for one in await lanes.page(connection, limit=10)]
        assert len(found) == 2
        working = [asyncio.create_task(crew.lane(lane)) for lane in found]
        await until(lambda: len(bench.driver.asked) == 2)
        async with bench.pool.connection() as connection:
            await connection.execute(
                "UPDATE lanes SET fence = fence + 1, holder = 'other' WHERE lane = %s", (found[0],)
            )
        gate.set()
        await asyncio.gather(*working)
    assert (await bench.counts(job_id)).done == 1
    assert await bench.count("interval_reads") == 1


async def test_a_lane_whose_holder_is_gone_is_taken_over_when_its_lease_has_ended(bench: Bench) -> None:
    await bench.add("tcp://127.0.0.1:1{n}", 3)
    job_id = await bench.ask(bench.meters)
    lane = await bench.lane()
    async with bench.pool.connection() as connection:  # a process that is there no more
        (lease,) = await lanes.take(connection, [lane], holder="gone", lease_s=600)
        await connection.execute("DELETE FROM procrastinate_jobs")
    assert (await tidy(bench.pool.connection)).woken == 0
    async with bench.crew() as crew:
        await crew.lane(lane)
        assert bench.driver.opened == []
        async with bench.pool.connection() as connection:
            await connection.execute("UPDATE lanes SET expires_at = now() - interval '1 s'")
        assert (await tidy(bench.pool.connection)).woken == 1
        running = asyncio.create_task(crew.run(drain_s=1))
        async with asyncio.timeout(20):
            while (await bench.counts(job_id)).open:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait([running])
    assert (await bench.counts(job_id)).done == 3
    assert await bench.count("interval_reads") == 3
    with pytest.raises(lanes.LaneLost):
        async with bench.pool.connection() as connection:
            await lanes.hold(connection, [lease], lease_s=1)


async def test_a_silent_meter_is_asked_as_often_as_the_policy_says_and_holds_nobody_up(bench: Bench) -> None:
    await bench.add("tcp://127.0.0.1:1{n}", 40)
    dead = bench.meters[7]
    bench.driver.silent.add(dead)
    job_id = await bench.ask(bench.meters)
    async with bench.crew() as crew:
        await crew.lane(await bench.lane())
    counts = await bench.counts(job_id)
    assert (counts.done, counts.failed) == (39, 1)
    assert bench.driver.opened.count(dead) == 2
    assert len(bench.driver.opened) == 41


async def test_requests_that_come_while_the_lane_is_at_work_are_done_before_it_is_given_back(
    bench: Bench,
) -> None:
    await bench.add("hdlc+tcp://127.0.0.1:1?physical={n}", 2)
    gate = bench.driver.gates[bench.meters[0]] = asyncio.Event()
    first = await bench.ask(bench.meters[:1])
    async with bench.crew() as crew:
        working = asyncio.create_task(crew.lane(await bench.lane()))
        await until(lambda: bool(bench.driver.asked))
        second = await bench.ask(bench.meters[1:])
        gate.set()
        await working
    assert (await bench.counts(first)).done == (await bench.counts(second)).done == 1
    assert await bench.count("procrastinate_jobs") == 1, "the one of before: the holder was told"


async def test_who_is_waking_a_lane_and_who_gives_it_back_see_each_other(bench: Bench) -> None:
    await bench.add("tcp://127.0.0.1:1{n}", 1)
    await bench.ask(bench.meters)
    lane = await bench.lane()
    async with bench.pool.connection() as connection:
        await connection.execute("DELETE FROM procrastinate_jobs")
        await connection.execute("DELETE FROM requests")
    async with bench.crew() as crew:
        held = await crew.keeper.take([lane])
        async with bench.pool.connection() as waking:
            await waking.execute(
                """INSERT INTO requests (job_id, due_by, next_at, drop_dead, meter_id, urgency, lane)
                   SELECT job_id, now(), now(), now() + interval '1 h', %s, 20, %s FROM jobs""",
                (bench.meters[0], lane),
            )
            await queue.wake(waking, [lane])  # held: its holder is told, and just then
            giving = asyncio.create_task(crew.keeper.give_back(held))
            done, _ = await asyncio.wait([giving], timeout=0.2)
            assert not done, "it waits for who is waking"
        await giving
    assert await bench.count("procrastinate_jobs") == 1


async def test_a_defect_met_while_a_meter_is_prepared_ends_nobody_elses_turn(bench: Bench) -> None:
    await bench.add("tcp://127.0.0.1:1{n}", 3)
    bad = bench.meters[1]
    prepare = bench.driver.prepare

    async def broken(targets: Sequence[Target]) -> dict[int, Any]:
        if any(one.meter.meter_id == bad for one in targets):
            raise KeyError("plan")
        return await prepare(targets)

    bench.driver.prepare = broken  # type: ignore[method-assign]
    job_id = await bench.ask(bench.meters)
    async with bench.crew() as crew:
        await crew.lane(await bench.lane())
    counts = await bench.counts(job_id)
    assert (counts.done, counts.failed) == (2, 1)


async def test_a_lane_that_is_borrowed_is_given_back_when_the_last_has_ended(bench: Bench) -> None:
    await bench.add("tcp://127.0.0.1:1{n}", 1)
    await bench.ask(bench.meters)
    lane = await bench.lane()
    async with bench.crew("one") as one, bench.crew("other") as other:
        async with one.keeper.holding(lane) as held:
            assert held is not None
            async with one.keeper.borrowing(lane) as borrowed, other.keeper.borrowing(lane) as refused:
                assert borrowed is held
                assert refused is None
            assert await holder(bench, lane) == "one"
        assert await holder(bench, lane) is None
        async with other.keeper.borrowing(lane) as free:
            assert free is not None
            assert await holder(bench, lane) == "other"
        assert await holder(bench, lane) is None


async def holder(bench: Bench, lane: str) -> str | None:
    async with bench.pool.connection() as connection:
        return await lanes.holder_of(connection, lane)


async def test_leases_are_renewed_while_no_connection_of_the_pool_is_free(bench: Bench) -> None:
    await bench.add("tcp://127.0.0.1:1{n}", 1)
    await bench.ask(bench.meters)
    lane = await bench.lane()
    async with bench.crew(lease_s=1) as crew, crew.keeper.holding(lane) as held:
        assert held is not None
        async with AsyncExitStack() as stack:
            taken = [await stack.enter_async_context(bench.pool.connection()) for _ in range(6)]
            before = await expires(taken[0], lane)
            async with asyncio.timeout(20):
                while await expires(taken[0], lane) == before:
                    await taken[0].commit()
                    await asyncio.sleep(0.05)
        assert not held.is_lost


async def expires(connection: Any, lane: str) -> Any:
    row = await (await connection.execute("SELECT expires_at FROM lanes WHERE lane = %s", (lane,))).fetchone()
    return row[0]
