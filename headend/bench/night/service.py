"""The service's processes over a county, and the jobs that a benchmark gives them."""

import asyncio
import random
import socket
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from headend.bench.night.cost import Cost, children_of, cost_of, parent_of
from headend.bench.night.county import County, command
from headend.bench.night.field import Direct, Served
from headend.bench.processes import BenchError
from headend.clock import utc_now
from headend.links.permits import Urgency
from headend.store import jobs, network
from headend.store.jobs import Counts, NewJob
from headend.store.queue import wake
from schemas.job import CurveRange, JobKind, Retry

DAY: Final = timedelta(days=1)
_LOOK_S: Final = 1.0
#: What is not read by the deadline is closed so much later.
_SLACK_S: Final = 60.0
_PROFILE: Final = 1


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
    every_s: float = 1.0
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


class House:
    """The service's processes over a county."""

    def __init__(self, land: County, plan: Plan, pids: dict[str, tuple[int, ...]], url: str) -> None:
        self._land = land
        self._plan = plan
        self._pids = pids
        self._url = url
        self._stack = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def open(cls, land: County, there: Served, plan: Plan) -> "AsyncIterator[House]":
        """Start them, and end them behind. Raises BenchError."""
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
        before = self.costs()
        peak = before
        job_id = await self.begin(day, self._plan.deadline_s)
        planned = asyncio.get_running_loop().time()
        reads = Reads()
        reading = asyncio.create_task(self.read_now(direct, 100_000, reads, every_s=self._plan.every_s))
        try:
            async with asyncio.timeout(self._plan.deadline_s + _SLACK_S):
                while (counts := await self.counts(job_id)).open:
                    peak = {kind: now.peak(peak[kind]) for kind, now in self.costs().items()}
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise BenchError(f"requests are open {_SLACK_S:.0f} s after the deadline") from None
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        # of other kinds of meters some can only be waited for, and some links are slow: told, and no error
        if self._plan.scenario == "direct" and counts.done < counts.total:
            raise BenchError(
                f"after {self._plan.deadline_s:.0f} s {counts.total - counts.done:,} of {counts.total:,} "
                "meters are unread"
            )
        ended = await self._moment("SELECT max(ended_at) FROM requests WHERE job_id = %s", job_id)
        after = self.costs()
        costs = {kind: now.since(before[kind]).peak(peak[kind]) for kind, now in after.items()}
        rows = await self.number(
            "SELECT count(*) FROM interval_reads WHERE profile = 1 AND start >= %s AND start < %s",
            day,
            day + DAY,
        )
        created = await self._moment("SELECT created_at FROM jobs WHERE job_id = %s", job_id)
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

    async def begin(
        self,
        since: datetime,
        seconds: float,
        meters: Sequence[int] | None = None,
        until: datetime | None = None,
        attempts: int = 5,
    ) -> int:
        """A job that reads [since, until), or a day, of all meters or of these; no attempt begins after so
        many seconds. Its number."""
        now = utc_now()
        drop_dead = now + timedelta(seconds=seconds)
        work = (CurveRange(profile=_PROFILE, since=since, until=until or since + DAY),)
        async with self._land.pool.connection() as connection:
            new = NewJob(
                JobKind.SCHEDULED, "night", work, 5, drop_dead, drop_dead, "bench", "bench",
                retry=Retry(attempts=attempts, first_s=1, longest_s=10),
            )  # fmt: skip
            job_id = await jobs.create(connection, new)
            assert job_id is not None
            if meters is None:
                cursor = await connection.execute(b"SELECT meter_id FROM meters ORDER BY meter_id")
                meters = [number for (number,) in await cursor.fetchall()]
            lanes = await jobs.add_requests(
                connection, job_id, meters, urgency=Urgency.SCHEDULED, due_by=drop_dead, next_at=now,
                drop_dead=drop_dead,
            )  # fmt: skip
            await wake(connection, lanes)
        return job_id

    async def followed(self, job_id: int, meters: Sequence[int]) -> float:
        """Wait until nothing of these meters is open in the job; seconds from its creation to the last of
        them. Raises BenchError where one of them was not read."""
        open_ = "SELECT count(*) FROM requests WHERE job_id = %s AND state = 'open' AND meter_id = ANY (%s)"
        while True:
            if not await self.number(open_, job_id, list(meters)):
                break
            await asyncio.sleep(_LOOK_S / 4)
        unread = await self.number(
            "SELECT count(*) FROM requests WHERE job_id = %s AND state <> 'done' AND meter_id = ANY (%s)",
            job_id,
            list(meters),
        )
        if unread:
            raise BenchError(f"{unread} of {len(meters)} meters were not read")
        milliseconds = await self.number(
            "SELECT 1000 * extract(epoch FROM max(r.ended_at) - min(j.created_at)) FROM requests r"
            " JOIN jobs j USING (job_id) WHERE job_id = %s AND meter_id = ANY (%s)",
            job_id,
            list(meters),
        )
        return milliseconds / 1000

    async def cut_off(self, job_id: int) -> None:
        """Wait until nothing of the job is open."""
        while True:
            if not (await self.counts(job_id)).open:
                return
            await asyncio.sleep(_LOOK_S)

    async def split(self, first: int) -> tuple[list[int], list[int]]:
        """The meters behind the first so many stations, by their codes, and those behind the others."""
        async with self._land.pool.connection() as connection:
            found = [
                await network.meters_of(connection, node.node_id)
                for node in sorted(await network.stations(connection), key=lambda node: node.code)
            ]
        one, other = found[:first], found[first:]
        return [m for some in one for m in some], [m for some in other for m in some]

    async def counts(self, job_id: int) -> Counts:
        """What became of the job's requests."""
        async with self._land.pool.connection() as connection:
            return (await jobs.counts(connection, [job_id]))[job_id]

    async def _moment(self, query: str, value: int) -> datetime:
        async with self._land.pool.connection() as connection:
            row = await (await connection.execute(query.encode(), (value,))).fetchone()
        assert row is not None
        return row[0].astimezone(UTC)  # type: ignore[no-any-return]

    def workers(self) -> list[int]:
        """The processes of the worker, below the one that starts them again."""
        return [one for pid in self._pids["worker"] for one in children_of(pid)]

    def costs(self) -> dict[str, Cost]:
        """What each kind of process has cost so far."""
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
