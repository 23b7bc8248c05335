"""A tariff program for a field of meters, some of which store it wrongly: is each told right, and how fast.

::

    simulator (parts) ── program ──> campaign of all meters ──> worker --processes N ── PostgreSQL
                                          │
    every proof == the program, element by element; the wrong ones == those that the simulator struck
"""

import asyncio
import csv
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from headend.bench.campaign import begun
from headend.bench.night.cost import Cost
from headend.bench.night.county import County, county
from headend.bench.night.field import Served, served
from headend.bench.night.service import House, Plan
from headend.bench.processes import BenchError
from headend.drivers.commands.tariff import limits_of
from headend.store import campaign_meters, campaigns, meters
from headend.store.campaign_meters import CampaignMeter
from schemas import campaign
from schemas.campaign import FINAL, CampaignState, MeterProgress
from schemas.job import Retry, Selection
from schemas.models import load_any
from schemas.programs.tariff import TariffProgram
from schemas.tariff.calendar import SPECIALS, compiled

#: Two in a thousand meters store one switch wrongly: 20 of 10,000.
WRONG: Final = "*[05]77"
_LOOK_S: Final = 1.0
_PAGE: Final = 1_000
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday")
#: Four periods, two seasons, four kinds of days, eleven special days: a program of usual size.
DOCUMENT: Final[Mapping[str, Any]] = {
    "name": "BENCH27",
    "zone": "Europe/Berlin",
    "periods": {"peak": 1, "off-peak": 2, "half-peak": 3, "super-off-peak": 4},
    "days": [
        {
            "name": "winter work",
            "switches": [
                {"from": "00:00", "period": "off-peak"},
                {"from": "06:00", "period": "half-peak"},
                {"from": "10:00", "period": "peak"},
                {"from": "14:00", "period": "half-peak"},
                {"from": "17:00", "period": "peak"},
                {"from": "21:00", "period": "off-peak"},
            ],
        },
        {
            "name": "summer work",
            "switches": [
                {"from": "00:00", "period": "off-peak"},
                {"from": "07:00", "period": "half-peak"},
                {"from": "11:00", "period": "super-off-peak"},
                {"from": "16:00", "period": "peak"},
                {"from": "22:00", "period": "off-peak"},
            ],
        },
        {
            "name": "saturday",
            "switches": [{"from": "00:00", "period": "off-peak"}, {"from": "08:00", "period": "half-peak"}],
        },
        {"name": "sunday", "switches": [{"from": "00:00", "period": "off-peak"}]},
    ],
    "weeks": [
        {
            "name": name,
            **dict.fromkeys(_WEEKDAYS, f"{season} work"),
            "saturday": "saturday",
            "sunday": "sunday",
        }
        for name, season in (("W", "winter"), ("S", "summer"))
    ],
    "seasons": [
        {"name": "winter", "from": "10-01", "week": "W"},
        {"name": "summer", "from": "04-01", "week": "S"},
    ],
    "special_days": [
        {"date": date, "day": "sunday"}
        for date in ("01-01", "05-01", "10-03", "12-24", "12-25", "12-26", "12-31")
    ]
    + [
        {"date": "2027-03-26", "weekday": "friday", "day": "sunday"},
        {"date": "2027-03-29", "weekday": "monday", "day": "sunday"},
        {"date": "2027-05-06", "weekday": "thursday", "day": "sunday"},
        {"date": "2027-05-17", "weekday": "monday", "day": "sunday"},
    ],
}
_PROGRAM: Final = TariffProgram.model_validate({"kind": "tariff", "document": DOCUMENT})


@dataclass(frozen=True, slots=True)
class Found:
    """``seconds`` from the first wave to the end of the last meter; ``equal``: read back and the same element
    by element; ``found``: told as wrong, of those ``struck`` that store wrongly; ``others``: what became
    of the rest, by its reason. CPU by kind of process."""

    meters: int
    where: str
    seconds: float
    equal: int
    struck: tuple[str, ...]
    found: tuple[str, ...]
    others: Mapping[str, int]
    example: str
    costs: Mapping[str, Cost]

    @property
    def holds(self) -> bool:
        """Every read-back is equal but those of the struck, and exactly these are told as wrong."""
        return self.found == self.struck and self.equal + len(self.found) == self.meters

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "meters": self.meters,
            "where": self.where,
            "seconds": round(self.seconds, 1),
            "meters_per_s": round(self.meters / self.seconds, 1),
            "equal": self.equal,
            "struck": list(self.struck),
            "found": list(self.found),
            "others": dict(self.others),
            "example": self.example,
            "cpu_ms": {kind: round(1000 * cost.cpu_s / self.meters, 2) for kind, cost in self.costs.items()},
            "holds": self.holds,
        }


