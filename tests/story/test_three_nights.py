"""Three simulated days: losses, a concentrator that is away for 20 hours, the end of summer time, and in each
night a worker that is killed. Afterwards nothing is missing that a meter still holds; reports say what was.

The processes are real, and so are database and sockets; only the clock is the test's: that of the field, of
the workers and of PostgreSQL jumps from one hour that matters to the next.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from concentrator_sim.field import Field
from concentrator_sim.generator import Consumption, quarter_of
from concentrator_sim.network_file import network_csv
from concentrator_sim.scenario import Scenario, make_scenario
from headend.completeness.rounds import GapPolicy, Rounds
from headend.completeness.standing import local_day, standing
from headend.foundation import open_base
from headend.house import House, open_house
from headend.ingest.meter_import import import_meters
from headend.ingest.network_import import import_network
from headend.schedules import changes
from headend.schedules.planner import plan_due
from headend.store import reports
from headend.store.completeness import By
from headend.store.queue import wake
from schemas.config import load_settings
from schemas.job import Curves, Retry
from schemas.schedule import Schedule

from .shifted import SHADOW, Shift

BERLIN = ZoneInfo("Europe/Berlin")
ROOT = Path(__file__).parents[2]
SHIFTED = ROOT / "tests" / "story" / "shifted.py"
MASTER_KEY = "42" * 32
QUARTER = timedelta(minutes=15)
#: The first evening. From Saturday to Sunday the clocks go back: 25 October 2026 has 25 hours.
EVENING = datetime(2026, 10, 24, 21, 55, tzinfo=BERLIN)
#: Meters are in service from here on.
COMMISSIONED = datetime(2026, 10, 24, tzinfo=BERLIN)
DIRECT, BEHIND = 12, 8
#: A memory of 36 hours: what a concentrator's meters had before it was away is gone when it is back.
MEMORY = 144
AWAY = timedelta(hours=20)
#: When processes were last heard of.
SEEN = (("lanes", "expires_at"), ("workers", "seen_at"), ("procrastinate_workers", "last_heartbeat"))
_PATIENCE = timedelta(seconds=3)
DEADLINE_S = 60.0
SETTINGS = {
    "master_key": MASTER_KEY, "read_period_s": 0, "events_period_s": 0, "stations_period_s": 0,
    "lane_lease_s": 3,
    "response_timeout_s": 1, "connect_timeout_s": 2, "answer_shortest_s": 0.5, "answer_longest_s": 2,
    "retry_first_s": 0.1, "retry_longest_s": 1, "breaker_first_s": 60, "breaker_longest_s": 600,
    "gaps_after_s": 3600, "log_level": "warning",
}  # fmt: skip


def scenario() -> Scenario:
    """Direct meters and three concentrators; of the second nobody hears anything for 20 hours."""
    station = {"kind": "pass_through", "link": "ethernet", "meters": BEHIND, "models": ["hls5"]}
    return make_scenario(
        {
            "meters": DIRECT,
            "base_port": 0,
            "profile_rows": MEMORY,
            "stations": [station, station, station],
            "faults": [
                {"kind": "loss", "chance": 0.01},
                {
                    "kind": "unreachable",
                    "targets": "DC-0002",
                    "after_s": 300,
                    "for_s": int(AWAY.total_seconds()),
                },
            ],
        }
    )


@dataclass
class World:
    """Field, database and workers under one clock."""

    shift: Shift
    dsn: str
    folder: Path
    field: Field
    house: House
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: int = 0

    def now(self) -> datetime:
        return self.shift.now()

    async def jump(self, to: datetime) -> None:
        """Forward only, as clocks do; PostgreSQL's as well."""
        by = to - datetime.now(UTC)
        assert by > self.shift.ahead
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            step = {"by": by - self.shift.ahead}
            await connection.execute("UPDATE shadow.ahead SET by = by + %(by)s", step)
            # nobody has been silent for the hours that were left out
            for table, column in SEEN:
                await connection.execute(
                    f"UPDATE {table} SET {column} = {column} + %(by)s WHERE {column} > '-infinity'", step
                )
        self.shift.ahead = by

    def start_worker(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADEND_")}
        given = {f"HEADEND_{name.upper()}": str(value) for name, value in SETTINGS.items()}
        self.workers.append(
            subprocess.Popen(
                [sys.executable, "-P", str(SHIFTED), str(self.folder / "clock"), "worker"],
                env={**environment, **given, "PYTHONPATH": str(ROOT), "HEADEND_DATABASE_URL": self.dsn,
                     "HEADEND_DATA_DIR": str(self.folder)},
                cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            )
        )  # fmt: skip

    def kill_worker(self) -> None:
        """The oldest, without a word; another one comes."""
        victim = self.workers.pop(0)
        victim.kill()
        victim.wait(DEADLINE_S)
        assert victim.stdin is not None
        victim.stdin.close()
        self.killed += 1
        self.start_worker()

    def end(self) -> None:
        for one in self.workers:
            one.send_signal(signal.SIGTERM)
        for one in self.workers:
            assert one.stdin is not None
            one.stdin.close()
            try:
                one.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()

    async def plan(self) -> int:
        """The tick of a minute: the job that it made."""
        async with self.house.base.pool.connection() as connection:
            (made,) = await plan_due(connection, self.now())
        return made.job_id

    async def until(self, job_id: int, met: Callable[[list[Any]], bool]) -> None:
        """Wait until the open requests of a job (meter, lane, attempts, due in, stage, reason) are so."""
        open_: list[Any] = []
        try:
            async with asyncio.timeout(DEADLINE_S):
                for _ in iter(int, 1):
                    open_ = await self.rows(
                        "SELECT meter_id, lane, attempts, next_at - clock_timestamp(), stage, reason"
                        " FROM requests WHERE job_id = %s AND state = 'open' ORDER BY meter_id",
                        job_id,
                    )
                    if met(open_):
                        return
                    await asyncio.sleep(0.1)
                    waits = [due_in for _, _, _, due_in, _, _ in open_ if due_in > _PATIENCE]
                    if len(waits) == len(open_):  # nobody is being asked: until somebody will be
                        await self.jump(self.now() + min(waits))
        except TimeoutError:
            raise AssertionError(f"job {job_id} at {self.now()}: {open_}") from None

    @property
    def is_away(self) -> bool:
        """Whether the second concentrator is."""
        return self.now() < EVENING + AWAY + timedelta(minutes=10)

    async def behind(self, station: str) -> list[int]:
        """Numbers of the meters behind a concentrator."""
        return [
            meter
            for (meter,) in await self.rows(
                "SELECT m.meter_id FROM network_nodes m JOIN network_links l ON l.child = m.node_id"
                " JOIN network_nodes s ON s.node_id = l.parent WHERE s.code = %s",
                station,
            )
        ]

    async def complete(self) -> Any:
        """A round of completeness, as a host makes one every few minutes."""
        drivers = self.house.drivers
        return await Rounds(
            self.house.base.pool.connection,
            lambda model: drivers.of(model).curves(model),
            drivers.forwards,
            wake,
            policy=GapPolicy(overdue=timedelta(seconds=SETTINGS["gaps_after_s"])),
            now=self.now,
        ).once()

    async def rows(self, query: str, *values: Any) -> list[Any]:
        async with self.house.base.pool.connection() as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()


@asynccontextmanager
async def world(dsn: str, folder: Path) -> AsyncIterator[World]:
    shift = Shift(folder / "clock")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(SHADOW)
        shift.ahead = EVENING - datetime.now(UTC)
        await connection.execute("UPDATE shadow.ahead SET by = %s", (shift.ahead,))
    async with Field(scenario(), clock=lambda: int(shift.now().timestamp())) as simulated:
        settings = load_settings(database_url=dsn, data_dir=folder, **SETTINGS)
        async with open_base(settings) as base, open_house(base) as house:
            vault = await base.vault()
            async with base.pool.connection() as connection:
                done = await import_meters(
                    connection, simulated.csv().encode(), vault=vault, since=COMMISSIONED, actor="test",
                    allow_plain_keys=True,
                )  # fmt: skip
                hung = await import_network(
                    connection, network_csv(simulated).encode(), since=COMMISSIONED, actor="test"
                )
            assert not done.errors
            assert not hung.errors
            made = World(shift, dsn, folder, simulated, house)
            await made.jump(EVENING + timedelta(seconds=5))
            try:
                yield made
            finally:
                made.end()


def nightly() -> Schedule:
    # 02:30 comes twice in the first night, and must be run once
    return Schedule(
        name="nightly", cron="30 2 * * *", zone="Europe/Berlin", works=(Curves(days=3),), deadline="06:00",
        retry=Retry(attempts=20, first_s=0.2, longest_s=2),
    )  # fmt: skip


@pytest.mark.storage
@pytest.mark.timeout(600)
async def test_three_nights(embedded_database: Any, tmp_path: Path) -> None:
    async with world(embedded_database.dsn, tmp_path) as there:
        async with there.house.base.pool.connection() as connection:
            await changes.add(connection, nightly(), now=there.now(), actor="test")
        for _ in range(3):
            there.start_worker()
        runs = []
        for day in (25, 26, 27):
            runs.append(await _night(there, datetime(2026, 10, day, 2, 30, 1, tzinfo=BERLIN)))
            for hour in (6, 19):
                await _round(there, datetime(2026, 10, day, hour, 1, tzinfo=BERLIN))
        end = datetime(2026, 10, 28, 0, 1, tzinfo=BERLIN)
        await _round(there, end)
        await _round(there, end + timedelta(hours=1))
        assert there.killed == 3
        await _once_each(there, runs)
        lost = await _all_is_true(there)
        await _complete_again(there, lost)
        await _reports(there, runs)


async def _night(there: World, begins: datetime) -> int:
    """The run of a night, with a worker killed in it; its job."""
    await there.jump(begins)
    job_id = await there.plan()
    everybody = DIRECT + 3 * BEHIND
    await there.until(job_id, lambda open_: len(open_) <= everybody - 4)
    there.kill_worker()
    behind = await there.behind("DC-0002") if there.is_away else []
    await there.until(job_id, partial(_only, behind))
    return job_id


async def _round(there: World, at: datetime) -> None:
    """The hour comes: gaps are settled and opened, reports made, and all who are there are asked again."""
    await there.jump(at)
    await there.complete()
    for (job_id,) in await there.rows(
        "SELECT job_id FROM jobs WHERE kind = 'backfill' AND ended_at IS NULL ORDER BY job_id"
    ):
        behind = await there.behind("DC-0002") if there.is_away else []
        await there.until(job_id, partial(_only, behind))


def _only(behind: list[int], open_: list[Any]) -> bool:
    return all(row[0] in behind for row in open_)


async def _once_each(there: World, runs: list[int]) -> None:
    """A schedule's time is run once; no request is left, and nothing was doubled or corrected."""
    found = await there.rows("SELECT job_id, run_at FROM jobs WHERE kind = 'scheduled' ORDER BY run_at")
    assert [job_id for job_id, _ in found] == runs
    assert [run_at for _, run_at in found] == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # the first of the two
        *(datetime(2026, 10, day, 1, 30, tzinfo=UTC) for day in (26, 27)),
    ]
    for table in ("interval_revisions", "interval_fragments", "inbox"):
        assert await there.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    told = await there.rows(
        "SELECT kind, sum(extract(epoch FROM upper(during) - lower(during)))::bigint FROM changes"
        " GROUP BY kind"
    )
    stored = await there.rows("SELECT count(*) FROM interval_reads")
    assert told == [("new", stored[0][0] * 900)]


