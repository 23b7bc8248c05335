"""Firmware for a field of meters behind a lossy link, while workers are killed and the night is read; and how
fast one meter is given it over a clean link.

::

    simulator (parts, 5 % of messages lost) ── package ──> campaign ──> worker --processes N, killed K times
                                      night of the same meters, on time meanwhile
    every meter at the new version; the simulator counts blocks that came for a place that was taken
"""

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from concentrator_sim.image import simulated_image
from headend.bench.campaign import begun
from headend.bench.night.cost import Cost
from headend.bench.night.county import County, county
from headend.bench.night.field import Served, served
from headend.bench.night.service import DAY, House, Plan
from headend.bench.processes import BenchError
from headend.clock import utc_now
from headend.drivers.commands.firmware import Upgradable
from headend.drivers.targets import targets_of
from headend.firmware.package import Manifest, pack
from headend.firmware.upload import upload
from headend.house import open_house
from headend.store import campaign_meters, campaigns
from headend.store.jobs import Counts
from schemas import campaign
from schemas.campaign import FINAL, CampaignState, MeterProgress
from schemas.job import Retry, Selection
from schemas.programs.firmware import FirmwareProgram

BLOCK: Final = 2_000
_MAX_PDU: Final = 2_100
_VERSION: Final = "2.0.0"
#: Of the clean link: how long an answer is held back.
_DELAY_MS: Final = 50
_PROBES: Final = 20
#: What of the block size for each round trip must be reached.
RATE: Final = 0.85
_LOOK_S: Final = 1.0
_FIELD: Final = """\
meters = {meters}
ports_per_host = 7_000
max_pdu = {pdu}
delay_ms = {delay_ms}

[image]
block_size = {block}
verify_s = 5
restart_s = 2
"""
_LOSS: Final = """\

[[faults]]
kind = "{kind}"
chance = {chance}
"""
#: A link that loses messages is no dead meter: it is dialled again soon.
_SETTINGS: Final = {
    "HEADEND_ANSWER_SHORTEST_S": "1",
    "HEADEND_RESPONSE_TIMEOUT_S": "2",
    "HEADEND_BREAKER_FIRST_S": "10",
    "HEADEND_BREAKER_LONGEST_S": "20",
    "HEADEND_LANE_LEASE_S": "6",
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The lossy field. ``night_s`` until the last of the ``night`` was read beside the campaign, which was to
    be over within ``night_within_s``. ``images``: what the simulator counted. CPU by kind of process."""

    meters: int
    size: int
    loss: float
    where: str
    seconds: float
    kills: int
    updated: int
    others: Mapping[str, int]
    night: Counts
    night_s: float
    night_within_s: float
    images: Mapping[str, int]
    costs: Mapping[str, Cost]

    @property
    def again(self) -> int:
        """Blocks that were sent for a place that was taken."""
        return self.images["again_told"] + self.images["again_untold"]

    @property
    def holds(self) -> bool:
        """All at the new version, no stored block sent again, the night on time."""
        return self.updated == self.meters and not self.again and self.night.done == self.night.total


@dataclass(frozen=True, slots=True)
class Clean:
    """The clean link: seconds of a round trip, and bytes a second of each meter from the moment that the
    transfer was begun to the moment that nothing was missing."""

    round_trip_s: float
    rates: tuple[float, ...]

    @property
    def share(self) -> float:
        """The slowest meter's rate, of block size for each round trip."""
        return min(self.rates) * self.round_trip_s / BLOCK

    @property
    def holds(self) -> bool:
        """Whether it is enough."""
        return self.share >= RATE


async def fleet(
    meters: int, size: int, loss: float, kills: int, *, workers: int, conversations: int, simulators: int,
    deadline_s: float, night_within_s: float, say: Say,
) -> Fleet:  # fmt: skip
    """Bring it to all meters. Raises BenchError where a process fails, or it takes longer than that."""
    faults = "".join(_LOSS.format(kind=kind, chance=loss / 2) for kind in ("loss", "request_loss"))
    async with AsyncExitStack() as outer:
        there = await outer.enter_async_context(_served(meters, 0, simulators, faults if loss else ""))
        async with AsyncExitStack() as stack:
            land, key = await _land(stack, there, conversations)
            house = await stack.enter_async_context(
                House.open(land, there, Plan(meters=meters, workers=workers, conversations=conversations))
            )
            program = await _uploaded(land, key, size)
            before = house.costs()
            campaign_id = await _begin(land, program)
            say(f"{land.meters:,} meters ({land.where}); the campaign has begun")
            day = utc_now().replace(hour=0, minute=0, second=0, microsecond=0) - DAY
            killing = asyncio.create_task(_kill(land, house, campaign_id, kills, say))
            night = asyncio.create_task(_night(house, day, night_within_s, say))
            try:
                seconds = await _ended(land, campaign_id, deadline_s, say)
                done, night_s = await night
                killed = await killing
            finally:
                for task in (night, killing):
                    task.cancel()
                await asyncio.wait([night, killing])
            costs = {kind: cost.since(before[kind]) for kind, cost in house.costs().items()}
            updated, others = await _standing(land, campaign_id)
    images = {name: sum(one["images"][name] for one in there.ended) for name in there.ended[0]["images"]}
    return Fleet(
        meters, size, loss, land.where, seconds, killed, updated, others, done, night_s, night_within_s,
        images, costs,
    )  # fmt: skip


async def clean(meters: int, size: int, *, say: Say) -> Clean:
    """Bring it to a few meters over a link without loss. Raises BenchError."""
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(_served(meters, _DELAY_MS, 1, ""))
        land, key = await _land(stack, there, 64)
        round_trip_s = await _round_trip(land)
        await stack.enter_async_context(House.open(land, there, Plan(meters=meters, workers=1)))
        campaign_id = await _begin(land, await _uploaded(land, key, size))
        await _ended(land, campaign_id, 600, say)
        async with land.pool.connection() as connection:
            cursor = await connection.execute(
                b"SELECT extract(epoch FROM max(at) FILTER (WHERE step = 'blocks')"
                b" - min(at) FILTER (WHERE step = 'initiate' AND phase = 'done'))"
                b" FROM campaign_steps WHERE campaign_id = %s GROUP BY meter_id",
                (campaign_id,),
            )
            rates = tuple(size / float(took) for (took,) in await cursor.fetchall())
    return Clean(round_trip_s, rates)


@asynccontextmanager
async def _served(meters: int, delay_ms: int, parts: int, faults: str) -> AsyncIterator[Served]:
    with tempfile.TemporaryDirectory(prefix="headend-firmware-") as folder:
        scenario = Path(folder) / "firmware.toml"
        scenario.write_text(
            _FIELD.format(meters=meters, pdu=_MAX_PDU, delay_ms=delay_ms, block=BLOCK) + faults, "utf-8"
        )
        async with served(str(scenario), None, parts) as there:
            yield there


async def _land(stack: AsyncExitStack, there: Served, conversations: int) -> tuple[County, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.generate()
    settings = {
        **_SETTINGS,
        "HEADEND_COLLECTOR_CONCURRENCY": str(conversations),
        "HEADEND_FIRMWARE_KEYS": f'["{key.public_key().public_bytes_raw().hex()}"]',
    }
    return await stack.enter_async_context(county(there, settings)), key


async def _uploaded(land: County, key: Ed25519PrivateKey, size: int) -> FirmwareProgram:
    image = simulated_image(_VERSION, size)
    manifest = Manifest(
        identifier=f"SIM-{_VERSION}".encode().hex(), models=("headend-sim-hls5",), versions_from=("1.*",),
        version_to=_VERSION, image_sha256=sha256(image).hexdigest(), image_size=size,
        created_at=utc_now(),
    )  # fmt: skip
    trusted = [key.public_key().public_bytes_raw().hex()]
    async with land.pool.connection() as connection:
        package = await upload(connection, pack(manifest, image, key), trusted, actor="bench")
    return FirmwareProgram(package=package.digest)


async def _begin(land: County, program: FirmwareProgram) -> int:
    everybody = campaign.Plan(
        selection=Selection(), stop_percent=100.0, retry=Retry(attempts=100, first_s=1, longest_s=5)
    )
    return await begun(land, program, everybody)


async def _sent(land: County, campaign_id: int) -> int:
    """Blocks that visits have told of."""
    async with land.pool.connection() as connection:
        cursor = await connection.execute(
            b"SELECT sum((facts ->> 'blocks_sent')::int) FROM campaign_meters WHERE campaign_id = %s",
            (campaign_id,),
        )
        row = await cursor.fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


async def _kill(land: County, house: House, campaign_id: int, kills: int, say: Say) -> int:
    """Kill a worker each time that another share of the blocks has come; how many were."""
    dice, killed = random.Random(5), 0
    total = -1
    while killed < kills:
        await asyncio.sleep(_LOOK_S)
        sent = await _sent(land, campaign_id)
        async with land.pool.connection() as connection:
            cursor = await connection.execute(
                b"SELECT max((facts ->> 'blocks')::int) * count(*) FROM campaign_meters"
                b" WHERE campaign_id = %s",
                (campaign_id,),
            )
            row = await cursor.fetchone()
        total = 0 if row is None or row[0] is None else int(row[0])
        there = house.workers()
        if there and total and sent >= total * (killed + 0.5) / (kills + 1):
            os.kill(dice.choice(there), signal.SIGKILL)
            killed += 1
            say(f"worker killed, {killed} of {kills}, after {sent:,} of {total:,} blocks")
    return killed


async def _night(house: House, day: datetime, within_s: float, say: Say) -> tuple[Counts, float]:
    """Read yesterday of all meters; what became of it by its end, and the seconds until the last."""
    began = utc_now()
    job_id = await house.begin(day, within_s, attempts=100)
    await house.cut_off(job_id)
    counts = await house.counts(job_id)
    last = await house.number(
        "SELECT 1000 * extract(epoch FROM max(ended_at)) FROM requests WHERE job_id = %s AND state = 'done'",
        job_id,
    )
    took_s = (datetime.fromtimestamp(last / 1000, UTC) - began) / timedelta(seconds=1)
    say(f"the night: {counts.done:,} of {counts.total:,} meters read, the last after {took_s:.0f} s")
    return counts, took_s


async def _ended(land: County, campaign_id: int, deadline_s: float, say: Say) -> float:
    """Wait for the end of the campaign; seconds from its first wave to its last meter."""
    loop = asyncio.get_running_loop()
    end, tell = loop.time() + deadline_s, loop.time() + 15
    while True:
        async with land.pool.connection() as connection:
            found = await campaigns.find(connection, campaign_id)
            counts = (await campaigns.counts(connection, [campaign_id]))[campaign_id]
        left = sum(
            number
            for wave in counts.values()
            for state, number in wave.items()
            if state in (MeterProgress.WAITING, MeterProgress.OPEN)
        )
        if found.state is CampaignState.DONE and found.started_at is not None:
            async with land.pool.connection() as connection:
                cursor = await connection.execute(
                    b"SELECT max(ended_at) FROM campaign_meters WHERE campaign_id = %s", (campaign_id,)
                )
                row = await cursor.fetchone()
            last: datetime = row[0] if row is not None and row[0] else found.started_at
            return (last - found.started_at).total_seconds()
        if found.state in FINAL or found.state is CampaignState.STOPPED or loop.time() > end:
            raise BenchError(f"the campaign is {found.state}, {left:,} meters are open: {found.reason}")
        if loop.time() > tell:
            tell += 15
            say(f"{left:,} meters are open, {await _sent(land, campaign_id):,} blocks sent")
        await asyncio.sleep(_LOOK_S)


async def _standing(land: County, campaign_id: int) -> tuple[int, dict[str, int]]:
    updated, others = 0, dict[str, int]()
    async with land.pool.connection() as connection:
        for one in await campaign_meters.page(connection, campaign_id, limit=land.meters):
            if one.state is MeterProgress.DONE and one.proof and one.proof["version"] == _VERSION:
                updated += 1
            else:
                reason = f"{one.state}: {one.reason or 'it shows another version'}"
                others[reason] = others.get(reason, 0) + 1
    return updated, others


async def _round_trip(land: County) -> float:
    """Of the first meter: the median of some reads of its version, each one request and one answer."""
    async with open_house(land.base) as house:
        async with land.pool.connection() as connection:
            cursor = await connection.execute(b"SELECT min(meter_id) FROM meters")
            row = await cursor.fetchone()
            assert row is not None
            (target,) = await targets_of(connection, [row[0]])
        driver = house.drivers.of(target.meter.model)
        way = (await driver.prepare([target]))[target.meter.meter_id]
        if isinstance(way, Exception):
            raise way
        async with driver.open(way) as conversation:
            if not isinstance(conversation, Upgradable):
                raise BenchError("the simulated meter takes no firmware")
            for _ in range(_PROBES):
                await conversation.read_running()
            return median(list(conversation.answers_s)[-_PROBES:])
