"""The night itself: one job over the whole county, followed to its end, and what it cost by process.

::

    simulator (parts) ──┐                      ┌── headend worker --processes N
    county imported ────┴── job + requests ────┤── headend scheduler          ── PostgreSQL
                            (the clock starts) └── headend api <── reads now of random meters

First a night without marks: every meter is new, our invocation counters are learnt and load profiles are
looked at. Then the night. What was stored is counted and, for a sample, compared with what a
peer read of the same meters.
"""

import asyncio
import random
import socket
import statistics
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from headend.bench.night.cost import Cost, cost_of, parent_of
from headend.bench.night.county import County, command, county
from headend.bench.night.field import Direct, Served, direct_meters, served
from headend.bench.processes import BenchError, Process, peers
from headend.clock import utc_now
from headend.links.permits import Urgency
from headend.store import jobs
from headend.store.jobs import Counts, NewJob
from headend.store.queue import wake
from schemas.job import CurveRange, JobKind, Retry, Work

#: Intervals of a day, and values of an interval.
ROWS: Final = 96
QUANTITIES: Final = 4
_DAY: Final = timedelta(days=1)
_LOOK_S: Final = 1.0
_PROFILE: Final = 1
#: PDU of the county, our title with the peers, and counters above all that we may have used.
_MAX_PDU: Final = 1024
_PEER_TITLE: Final = "5045455200000001"
_PEER_COUNTER: Final = {"gurux-dlms": 2_000_000_000, "dlms-cosem": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. ``conversations``: with meters at once, of all workers. Each peer reads ``sample``
    meters (0: none). A read now begins every ``every_s`` during the nights, ``idle`` are made before them.
    """

    scenario: str = "direct"
    meters: int = 154_000
    simulators: int = 2
    workers: int = 2
    conversations: int = 64
    sample: int = 1_001
    every_s: float = 0.25
    idle: int = 40
    deadline_s: float = 1_200.0
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Reads:
    """Reads now: milliseconds from the request to the answer, and how many failed."""

    times_ms: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile(self, percent: int) -> float | None:
        """Milliseconds within which so many of 100 were answered; None of too few."""
        if len(self.times_ms) < 2:
            return None
        return statistics.quantiles(self.times_ms, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True, slots=True)
class Night:
    """One night: ``wall_s`` from the job's creation to its last commit; CPU and memory by kind of process."""

    wall_s: float
    plan_s: float
    counts: Counts
    rows: int
    costs: Mapping[str, Cost]
    reads: Reads

    @property
    def meters(self) -> int:
        """Meters that were read."""
        return self.counts.done

    def cpu_ms(self, *kinds: str) -> float:
        """Milliseconds of CPU a meter of these kinds of process."""
        return 1000 * sum(self.costs[kind].cpu_s for kind in kinds) / max(1, self.meters)


@dataclass(frozen=True, slots=True)
class PeerNight:
    """A peer's sample: seconds of the clock and of its own CPU for each meter, and whether its values are
    ours."""

    name: str
    meters: int
    wall_s: float
    cpu_s: float
    is_equal: bool


@dataclass(frozen=True, slots=True)
class Found:
    """All of a run. ``idle``: reads now before the night, when nothing else was going on."""

    plan: Plan
    where: str
    ready_s: float
    import_s: float
    idle: Reads
    first: Night
    night: Night
    database_bytes: int
    peers: tuple[PeerNight, ...]
    not_installed: tuple[str, ...]


HEADEND: Final = ("worker", "scheduler", "api")


async def measure(plan: Plan, say: Any) -> Found:
    """Run it all. Raises BenchError where a process fails, or where meters are not read."""
    async with AsyncExitStack() as stack:
        say(f"the simulator: {plan.meters:,} meters, scenario {plan.scenario}, {plan.simulators} processes")
        there = await stack.enter_async_context(served(plan.scenario, plan.meters, plan.simulators))
        say(f"ready after {there.seconds:.0f} s; the county is imported")
        land = await stack.enter_async_context(
            county(there, {"HEADEND_COLLECTOR_CONCURRENCY": str(plan.conversations), **plan.settings})
        )
        say(f"{land.meters:,} meters imported in {land.import_s:.0f} s; {land.where}")
        house = await stack.enter_async_context(_House.open(land, there, plan))
        direct = direct_meters(there.meters, 10_000)
        idle = Reads()
        await house.read_now(direct, plan.idle, idle, every_s=0.0)
        today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
        say("the first night: every meter is new")
        first = await house.night(today - 2 * _DAY, direct)
        say(f"{first.meters:,} meters in {first.wall_s:.0f} s; now the night")
        night = await house.night(today - _DAY, direct)
        say(f"{night.meters:,} meters, {night.rows:,} intervals in {night.wall_s:.0f} s")
        size = await house.number("SELECT pg_database_size(current_database())")
        await house.close()
        compared, missing = await _compare(plan, land, direct, today - _DAY, say)
        return Found(
            plan, land.where, there.seconds, land.import_s, idle, first, night, size, compared, missing
        )


class _House:
    """The service's processes over a county."""

    def __init__(self, land: County, plan: Plan, pids: dict[str, tuple[int, ...]], url: str) -> None:
        self._land = land
        self._plan = plan
        self._pids = pids
        self._url = url
        self._stack = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def open(cls, land: County, there: Served, plan: Plan) -> "AsyncIterator[_House]":
        async with AsyncExitStack() as stack:
            port = _free_port()
            environment = {**land.environment, "HEADEND_API_PORT": str(port)}
            pids: dict[str, tuple[int, ...]] = {
                "simulator": there.pids,
                "worker": (
                    await stack.enter_async_context(
                        command(environment, "worker", "--processes", str(plan.workers))
                    ),
                ),
                "scheduler": (await stack.enter_async_context(command(environment, "scheduler")),),
                "api": (await stack.enter_async_context(command(environment, "api")),),
            }
            house = cls(land, plan, pids, f"http://127.0.0.1:{port}")
            backend = await house.number("SELECT pg_backend_pid()")
            postmaster = parent_of(backend)
            if postmaster is not None:
                house._pids["postgres"] = (postmaster,)
            await house._answers()
            house._stack = stack.pop_all()
        try:
            yield house
        finally:
            await house.close()

    async def close(self) -> None:
        """End the processes: peers must have the machine for themselves."""
        await self._stack.aclose()

    async def number(self, query: str, *values: Any) -> int:
        """The one number that a query gives."""
        async with self._land.pool.connection() as connection:
            row = await (await connection.execute(query.encode(), values)).fetchone()
            return 0 if row is None or row[0] is None else int(row[0])

    async def night(self, day: datetime, direct: list[Direct]) -> Night:
        """Read the intervals of ``day`` of all meters."""
        began = asyncio.get_running_loop().time()
        before = self._costs()
        peak = before
        job_id = await self._create((CurveRange(profile=_PROFILE, since=day, until=day + _DAY),))
        planned = asyncio.get_running_loop().time()
        reads = Reads()
        reading = asyncio.create_task(self.read_now(direct, 100_000, reads, every_s=self._plan.every_s))
        try:
            async with asyncio.timeout(self._plan.deadline_s):
                while (counts := await self._counts(job_id)).open:
                    peak = {kind: now.peak(peak[kind]) for kind, now in self._costs().items()}
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            counts = await self._counts(job_id)
            raise BenchError(
                f"after {self._plan.deadline_s:.0f} s {counts.open:,} of {counts.total:,} meters are unread"
            ) from None
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        ended = await self._ended(job_id)
        after = self._costs()
        costs = {kind: now.since(before[kind]).peak(peak[kind]) for kind, now in after.items()}
        rows = await self.number(
            "SELECT count(*) FROM interval_reads WHERE profile = 1 AND start >= %s AND start < %s",
            day,
            day + _DAY,
        )
        created = await self._created(job_id)
        return Night((ended - created).total_seconds(), planned - began, counts, rows, costs, reads)

    async def read_now(self, direct: list[Direct], number: int, reads: Reads, *, every_s: float) -> None:
        """Read random direct meters by the API, one after another."""
        loop, dice = asyncio.get_running_loop(), random.Random(7)
        async with httpx.AsyncClient(
            base_url=self._url, headers={"Authorization": f"Bearer {self._land.token}"}, timeout=60.0
        ) as client:
            for _ in range(number):
                meter = dice.choice(direct)
                began = loop.time()
                answer = await client.post(
                    f"/api/v1/meters/{meter.asset_id}/reads", json={"obis": ["1-0:1.8.0*255"]}
                )
                took_s = loop.time() - began
                if answer.status_code == httpx.codes.OK:
                    reads.times_ms.append(1000 * took_s)
                else:
                    reads.failed += 1
                await asyncio.sleep(max(0.0, every_s - took_s))

    async def _create(self, work: tuple[Work, ...]) -> int:
        now = utc_now()
        drop_dead = now + timedelta(seconds=self._plan.deadline_s)
        async with self._land.pool.connection() as connection:
            new = NewJob(
                JobKind.SCHEDULED, "night", work, 5, drop_dead, drop_dead, "bench", "bench",
                retry=Retry(attempts=5, first_s=1, longest_s=10),
            )  # fmt: skip
            job_id = await jobs.create(connection, new)
            assert job_id is not None
            cursor = await connection.execute(b"SELECT meter_id FROM meters ORDER BY meter_id")
            meters = [number for (number,) in await cursor.fetchall()]
            lanes = await jobs.add_requests(
                connection, job_id, meters, urgency=Urgency.SCHEDULED, due_by=drop_dead, next_at=now,
                drop_dead=drop_dead,
            )  # fmt: skip
            await wake(connection, lanes)
        return job_id

    async def _counts(self, job_id: int) -> Counts:
        async with self._land.pool.connection() as connection:
            return (await jobs.counts(connection, [job_id]))[job_id]

    async def _ended(self, job_id: int) -> datetime:
        return await self._moment("SELECT max(ended_at) FROM requests WHERE job_id = %s", job_id)

    async def _created(self, job_id: int) -> datetime:
        return await self._moment("SELECT created_at FROM jobs WHERE job_id = %s", job_id)

    async def _moment(self, query: str, value: int) -> datetime:
        async with self._land.pool.connection() as connection:
            row = await (await connection.execute(query.encode(), (value,))).fetchone()
        assert row is not None
        return row[0].astimezone(UTC)  # type: ignore[no-any-return]

    def _costs(self) -> dict[str, Cost]:
        return {kind: cost_of(*pids) for kind, pids in self._pids.items()}

    async def _answers(self) -> None:
        """Wait until the API is there."""
        async with httpx.AsyncClient() as client, asyncio.timeout(60):
            while True:
                try:
                    await client.get(f"{self._url}/health/live")
                    return
                except httpx.TransportError:
                    await asyncio.sleep(0.2)


async def _compare(
    plan: Plan, land: County, direct: list[Direct], day: datetime, say: Any
) -> tuple[tuple[PeerNight, ...], tuple[str, ...]]:
    """Each peer's sample, beside ours of the same meters."""
    if not plan.sample:
        return (), ()
    some = direct[: plan.sample]
    found, missing = [], []
    for name, process in peers().items():
        if process is None:
            missing.append(name)
            continue
        say(f"{name}: {len(some):,} of the same meters")
        told = await asyncio.to_thread(_ask, process, {
            "meters": [one._asdict() for one in some],
            "first": (day + timedelta(minutes=15)).isoformat(),
            "last": (day + _DAY).isoformat(),
            "max_pdu": _MAX_PDU,
            "client_title": _PEER_TITLE,
            "counter": _PEER_COUNTER[name],
            "dsn": land.dsn,
        })  # fmt: skip
        async with land.pool.connection() as connection:
            cursor = await connection.execute(
                b"SELECT sum(active_import + active_export + reactive_import + reactive_export)::text"
                b" FROM interval_reads JOIN meters USING (meter_id)"
                b" WHERE profile = 1 AND start >= %s AND start < %s AND asset_id = ANY (%s)",
                (day, day + _DAY, [one.asset_id for one in some[1:]]),
            )
            row = await cursor.fetchone()
        is_equal = row is not None and row[0] == told["sum"] and told["rows"] == ROWS * told["meters"]
        found.append(PeerNight(name, told["meters"], told["wall_s"], told["cpu_s"], is_equal))
    return tuple(found), tuple(missing)


def _ask(process: Process, request: Mapping[str, Any]) -> dict[str, Any]:
    with process:
        return process.ask("night", **request)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
