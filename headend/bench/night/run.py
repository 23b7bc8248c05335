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
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from headend.bench.night.county import County, county
from headend.bench.night.field import Direct, direct_meters, served
from headend.bench.night.service import DAY, House, Night, Plan, Reads
from headend.bench.processes import BenchError, Process, peers
from headend.clock import utc_now

#: Intervals of a day, and values of an interval.
ROWS: Final = 96
QUANTITIES: Final = 4
#: The PDU of the county, our title with the peers, and their counters: above all that were used before.
_MAX_PDU: Final = 1024
_PEER_TITLE: Final = "5045455200000001"
_PEER_COUNTER: Final = {"gurux-dlms": 1_000_000_000, "dlms-cosem": 2_000_000_000}


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
        house = await stack.enter_async_context(House.open(land, there, plan))
        direct = direct_meters(there.meters, 10_000)
        idle = Reads()
        await house.read_now(direct, plan.idle, idle, every_s=0.0)
        today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
        say("the first night: every meter is new")
        first = await house.night(today - 2 * DAY, direct)
        say(f"{first.meters:,} meters in {first.wall_s:.0f} s; now the night")
        night = await house.night(today - DAY, direct)
        say(f"{night.meters:,} meters, {night.rows:,} intervals in {night.wall_s:.0f} s")
        size = await house.number("SELECT pg_database_size(current_database())")
        await house.close()
        compared, missing = await _compare(plan, land, direct, today - DAY, say)
        return Found(
            plan, land.where, there.seconds, land.import_s, idle, first, night, size, compared, missing
        )


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
        try:
            told = await asyncio.to_thread(_ask, process, {
                "meters": [one._asdict() for one in some],
                "first": (day + timedelta(minutes=15)).isoformat(),
                "last": (day + DAY).isoformat(),
                "max_pdu": _MAX_PDU,
                "client_title": _PEER_TITLE,
                "counter": _PEER_COUNTER[name],
                "dsn": land.dsn,
            })  # fmt: skip
        except BenchError as error:  # ours was measured all the same
            missing.append(f"{name} ({error})")
            continue
        async with land.pool.connection() as connection:
            cursor = await connection.execute(
                b"SELECT sum(active_import + active_export + reactive_import + reactive_export)::text"
                b" FROM interval_reads JOIN meters USING (meter_id)"
                b" WHERE profile = 1 AND start >= %s AND start < %s AND asset_id = ANY (%s)",
                (day, day + DAY, [one.asset_id for one in some[1:]]),
            )
            row = await cursor.fetchone()
        is_equal = row is not None and row[0] == told["sum"] and told["rows"] == ROWS * told["meters"]
        found.append(PeerNight(name, told["meters"], told["wall_s"], told["cpu_s"], is_equal))
    return tuple(found), tuple(missing)


def _ask(process: Process, request: Mapping[str, Any]) -> dict[str, Any]:
    with process:
        return process.ask("night", **request)
