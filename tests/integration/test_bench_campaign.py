"""Campaigns of benchmarks begin: they are approved of as any other is, by a policy that asks for nobody."""

from types import SimpleNamespace
from typing import Any, cast

from headend.bench.campaign import begun
from headend.bench.night.county import County
from schemas.campaign import CampaignState
from schemas.programs.clock import ClockProgram
from tests.integration.programs.field import EVERYBODY, works


async def test_what_a_benchmark_puts_forward_begins(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1, working=False) as here:
        land = cast("County", SimpleNamespace(pool=here.house.base.pool, base=here.house.base))
        number = await begun(land, ClockProgram(), EVERYBODY)
        assert (await here.advance(number)).state is CampaignState.RUNNING
        assert here.rows("SELECT decided_by FROM approvals") == [("policy",)]