async def _all_is_true(there: World) -> Counter[str]:
    """Each interval that is stored is the simulator's; how many of each meter are not."""
    first = quarter_of(int(COMMISSIONED.timestamp())) + 1
    last = quarter_of(int(there.now().timestamp()))
    missing: Counter[str] = Counter()
    for (asset_id,) in await there.rows("SELECT asset_id FROM meters ORDER BY asset_id"):
        number = int(asset_id[8:])
        rows = await there.rows(
            "SELECT start, active_import, active_export, reactive_import, reactive_export FROM interval_reads"
            " JOIN meters USING (meter_id) WHERE asset_id = %s AND start >= %s ORDER BY start",
            asset_id, COMMISSIONED,
        )  # fmt: skip
        knows = Consumption(there.field.scenario.seed, number).quarters(range(4), first, last - first + 1)
        truth = {
            COMMISSIONED.astimezone(UTC) + n * QUARTER: tuple(int(column[n]) for column in knows)
            for n in range(last - first + 1)
        }
        for start, *values in rows:
            assert truth.pop(start.astimezone(UTC)) == tuple(values), (asset_id, start)
        # what ended since the last run is not due yet
        ended = datetime(2026, 10, 27, 2, 30, tzinfo=BERLIN)
        if late := [start for start in truth if start < ended - QUARTER]:
            missing[asset_id] = len(late)
    return missing


