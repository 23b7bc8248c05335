"""Campaigns go their way: canaries, waves, so many of a station at once; people and failures halt them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from headend.drivers.contract import Conversation, Target
from headend.jobs.janitor import tidy
from headend.programs import control, waves
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task
from headend.programs.proposal import OutsideArea, PlanError, propose
from headend.store import groups
from headend.store.errors import ConflictError
from protocols.errors import LinkClosed
from schemas.campaign import CampaignState, MeterProgress, Plan, Window
from schemas.job import Retry, Selection
from schemas.program import ProgramKind
from schemas.programs.clock import ClockProgram
from tests.integration.programs.field import RETRY, Works, works

PROGRAM = ClockProgram()
S = CampaignState
M = MeterProgress


@dataclass
class Scripted:
    """Does at each visit of a meter what the test says; counts visits and who is in one at once."""

    script: Callable[[int, Task, Journal], Awaitable[Outcome]]
    kind: ProgramKind = ProgramKind.CLOCK
    visits: dict[int, int] = field(default_factory=dict)

    def unfit(self, program: Any, target: Target) -> str | None:
        return None

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        visit = self.visits[task.meter_id] = self.visits.get(task.meter_id, 0) + 1
        return await self.script(visit, task, journal)


async def fine(visit: int, task: Task, journal: Journal) -> Outcome:
    await journal.intend("set")
    await journal.done("set")
    return Finished({"set": True})


def plan(**changes: Any) -> Plan:
    return Plan(**({"selection": Selection(), "retry": RETRY} | changes))


class Run:
    """A campaign in a field, taken on by hand."""

    def __init__(self, here: Works, number: int) -> None:
        self.here, self.number = here, number

    async def until(self, state: CampaignState) -> str | None:
        async with asyncio.timeout(30):
            while (found := await self.here.advance(self.number)).state is not state:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found.reason

    async def states(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in await self.here.standing(self.number):
            found[one.state.value] = found.get(one.state.value, 0) + 1
        return found

    async def do(self, what: Any, reason: str = "because") -> None:
        async with self.here.house.base.pool.connection() as connection:
            await what(connection, self.number, actor="somebody", reason=reason)

    async def reached(self, happens: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not happens():  # noqa: ASYNC110 - whoever works tells nobody
                await asyncio.sleep(0.02)


def change(here: Works, query: str) -> None:
    with psycopg.connect(here.dsn) as connection:
        connection.execute(query.encode())


async def begun(here: Works, of: Plan) -> Run:
    campaign = await here.propose(PROGRAM, of)
    await here.approve(campaign.campaign_id)
    return Run(here, campaign.campaign_id)


@pytest.fixture
def field_of(embedded_database: Any) -> Any:
    return lambda script, **scenario: works(
        embedded_database.dsn, procedures=[Scripted(script) if callable(script) else script], **scenario
    )


async def test_canaries_go_first_and_then_wave_by_wave(field_of: Any) -> None:
    order: list[int] = []

    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        order.append(task.meter_id)
        return Finished({})

    async with field_of(script, meters=11) as here:
        run = await begun(here, plan(canaries=2, waves=(30, 70)))
        await run.until(S.DONE)
        waves = {one.meter_id: one.wave for one in await here.standing(run.number)}
        assert sorted(waves.values()) == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2]
        assert [waves[one] for one in order] == sorted(waves.values())


async def test_canaries_that_fail_stop_it_before_the_first_wave(field_of: Any) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        await journal.intend("brick")
        await journal.done("brick")
        return Failed("it does not answer any more")

    async with field_of(procedure := Scripted(script), meters=8) as here:
        run = await begun(here, plan(canaries=2, stop_percent=50))
        reason = await run.until(S.STOPPED)
        assert reason is not None
        assert "canaries failed or are unsure, which is more than 50 %" in reason
        states = await run.states()
        assert states["waiting"] == 6
        assert len(procedure.visits) == states.get("failed", 0) <= 2
        audited = here.rows("SELECT actor FROM audit_log WHERE action = 'campaign.stopped'")
        assert audited == [("headend",)]
        # a person looks, and has it go on all the same: what failed so far counts no more
        procedure.script = fine
        await run.do(control.resume)
        await run.until(S.DONE)
        assert (await run.states())["done"] >= 6


async def test_failures_in_a_wave_count_from_a_number_on_and_as_a_share(field_of: Any) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        return Failed("no") if sum(procedure.visits.values()) in (2, 3) else Finished({})

    async with field_of(procedure := Scripted(script), meters=8) as here:
        run = await begun(here, plan(stop_percent=20, stop_from=8))
        await run.until(S.DONE)  # 25 % of all, and nothing is left to be kept from it
        procedure.visits.clear()
        run = await begun(here, plan(stop_percent=20, stop_from=8, waves=(50, 50)))
        reason = await run.until(S.STOPPED)
        assert reason is not None
        assert reason.startswith("2 of 4 meters of wave 1 failed")


async def test_so_many_of_a_station_are_open_at_once(field_of: Any) -> None:
    gate = asyncio.Event()

    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        await gate.wait()
        return Finished({})

    async with field_of(script, meters=11) as here:
        run = await begun(here, plan(per_station=2))
        one, *_ = here.meters.values()  # answers directly
        change(here, f"UPDATE campaign_meters SET station = meter_id % 2 WHERE meter_id <> {one}")
        await here.advance(run.number)
        of_station = """SELECT station, count(*) FROM campaign_meters
                         WHERE state = 'open' AND station IS NOT NULL GROUP BY 1"""
        assert [number for _, number in here.rows(of_station)] == [2, 2]
        gate.set()
        most = 0
        async with asyncio.timeout(30):
            while (await here.advance(run.number)).state is not S.DONE:
                most = max([most, *(number for _, number in here.rows(of_station))])
                await asyncio.sleep(0.02)
        assert most == 2
        assert await run.states() == {"done": 11}


async def test_a_paused_campaign_sends_nothing_until_it_is_resumed(field_of: Any) -> None:
    async with field_of(procedure := Scripted(fine), meters=4) as here:
        run = await begun(here, plan(starts_at=datetime.now(UTC) + timedelta(days=1)))
        assert (await here.advance(run.number)).state is S.APPROVED
        await run.do(control.pause)
        await run.do(control.resume)
        assert (await here.advance(run.number)).state is S.APPROVED  # its time has not come for that
        await run.do(control.abort)
        run = await begun(here, plan())
        async with here.house.base.pool.connection() as connection:
            await waves.advance(connection, run.number, datetime.now(UTC))
            await control.pause(connection, run.number, actor="somebody", reason="a storm")
        await here.advance(run.number)
        assert here.rows("SELECT DISTINCT next_at = drop_dead FROM requests WHERE state = 'open'") == [
            (True,)
        ]
        assert procedure.visits == {}
        with pytest.raises(ConflictError, match="is paused"):
            await run.do(control.pause)
        await run.do(control.resume)
        await run.until(S.DONE)
        assert await run.states() == {"done": 4}
        audited = here.rows(
            f"SELECT action, actor, detail->>'reason' FROM audit_log WHERE object = 'campaign:{run.number}'"
            " AND actor = 'somebody' ORDER BY audit_id"
        )
        assert audited == [
            ("campaign.pause", "somebody", "a storm"),
            ("campaign.resume", "somebody", "because"),
        ]


async def test_what_is_in_the_middle_of_a_step_is_seen_to_its_end_when_it_is_aborted(field_of: Any) -> None:
    effects: list[str] = []

    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        if visit == 1:
            await journal.intend("switch")
            effects.append("switch")
            raise LinkClosed("the answer was lost")
        if journal.is_intended("switch"):
            assert journal.must_yield()
            await journal.done("switch")  # it was looked at
        await journal.intend("activate")
        effects.append("activate")
        return Finished({})

    retry = Retry(attempts=5, first_s=1000, longest_s=1000)
    async with field_of(procedure := Scripted(script), meters=3) as here:
        run = await begun(here, plan(retry=retry, waves=(70, 30)))
        await here.advance(run.number)
        await run.reached(lambda: len(here.rows("SELECT FROM requests WHERE attempts = 1")) == 2)
        await run.do(control.abort, "wrong meters")
        await run.until(S.ABORTED)
        await run.reached(lambda: not here.rows("SELECT FROM campaign_meters WHERE ended_at IS NULL"))
        found = await here.standing(run.number)
        assert await run.states() == {"cancelled": 3}
        assert {one.reason for one in found} == {"the campaign is aborted: wrong meters"}
        assert effects == ["switch", "switch"]
        assert sorted(procedure.visits.values()) == [2, 2]


async def test_an_emergency_stop_halts_every_campaign_of_the_kind(field_of: Any) -> None:
    async with field_of(fine, meters=2) as here:
        one, other = list(here.meters)
        runs = [
            await begun(here, plan(selection=Selection(meters=(name,)), starts_at=starts))
            for name, starts in ((one, None), (other, datetime.now(UTC) + timedelta(hours=1)))
        ]
        async with here.house.base.pool.connection() as connection:
            assert await control.halt_all(connection, [ProgramKind.SWITCH], actor="x", reason="no") == []
            halted = await control.halt_all(connection, [ProgramKind.CLOCK], actor="x", reason="wrong")
        assert halted == [run.number for run in runs]
        for run in runs:
            assert await run.until(S.STOPPED) == "emergency stop: wrong"
        assert await run.states() == {"waiting": 1}
        other_run = await begun(
            here, plan(selection=Selection(meters=(other,)))
        )  # stopped ones keep nobody out
        with pytest.raises(ConflictError, match=f"campaign {other_run.number} is at meters of it"):
            await run.do(control.resume)
        await other_run.until(S.DONE)
        await run.do(control.resume)


@pytest.mark.parametrize(("midway", "state"), [(False, M.FAILED), (True, M.UNSURE)])
async def test_the_last_attempt_ends_the_meter_with_stage_and_reason(
    field_of: Any, midway: bool, state: MeterProgress
) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        if midway and visit == 1:
            await journal.intend("switch")
        raise LinkClosed("it broke")

    async with field_of(procedure := Scripted(script), meters=1) as here:
        run = await begun(here, plan(retry=Retry(attempts=3, first_s=0.01, longest_s=0.01)))
        await run.until(S.DONE)
        (found,) = await here.standing(run.number)
        assert found.state is state
        assert found.stage is not None
        assert found.reason is not None
        assert found.reason.startswith("it broke")
        assert ("nobody knows whether switch took effect" in found.reason) is midway
        assert set(procedure.visits.values()) == {3}


async def test_coming_back_without_end_is_an_attempt_where_it_says_so(field_of: Any) -> None:
    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        return Later(task.now, "still busy", counts=True)

    async with field_of(procedure := Scripted(script), meters=1) as here:
        run = await begun(here, plan(retry=Retry(attempts=3, first_s=0.01, longest_s=0.01)))
        await run.until(S.DONE)
        (found,) = await here.standing(run.number)
        assert (found.state, found.reason) == (M.FAILED, "given up after the last attempt: still busy")
        assert set(procedure.visits.values()) == {3}


async def test_requests_that_are_lost_are_made_anew_and_those_that_ended_end_the_meter(field_of: Any) -> None:
    hold = asyncio.Event()

    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        if not hold.is_set():
            return Later(task.now + timedelta(hours=1), "not yet")
        return Finished({})

    async with field_of(procedure := Scripted(script), meters=3) as here:
        run = await begun(here, plan())
        await here.advance(run.number)
        await run.reached(lambda: len(procedure.visits) == 3)
        await run.reached(
            lambda: here.rows("SELECT count(*) FROM requests WHERE reason = 'not yet'") == [(3,)]
        )
        first, second, third = sorted(here.meters.values())
        hold.set()
        change(here, f"DELETE FROM requests WHERE meter_id = {first}")
        change(here, f"UPDATE requests SET state = 'cancelled', reason = NULL WHERE meter_id = {second}")
        change(here, f"UPDATE requests SET state = 'expired', ended_at = now() WHERE meter_id = {third}")
        midway = """UPDATE campaign_meters SET steps = '{"switch": "intended"}' WHERE meter_id ="""
        change(here, f"{midway} {third}")
        await here.advance(run.number)
        found = {one.meter_id: one for one in await here.standing(run.number)}
        assert (found[second].state, found[second].reason) == (M.CANCELLED, "its request was cancelled")
        assert found[third].state is M.OPEN  # whoever may be at it is given some time
        change(here, "UPDATE requests SET ended_at = now() - interval '3 minutes' WHERE state = 'expired'")
        await run.until(S.DONE)
        found = {one.meter_id: one for one in await here.standing(run.number)}
        assert found[first].state is M.DONE
        assert found[third].state is M.UNSURE
        assert found[third].reason == "not yet; nobody knows whether its last step took effect"


async def test_outside_of_its_window_no_visit_begins(field_of: Any) -> None:
    now = datetime.now(UTC)
    shut = Window(
        opens=(now + timedelta(hours=3)).time().replace(second=0, microsecond=0),
        closes=(now + timedelta(hours=4)).time().replace(second=0, microsecond=0),
        zone="UTC",
    )
    async with field_of(procedure := Scripted(fine), meters=2) as here:
        run = await begun(here, plan(window=shut))
        assert (await here.advance(run.number)).state is S.APPROVED
        await run.do(control.abort)
        # one that is under way when it closes: visits are put off to its next opening
        run = await begun(here, plan())
        async with here.house.base.pool.connection() as connection:
            await waves.advance(connection, run.number, now)
            await connection.execute(
                "UPDATE campaigns SET plan = jsonb_set(plan, '{window}', %s::jsonb) WHERE campaign_id = %s",
                (shut.model_dump_json(), run.number),
            )
        await here.advance(run.number)
        ((at,),) = here.rows("SELECT DISTINCT next_at FROM requests WHERE state = 'open'")
        assert at.time() == shut.opens
        # whatever wakes a request: no conversation is begun for it
        change(here, "UPDATE requests SET next_at = now()")
        await tidy(here.house.base.pool.connection)
        await run.reached(
            lambda: here.rows("SELECT count(*) FROM requests WHERE reason LIKE 'its window opens%'") == [(2,)]
        )
        assert procedure.visits == {}
        assert here.rows("SELECT count(*) FROM attempts") == [(0,)]


async def test_a_proposal_that_cannot_be_is_refused_with_its_place(field_of: Any) -> None:
    now = datetime.now(UTC)

    async def refused(**changes: Any) -> list[str]:
        with pytest.raises(PlanError) as caught:
            await here.propose(PROGRAM, plan(**changes))
        return [one.pointer for one in caught.value.wrong]

    async with field_of(fine, meters=3) as here:
        one, two, _ = list(here.meters)
        assert await refused(starts_at=now - timedelta(seconds=1)) == ["/starts_at"]
        assert await refused(selection=Selection(meters=(one, "nobody"), groups=("none",))) == [
            "/selection/groups/0",
            "/selection/meters/1",
        ]
        assert await refused(canary_meters=(one, "nobody")) == ["/canary_meters/1"]
        later = (now + timedelta(hours=5)).time()
        shut = Window(opens=later, closes=(now + timedelta(hours=6)).time(), zone="UTC")
        assert await refused(window=shut, expires_s=3600) == ["/window"]
        await here.propose(PROGRAM, plan(canary_meters=(two,)))
        run = await begun(here, plan(selection=Selection(meters=(one,)), starts_at=now + timedelta(hours=1)))
        with pytest.raises(ConflictError, match=rf"{one} have a part in .*\({run.number}\)"):
            await here.propose(PROGRAM)


async def test_whoever_is_limited_to_areas_proposes_for_these_alone(field_of: Any) -> None:
    async with field_of(fine, meters=2) as here:
        direct, _ = here.meters

        async def ask(areas: frozenset[str], *names: str) -> Any:
            async with here.house.base.pool.connection() as connection:
                return await propose(
                    connection, PROGRAM, plan(selection=Selection(meters=names)),
                    name="n", title="t", procedures=here.house.procedures, actor="a", correlation_id="c",
                    now=datetime.now(UTC), areas=areas,
                )  # fmt: skip

        async with here.house.base.pool.connection() as connection:
            await groups.add(connection, "ours", meters=[direct], actor="test")
        assert await ask(frozenset({"ours"}), direct)
        with pytest.raises(OutsideArea, match="outside of ours"):
            await ask(frozenset({"ours"}))
        with pytest.raises(OutsideArea, match="outside of any area"):
            await ask(frozenset(), direct)


async def test_two_campaigns_of_a_kind_are_never_at_one_meter_at_once(field_of: Any) -> None:
    gate = asyncio.Event()

    async def script(visit: int, task: Task, journal: Journal) -> Outcome:
        await gate.wait()
        return Finished({})

    async with field_of(script, meters=1) as here:
        both = [await here.propose(PROGRAM), await here.propose(PROGRAM)]  # nobody has approved either
        for one in both:
            await here.approve(one.campaign_id)
            await here.advance(one.campaign_id)
        first, second = (Run(here, one.campaign_id) for one in both)
        assert (await first.states(), await second.states()) == ({"open": 1}, {"waiting": 1})
        gate.set()
        await first.until(S.DONE)
        await second.until(S.DONE)
