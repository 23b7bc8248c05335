"""Simulated meters over real sockets, a house that works at lanes, and campaigns that apply programs."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from concentrator_sim.field import Field, unix_now
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.network_file import network_csv
from concentrator_sim.scenario import make_scenario
from headend.foundation import open_base
from headend.house import House, open_house
from headend.ingest.meter_import import import_meters
from headend.ingest.network_import import import_network
from headend.jobs.janitor import tidy
from headend.programs import waves
from headend.programs.contract import Procedure
from headend.programs.proposal import propose
from headend.store import approvals, campaign_meters, campaigns, meters
from headend.store.approvals import ApprovalState
from headend.store.campaign_meters import CampaignMeter, Step
from headend.store.campaigns import Campaign
from schemas.campaign import CampaignState, Plan
from schemas.config import load_settings
from schemas.job import Retry, Selection
from schemas.people import Permission, Principal
from schemas.program import Program

#: Attempts follow one another at once.
RETRY = Retry(attempts=5, first_s=0.01, longest_s=0.01)
EVERYBODY = Plan(selection=Selection(), retry=RETRY)


class Works:
    """A field, and a house that works at it. ``meters`` are numbers by asset id."""

    def __init__(self, house: House, field: Field, dsn: str) -> None:
        self.house = house
        self.field = field
        self.dsn = dsn
        self.meters: dict[str, int] = {}

    def simulated(self, n: int = 0) -> SimulatedMeter:
        """The field's meter ``n``."""
        return self.field.meters[n].meter

    async def propose(self, program: Program, plan: Plan = EVERYBODY) -> Campaign:
        """A campaign that waits for approval."""
        async with self.house.base.pool.connection() as connection:
            return await propose(
                connection, program, plan, name="test", title="test", procedures=self.house.procedures,
                actor="test", correlation_id="c", now=datetime.now(UTC),
            )  # fmt: skip

    async def approve(self, campaign_id: int) -> None:
        """As a second person would."""
        async with self.house.base.pool.connection() as connection:
            campaign = await campaigns.find(connection, campaign_id)
            await approvals.add(
                connection, subject=f"campaign:{campaign_id}", needs=Permission.APPROVE,
                digest=campaign.digest, shown={}, principal=Principal("test", frozenset()),
                expires_at=datetime.now(UTC), state=ApprovalState.APPROVED, decided_by="somebody else",
            )  # fmt: skip
            await campaigns.move(
                connection, campaign_id, CampaignState.APPROVED, before=[CampaignState.PROPOSED]
            )

    async def advance(self, campaign_id: int) -> Campaign:
        """As the scheduler does."""
        async with self.house.base.pool.connection() as connection:
            await waves.advance(connection, campaign_id, datetime.now(UTC))
        await tidy(self.house.base.pool.connection)
        async with self.house.base.pool.connection() as connection:
            return await campaigns.find(connection, campaign_id)

    async def apply(
        self, program: Program, plan: Plan = EVERYBODY, *, within_s: float = 60
    ) -> list[CampaignMeter]:
        """Apply the program until its campaign has ended; where its meters stand then."""
        campaign = await self.propose(program, plan)
        await self.approve(campaign.campaign_id)
        return await self.ended(campaign.campaign_id, within_s=within_s)

    async def ended(self, campaign_id: int, *, within_s: float = 60) -> list[CampaignMeter]:
        """Wait until the campaign has ended; where its meters stand."""
        async with asyncio.timeout(within_s):
            while (found := await self.advance(campaign_id)).state is not CampaignState.DONE:
                assert found.state is not CampaignState.STOPPED, found.reason
                await asyncio.sleep(0.05)
        return await self.standing(campaign_id)

    async def standing(self, campaign_id: int) -> list[CampaignMeter]:
        """Where the meters of the campaign stand."""
        async with self.house.base.pool.connection() as connection:
            return await campaign_meters.page(connection, campaign_id, limit=100_000)

    async def steps(self, campaign_id: int, meter_id: int) -> list[Step]:
        """What was done at one meter."""
        async with self.house.base.pool.connection() as connection:
            return await campaign_meters.steps(connection, campaign_id, meter_id)

    def rows(self, query: str) -> list[Any]:
        """Of the database."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()


@asynccontextmanager
async def works(
    dsn: str,
    *,
    procedures: Sequence[Procedure] | None = None,
    settings: Any = None,
    clock: Callable[[], int] = unix_now,
    working: bool = True,
    **scenario: Any,
) -> AsyncIterator[Works]:
    """Everything open, the queue at work, all meters imported and commissioned. ``procedures`` instead of the
    house's own; ``clock`` is the field's. Not ``working``, lanes are left to others."""
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(
            Field(make_scenario({"base_port": 0, **scenario}), clock=clock)
        )
        chosen = load_settings(**{"database_url": dsn, "master_key": "42" * 32, **(settings or {})})
        base = await stack.enter_async_context(open_base(chosen))
        house = await stack.enter_async_context(open_house(base))
        if procedures is not None:
            house = dataclasses.replace(house, procedures=tuple(procedures))
        async with base.pool.connection() as connection:
            done = await import_meters(
                connection, simulated.csv().encode(), vault=await base.vault(),
                since=datetime.now(UTC) - timedelta(days=8), actor="test", allow_plain_keys=True,
            )  # fmt: skip
            assert not done.errors, done.errors
            if simulated.stations:
                hung = await import_network(
                    connection, network_csv(simulated).encode(), since=datetime.now(UTC) - timedelta(days=8),
                    actor="test",
                )  # fmt: skip
                assert not hung.errors, hung.errors
            found = await meters.page(connection, limit=100_000)
        made = Works(house, simulated, dsn)
        made.meters = {one.asset_id: one.meter_id for one in found}
        if not working:
            yield made
            return
        crew = await stack.enter_async_context(house.at_work("test"))
        running = asyncio.create_task(crew.run(drain_s=5))
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.wait([running])
