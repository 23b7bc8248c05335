"""Workers killed in the middle of a step with an effect: what was begun is seen to its end by the next one,
and nothing is done twice. The effect is a billing reset, and the meters themselves count it."""

import asyncio
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from concentrator_sim.field import Field
from concentrator_sim.parameters import Parameters
from concentrator_sim.scenario import make_scenario
from headend.foundation import open_base
from headend.house import procedures_of
from headend.programs import waves
from headend.programs.proposal import propose
from headend.store import approvals, campaign_meters, campaigns
from headend.store.approvals import ApprovalState
from schemas.campaign import CampaignState, Plan
from schemas.config import load_settings
from schemas.job import Retry, Selection
from schemas.people import Permission, Principal
from schemas.programs.parameters import ParametersProgram

from .conftest import MASTER_KEY, Processes
from .test_workers_killed import Night, import_field

pytestmark = pytest.mark.timeout(240)

METERS = 6
RESET = ParametersProgram.model_validate({"items": [{"do": "run", "script": 1}]})
#: Meters at which the effect was begun, and nobody knows whether it took place.
MIDWAY = (
    """SELECT meter_id FROM campaign_meters WHERE ended_at IS NULL AND steps @? '$.* ? (@ == "intended")'"""
)


async def test_killed_between_intended_and_done_nothing_is_done_twice(
    processes: Processes, embedded_database: Any
) -> None:
    dsn = embedded_database.dsn
    scenario = make_scenario({"base_port": 0, "meters": METERS, "security": "hls5", "delay_ms": 300})
    async with Field(scenario) as field:
        await import_field(dsn, field, METERS)
        night = Night(processes, dsn, field)
        settings = load_settings(database_url=dsn, master_key=MASTER_KEY)
        async with open_base(settings) as base:
            async with base.pool.connection() as connection:
                made = await propose(
                    connection, RESET,
                    Plan(selection=Selection(), retry=Retry(attempts=20, first_s=0.1, longest_s=0.1)),
                    name="reset", title="reset", procedures=procedures_of(base), actor="test",
                    correlation_id="c", now=datetime.now(UTC),
                )  # fmt: skip
                number = made.campaign_id
                await approvals.add(
                    connection, subject=f"campaign:{number}", needs=Permission.APPROVE, digest=made.digest,
                    shown={}, principal=Principal("test", frozenset()), expires_at=datetime.now(UTC),
                    state=ApprovalState.APPROVED, decided_by="somebody else",
                )  # fmt: skip
                await campaigns.move(
                    connection, number, CampaignState.APPROVED, before=[CampaignState.PROPOSED]
                )
                await waves.advance(connection, number, datetime.now(UTC))
            worker = await night.hire()
            await night.until(MIDWAY)
            night.workers[worker].send(signal.SIGKILL)
            night.workers[worker].end()
            assert night.rows(MIDWAY)  # or nothing was cut off
            await night.hire()
            await night.until("SELECT WHERE NOT EXISTS (SELECT FROM campaign_meters WHERE ended_at IS NULL)")
            async with base.pool.connection() as connection:
                await waves.advance(connection, number, datetime.now(UTC))
                assert (await campaigns.find(connection, number)).state is CampaignState.DONE
                found = await campaign_meters.page(connection, number, limit=METERS)
        await asyncio.to_thread(processes.end)
    done = [(one.state, one.reason) for one in found]
    assert [len(item.meter.part(Parameters).resets) for item in field.meters] == [1] * METERS, done
    assert {one.state.value for one in found} == {"done"}, done  # the billing profile told each time
    intended = night.rows("SELECT meter_id, count(*) FROM campaign_steps WHERE phase = 'intended' GROUP BY 1")
    assert len(intended) == METERS
