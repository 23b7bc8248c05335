"""Concentrators: a round of one that stores and forwards, and one with dead meters beside a healthy one.

The product's own path, to committed rows: house, links, collector, rounds. The concentrators are simulated,
in a process of their own; behind those that pass through is a shared medium with a power line's rate, on
which a meter that does not answer costs the concentrator's patience.
"""

import asyncio
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from headend.bench.processes import BenchError, Process
from headend.bench.store import database
from headend.clock import utc_now
from headend.foundation import open_base
from headend.house import House, open_house
from headend.ingest.meter_import import import_meters
from headend.ingest.network_import import import_network
from headend.store import network
from schemas.config import load_settings

#: Each so many meters of the second station is dead.
DEAD_EVERY: Final = 10
_DAY: Final = timedelta(days=1)
_HISTORY: Final = timedelta(days=60)
_ACTOR: Final = "bench"
_PROGRAM: Final = "from concentrator_sim.cli import app; app(prog_name='concentrator-sim')"
_SCENARIO: Final = """\
meters = 0
base_port = 0
station_base_port = 0

[[stations]]
kind = "store_and_forward"
meters = {stored}
models = ["none"]

[[stations]]
kind = "pass_through"
meters = {behind}
link = "plc_broadband"
spread_m = 50
models = ["none"]

[[stations]]
kind = "pass_through"
meters = {behind}
link = "plc_broadband"
spread_m = 50
models = ["none"]
dead_every = {dead_every}
"""


class Found(NamedTuple):
    """Rows of the round and its seconds; seconds of each collection through the healthy concentrator and the
    one with dead meters, the first left out."""

    rows: int
    round_s: float
    healthy_s: list[float]
    dead_s: list[float]
    where: str


async def measure(stored: int, behind: int, rounds: int) -> Found:
    """``stored`` meters of the one that stores, ``behind`` of each other one, ``rounds`` collections of each.

    Raises BenchError where not all was read that is alive.
    """
    async with database() as (dsn, where), _field(stored, behind, dsn) as house:
        async with house.by_hand("bench") as hand:
            (kept,) = await hand.stations()
        if kept.failure is not None or kept.figures.get("bad"):
            raise BenchError(f"{kept.station}: {kept.failure or kept.figures}")
        _, healthy, dead = await _stations(house)
        until = utc_now() - _DAY
        alive = behind - behind // DEAD_EVERY
        healthy_s, dead_s = [], []
        for _ in range(rounds + 1):
            since = until - _DAY
            healthy_s.append(await _collect(house, healthy, since, until, behind))
            dead_s.append(await _collect(house, dead, since, until, alive))
            until = since
        return Found(kept.figures["fetched"], kept.seconds, healthy_s[1:], dead_s[1:], where)


async def _collect(house: House, some: list[int], since: datetime, until: datetime, alive: int) -> float:
    async with house.by_hand("bench") as hand:
        outcome = await hand.collect(since, until, meter_ids=some)
    if outcome.read != alive:
        raise BenchError(f"{outcome.read} of {alive} meters were read: {outcome.failures[:3]}")
    return outcome.seconds


async def _stations(house: House) -> list[list[int]]:
    """The meters below each station, by the stations' names."""
    async with house.base.pool.connection() as connection:
        return [
            await network.meters_of(connection, node.node_id) for node in await network.stations(connection)
        ]


@asynccontextmanager
async def _field(stored: int, behind: int, dsn: str) -> AsyncIterator[House]:
    """The simulated concentrators, and a house that knows them and their meters."""
    with tempfile.TemporaryDirectory(prefix="headend-bench-") as name:
        folder = Path(name)
        scenario, devices, nodes = folder / "field.toml", folder / "meters.csv", folder / "network.csv"
        text = _SCENARIO.format(stored=stored, behind=behind, dead_every=DEAD_EVERY)
        await asyncio.to_thread(scenario.write_text, text)
        command = [
            sys.executable, "-c", _PROGRAM, "serve", "--scenario", str(scenario),
            "--write-meters", str(devices), "--write-network", str(nodes), "--until-eof",
        ]  # fmt: skip
        simulated = Process("concentrators", command)
        await asyncio.to_thread(simulated.__enter__)
        try:
            settings = load_settings(database_url=dsn, master_key=secrets.token_hex(32), retry_longest_s=2)
            async with open_base(settings) as base, open_house(base) as house:
                since, vault = utc_now() - _HISTORY, await base.vault()
                async with base.pool.connection() as connection:
                    data = await asyncio.to_thread(devices.read_bytes)
                    done = await import_meters(
                        connection, data, vault=vault, since=since, actor=_ACTOR, allow_plain_keys=True
                    )
                    data = await asyncio.to_thread(nodes.read_bytes)
                    hung = await import_network(connection, data, since=since, actor=_ACTOR)
                if done.errors or hung.errors:
                    raise BenchError(f"the simulated field is not taken: {(*done.errors, *hung.errors)[0]}")
                yield house
        finally:
            await asyncio.to_thread(simulated.__exit__, None, None, None)