async def _complete_again(there: World, lost: Counter[str]) -> None:
    since, until = COMMISSIONED, datetime(2026, 10, 27, 2, 15, tzinfo=BERLIN)
    async with there.house.base.pool.connection() as connection:
        told = (await standing(connection, since, until, now=there.now(), by=By.CONCENTRATOR)).now
        day = local_day(date(2026, 10, 25), BERLIN)
        sunday = (await standing(connection, *day, now=there.now(), by=By.NETWORK)).now
    assert told.open == 0
    assert told.lost == sum(lost.values())
    # gone were the first hours of the meters behind the concentrator that was away, and of nobody else
    below = await there.rows(
        "SELECT asset_id FROM meters WHERE meter_id = ANY (%s)", await there.behind("DC-0002")
    )
    assert set(lost) == {asset_id for (asset_id,) in below}
    assert told.expected == told.present + told.lost
    assert sunday.expected == 100 * (DIRECT + 3 * BEHIND)
    states = await there.rows(
        "SELECT DISTINCT state FROM gaps WHERE lower(during) < %s ORDER BY state", until
    )
    assert states == [("filled",), ("lost",)]


async def _reports(there: World, runs: list[int]) -> None:
    async with there.house.base.pool.connection() as connection:
        found = await reports.page(connection, limit=100)
        assert {one.job_id for one in found} >= set(runs)
        number = next(one.report_id for one in found if one.job_id == runs[0])
        first = await reports.find(connection, number)
    assert first is not None
    assert [one["name"] for one in first.body["stations"]] == ["DC-0002"]
    assert [one["name"] for one in first.body["causes"]] == ["timeout"]
    assert first.body["requests"]["done"] == DIRECT + 2 * BEHIND
