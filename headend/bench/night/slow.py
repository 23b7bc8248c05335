"""Slow concentrators among fast ones: what they cost the others, and what becomes of what was not read.

The same fast meters are read twice: alone, and beside concentrators whose line takes a minute for one load
profile. The second job is cut off; whoever was not read then stands in the gap ledger.
"""

import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from headend.bench.night.county import county
from headend.bench.night.field import served
from headend.bench.night.service import DAY, House, Plan
from headend.clock import utc_now
from headend.house import completeness_rounds

#: Bits a second of a line on which the load profile of a day takes 59 s.
RATE_BPS: Final = 530
#: How much longer the fast ones may take.
MOST: Final = 1.05
_SCENARIO: Final = """\
meters = 1
base_port = 0
station_base_port = 0

[[stations]]
kind = "pass_through"
count = {fast}
meters = {each}
link = "ethernet"
models = ["hls5"]

[[stations]]
kind = "pass_through"
count = {slow}
meters = {each}
rate_bps = {rate}
models = ["hls5"]
"""


@dataclass(frozen=True, slots=True)
class Among:
    """Seconds until the last fast meter was read: of each round without the slow, and beside them. ``unread``
    of ``slow`` meters behind slow concentrators were cut off, ``gaps`` of them are in the ledger."""

    alone_s: tuple[float, ...]
    beside_s: tuple[float, ...]
    fast: int
    slow: int
    unread: int
    gaps: int

    @property
    def times(self) -> float:
        """The least of one against the least of the other: the machine's noise only ever adds."""
        return min(self.beside_s) / min(self.alone_s)

    @property
    def holds(self) -> bool:
        """Whether the fast ones took hardly longer, and nothing that is unread was forgotten."""
        return self.times <= MOST and self.gaps == self.unread > 0


async def measure(
    fast: int, slow: int, each: int, rounds: int, cut_off_s: float, say: Callable[[str], None]
) -> Among:
    """``fast`` and ``slow`` concentrators with ``each`` meters. Raises BenchError where fast meters are not
    read before the cut-off."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-slow-"))
        scenario = Path(folder) / "slow.toml"
        scenario.write_text(_SCENARIO.format(fast=fast, slow=slow, each=each, rate=RATE_BPS))
        there = await stack.enter_async_context(served(str(scenario), None, 1))
        land = await stack.enter_async_context(county(there, {"HEADEND_COLLECTOR_CONCURRENCY": "64"}))
        house = await stack.enter_async_context(House.open(land, there, Plan(deadline_s=cut_off_s)))
        quick, slack = await house.split(fast)
        day = utc_now().replace(hour=0, minute=0, second=0, microsecond=0) - DAY
        say(f"{len(quick):,} fast meters and {len(slack):,} slow ones; each is new at first")
        await house.followed(await house.begin(day - DAY, cut_off_s, quick), quick)
        alone, beside = [], []
        for number in range(rounds):
            # another part of the day each time: what is there already costs more to store
            since, until = (day + DAY * part / (2 * rounds) for part in (2 * number, 2 * number + 1))
            between = (until, until + (until - since))
            alone.append(await house.followed(await house.begin(since, cut_off_s, quick, until), quick))
            job_id = await house.begin(between[0], cut_off_s, [*quick, *slack], between[1])
            beside.append(await house.followed(job_id, quick))
            say(f"{alone[-1]:.1f} s alone, {beside[-1]:.1f} s beside the slow ones")
        await house.cut_off(job_id)
        counts = await house.counts(job_id)
        # as at any later hour: whatever has ended is missed
        settings = land.base.settings.model_copy(update={"gaps_after_s": 0.0})
        await completeness_rounds(replace(land.base, settings=settings)).once()
        gaps = await house.number(
            "SELECT count(DISTINCT meter_id) FROM gaps WHERE state = 'open' AND during @> %s::timestamptz"
            " AND meter_id = ANY (%s)",
            between[0] + timedelta(minutes=1),
            slack,
        )
        return Among(tuple(alone), tuple(beside), len(quick), len(slack), counts.total - counts.done, gaps)