async def measure(
    number: int, *, simulators: int, workers: int, conversations: int, deadline_s: float, say: Any
) -> Found:
    """Run it all. Raises BenchError where a process fails, or it takes longer than ``deadline_s``."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-tariff-")))
        scenario = folder / "tariff.toml"
        scenario.write_text(
            f'title = "Tariffs"\nmeters = {number}\nports_per_host = 7_000\n'
            f'[[faults]]\nkind = "wrong_tariff"\ntargets = "{WRONG}"\n',
            encoding="utf-8",
        )
        say(f"the simulator: {number:,} meters, {simulators} processes")
        there = await stack.enter_async_context(served(str(scenario), None, simulators))
        settings = {"HEADEND_COLLECTOR_CONCURRENCY": str(conversations)}
        land = await stack.enter_async_context(county(there, settings))
        say(f"{land.meters:,} meters imported in {land.import_s:.0f} s; {land.where}")
        plan = Plan(meters=number, simulators=simulators, workers=workers, conversations=conversations)
        house = await stack.enter_async_context(House.open(land, there, plan))
        before = house.costs()
        campaign_id = await _begin(land)
        say("the campaign has begun")
        seconds = await _ended(land, campaign_id, deadline_s, say)
        costs = {kind: cost.since(before[kind]) for kind, cost in house.costs().items()}
        return await _judged(land, there, campaign_id, seconds, costs)


async def _begin(land: County) -> int:
    everybody = campaign.Plan(
        selection=Selection(), stop_percent=100.0, retry=Retry(attempts=5, first_s=1, longest_s=10)
    )
    return await begun(land, _PROGRAM, everybody)


async def _ended(land: County, campaign_id: int, deadline_s: float, say: Any) -> float:
    """Wait for the end; seconds from the first wave to the last meter."""
    loop = asyncio.get_running_loop()
    end, told = loop.time() + deadline_s, 0
    while True:
        async with land.pool.connection() as connection:
            found = await campaigns.find(connection, campaign_id)
            counts = (await campaigns.counts(connection, [campaign_id]))[campaign_id]
        total = sum(
            count
            for wave in counts.values()
            for state, count in wave.items()
            if state not in (MeterProgress.WAITING, MeterProgress.OPEN)
        )
        if total - told >= land.meters / 5:
            told = total
            say(f"{total:,} meters have ended")
        if found.state is CampaignState.DONE and found.started_at is not None:
            async with land.pool.connection() as connection:
                cursor = await connection.execute(
                    b"SELECT max(ended_at) FROM campaign_meters WHERE campaign_id = %s", (campaign_id,)
                )
                row = await cursor.fetchone()
            last: datetime = row[0] if row is not None else found.started_at
            return (last - found.started_at).total_seconds()
        if found.state in FINAL or found.state is CampaignState.STOPPED or loop.time() > end:
            raise BenchError(f"the campaign is {found.state} after {total:,} meters: {found.reason}")
        await asyncio.sleep(_LOOK_S)


async def _judged(
    land: County, there: Served, campaign_id: int, seconds: float, costs: Mapping[str, Cost]
) -> Found:
    struck = sorted(name for name in _names(there.meters) if fnmatchcase(name, WRONG))
    equal, wrong, others, example = 0, [], dict[str, int](), ""
    async with land.pool.connection() as connection:
        known = await meters.page(connection, limit=land.meters)
        names = {one.meter_id: (one.asset_id, one.model) for one in known}
        after = None
        while rows := await campaign_meters.page(connection, campaign_id, limit=_PAGE, after=after):
            after = rows[-1].meter_id
            for one in rows:
                asset_id, model = names[one.meter_id]
                if one.state is MeterProgress.FAILED and "has not stored what was written" in (
                    one.reason or ""
                ):
                    wrong.append(asset_id)
                    example = example or f"{asset_id}: {one.reason}"
                elif one.state is MeterProgress.DONE and _is_equal(one, model):
                    equal += 1
                else:
                    reason = f"{one.state}: {one.reason or 'its proof is another calendar'}"
                    others[reason] = others.get(reason, 0) + 1
    return Found(
        len(names), land.where, seconds, equal, tuple(struck), tuple(sorted(wrong)), others, example, costs
    )


def _names(files: Sequence[Path]) -> list[str]:
    found = []
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            found += [row["asset_id"] for row in csv.DictReader(file)]
    return found


def _is_equal(one: CampaignMeter, model: str) -> bool:
    """Whether what was read back is the program, compiled here once more."""
    limits = limits_of(load_any(model))
    if one.proof is None or limits is None:
        return False
    wanted = compiled(_PROGRAM.document, limits, one.facts["numbers"])
    return bool(
        one.proof["calendar"] == wanted.calendar.as_json()
        and one.proof["special_days"] == SPECIALS.dump_python(wanted.specials, mode="json")
    )
