"""A program goes its way from proposal to proof, with a procedure that is made for the test."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from headend.drivers.contract import Conversation, Target
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task, Unsure
from headend.programs.proposal import EmptySelection
from headend.store import campaigns
from headend.store.errors import ConflictError
from protocols.errors import LinkClosed
from schemas.campaign import CampaignState, MeterProgress, Plan
from schemas.job import Selection
from schemas.program import ProgramKind
from schemas.programs.clock import ClockProgram
from tests.integration.programs.field import EVERYBODY, works

PROGRAM = ClockProgram()


@dataclass
class Scripted:
    """Does at each visit of a meter what the test says next."""

    script: Callable[[int, Task, Journal], Any]
    kind: ProgramKind = ProgramKind.CLOCK
    visits: dict[int, int] = field(default_factory=dict)
    misfits: frozenset[str] = frozenset()

    def unfit(self, program: Any, target: Target) -> str | None:
        return "too old" if target.meter.asset_id in self.misfits else None

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        visit = self.visits[task.meter_id] = self.visits.get(task.meter_id, 0) + 1
        await conversation.read_registers(["1-0:1.8.0*255"])
        outcome: Outcome = await self.script(visit, task, journal)
        return outcome


async def test_a_program_is_gone_on_with_until_it_is_proven(embedded_database: Any) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        if visit == 1:
            await journal.intend("half", half=1)
            await journal.done("half")
            return Later(task.now, "the other half")
        if visit == 2:
            raise LinkClosed("it broke")
        assert journal.is_done("half")
        assert journal.facts == {"half": 1}
        return Finished({"both": True})

    procedure = Scripted(script)
    async with works(embedded_database.dsn, procedures=[procedure], meters=3) as here:
        found = await here.apply(PROGRAM)
        assert [(one.state, one.proof) for one in found] == [(MeterProgress.DONE, {"both": True})] * 3
        assert set(procedure.visits.values()) == {3}
        steps = await here.steps(found[0].campaign_id, found[0].meter_id)
        assert [(one.step, one.phase) for one in steps] == [("half", "intended"), ("half", "done")]
        async with asyncio.timeout(20):  # the request is settled behind the meter's part
            while here.rows("SELECT DISTINCT state FROM requests") != [("done",)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_only_attempts_in_a_row_that_got_nowhere_are_counted(embedded_database: Any) -> None:
    """A link that breaks every other time is no reason to give up a program that gets on in between."""
    allowed = EVERYBODY.retry.attempts

    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        if visit <= 2 * allowed:
            if visit % 2:
                raise LinkClosed("it broke")
            return Later(task.now, "some more of it")
        raise LinkClosed("it broke for good")

    procedure = Scripted(script)
    async with works(embedded_database.dsn, procedures=[procedure], meters=1) as here:
        (found,) = await here.apply(PROGRAM)
        assert (found.state, found.reason) == (MeterProgress.FAILED, "it broke for good")
        assert set(procedure.visits.values()) == {3 * allowed}


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Failed("no"), MeterProgress.FAILED),
        (Unsure("who knows"), MeterProgress.UNSURE),
        (Finished({}, changed=False), MeterProgress.UNCHANGED),
    ],
)
async def test_every_outcome_is_told(embedded_database: Any, outcome: Outcome, state: MeterProgress) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        return outcome

    async with works(embedded_database.dsn, procedures=[Scripted(script)], meters=1) as here:
        (found,) = await here.apply(PROGRAM)
        assert (found.state, found.reason) == (state, getattr(outcome, "reason", None))


async def test_nothing_is_begun_at_a_meter_once_the_campaign_is_aborted(embedded_database: Any) -> None:
    effects: list[int] = []

    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        async with here.house.base.pool.connection() as connection:
            await campaigns.move(
                connection, task.campaign_id, CampaignState.ABORTED, before=[CampaignState.RUNNING]
            )
        await journal.intend("switch")
        effects.append(task.meter_id)
        return Finished({})

    async with works(embedded_database.dsn, procedures=[Scripted(script)], meters=1) as here:
        campaign = await here.propose(PROGRAM)
        await here.approve(campaign.campaign_id)
        await here.advance(campaign.campaign_id)
        while (await here.standing(campaign.campaign_id))[0].state is MeterProgress.OPEN:
            await here.advance(campaign.campaign_id)
        (found,) = await here.standing(campaign.campaign_id)
        assert (found.state, found.reason) == (MeterProgress.CANCELLED, "the campaign is aborted")
        assert effects == []


async def test_what_is_not_fit_is_told_at_once(embedded_database: Any) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        return Finished({})

    procedure = Scripted(script)
    async with works(embedded_database.dsn, procedures=[procedure], meters=2) as here:
        procedure.misfits = frozenset(list(here.meters)[:1])
        found = await here.apply(PROGRAM)
        assert sorted(one.state for one in found) == [MeterProgress.DONE, MeterProgress.INCOMPATIBLE]
        procedure.misfits = frozenset(here.meters)
        with pytest.raises(ConflictError, match="too old"):
            await here.propose(PROGRAM)
        with pytest.raises(EmptySelection, match="no commissioned meter"):
            await here.propose(PROGRAM, EVERYBODY.model_copy(update={"selection": Selection(query="X*")}))


async def test_the_digest_is_of_program_plan_and_meters(embedded_database: Any) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        return Finished({})

    async with works(embedded_database.dsn, procedures=[Scripted(script)], meters=2) as here:
        first, again = await here.propose(PROGRAM), await here.propose(PROGRAM)
        assert first.digest == again.digest
        assert first.program_id == again.program_id
        others = [
            await here.propose(ClockProgram(leave_s=6)),
            await here.propose(PROGRAM, Plan(selection=Selection(), retry=EVERYBODY.retry, soak_s=1)),
            await here.propose(PROGRAM, Plan(selection=Selection(meters=tuple(here.meters)[:1]))),
        ]
        assert len({first.digest, *(one.digest for one in others)}) == 4
