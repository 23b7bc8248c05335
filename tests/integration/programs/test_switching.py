"""Customers are switched off and on, over real sockets: each once, with proof, and never past a rule."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from concentrator_sim.breaker import Breaker
from concentrator_sim.limiter import Limiter
from headend.approvals.four_eyes import NotYours, decide
from headend.approvals.policy import Policy
from headend.approvals.proposing import put_forward
from headend.programs import control
from headend.session.client import MeterSession
from headend.store import switching
from headend.store.errors import ConflictError
from headend.switching import stopping
from protocols.dlms.cosem.disconnect_control import ControlState
from protocols.errors import LinkClosed
from schemas.campaign import MeterProgress
from schemas.people import Permission, Principal
from schemas.programs.switch import LimitProgram, SwitchAction, SwitchProgram, SwitchReason
from tests.integration.programs.field import EVERYBODY, Works, works

_ARREARS = SwitchReason.ARREARS
OFF = SwitchProgram(action=SwitchAction.DISCONNECT, reason=_ARREARS)
ON = SwitchProgram(action=SwitchAction.RECONNECT, reason=_ARREARS)
ARM = SwitchProgram(action=SwitchAction.ARM, reason=_ARREARS)


def _breaker(here: Works, n: int = 0) -> Breaker:
    return here.simulated(n).part(Breaker)


async def test_off_and_on_again_with_proof(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=2) as here:
        found = await here.apply(OFF)
        assert [one.state for one in found] == [MeterProgress.DONE] * 2
        assert found[0].proof == {
            "before": {"output": True, "control": "connected", "mode": 2},
            "after": {"output": False, "control": "disconnected", "mode": 2},
            "sent": "disconnect",
        }
        again = await here.apply(OFF)
        assert [one.state for one in again] == [MeterProgress.UNCHANGED] * 2
        assert [(_breaker(here, n).output, _breaker(here, n).moves) for n in (0, 1)] == [(False, 1)] * 2
        assert [one.state for one in await here.apply(ON)] == [MeterProgress.DONE] * 2
        assert _breaker(here).output is True
        rows = here.rows("SELECT action, reason, actor FROM switchings ORDER BY switching_id")
        assert rows == [("disconnect", "arrears", "test")] * 2 + [("reconnect", "arrears", "test")] * 2
        assert here.rows("SELECT DISTINCT output, control FROM switch_states") == [(True, "connected")]
        assert here.rows("SELECT count(*) FROM audit_log WHERE action = 'switch.disconnect'") == [(2,)]


async def test_a_mode_without_remote_reconnection_leaves_it_to_the_customer(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        breaker = _breaker(here)
        breaker.mode = 4  # at once, and no button
        await here.apply(OFF)
        (found,) = await here.apply(ARM)
        assert found.state is MeterProgress.FAILED
        assert "set another control mode" in (found.reason or "")
        breaker.mode = 3
        (found,) = await here.apply(ON)
        assert found.state is MeterProgress.DONE
        assert found.proof["waits_for"] == "ready for reconnection, waits for the customer's button"
        assert (breaker.state, breaker.output) == (ControlState.READY, False)
        assert breaker.push_button(here.field.now())
        assert breaker.output
        breaker.mode = 0
        (found,) = await here.apply(OFF)
        assert found.state is MeterProgress.FAILED
        assert "control mode 0" in (found.reason or "")
        assert breaker.output


async def test_a_stuck_breaker_is_told(embedded_database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headend.switching.procedure.SETTLES", timedelta(0))
    async with works(embedded_database.dsn, meters=1, faults=[{"kind": "breaker"}]) as here:
        (found,) = await here.apply(OFF)
        assert found.state is MeterProgress.FAILED
        assert "stuck" in (found.reason or "")
        assert "still connected" in (found.reason or "")
        assert found.proof["after"] == {"output": True, "control": "disconnected", "mode": 2}
        assert _breaker(here).moves == 1
        (again,) = await here.apply(OFF)
        assert "stuck" in (again.reason or "")


@pytest.mark.parametrize("happened", [True, False])
async def test_an_answer_that_was_lost_costs_a_look(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    """Between intended and done: the state tells whether it took effect, and it is sent once more or not."""
    honest = MeterSession.action
    lost: list[int] = []

    async def action(self: MeterSession, *args: Any, **kwargs: Any) -> Any:
        if lost:
            return await honest(self, *args, **kwargs)
        lost.append(1)
        if happened:
            await honest(self, *args, **kwargs)
        raise LinkClosed("cut off")

    monkeypatch.setattr(MeterSession, "action", action)
    async with works(embedded_database.dsn, meters=1) as here:
        (found,) = await here.apply(OFF)
        assert found.state is MeterProgress.DONE
        assert (_breaker(here).output, _breaker(here).moves) == (False, 1)
        phases = [(one.step, one.phase) for one in await here.steps(found.campaign_id, found.meter_id)]
        sent = [("switch", "intended")] * (1 if happened else 2)
        assert phases == [*sent, ("switch", "done")]


async def test_a_critical_customer_is_refused_at_proposal_and_before_the_sending(
    embedded_database: Any,
) -> None:
    async with works(embedded_database.dsn, meters=2) as here:
        numbers = sorted(here.meters.values())
        pool = here.house.base.pool
        campaign = await here.propose(OFF)  # both are free then
        async with pool.connection() as connection:
            for number, until in ((numbers[0], None), (numbers[1], datetime(2020, 1, 1, tzinfo=UTC))):
                await switching.add_critical(
                    connection, meter_id=number, point_id=None, why="dialysis", until=until, actor="test"
                )
        await here.approve(campaign.campaign_id)
        found = {one.meter_id: one for one in await here.ended(campaign.campaign_id)}
        assert found[numbers[0]].state is MeterProgress.INCOMPATIBLE
        assert "dialysis" in (found[numbers[0]].reason or "")
        assert found[numbers[1]].state is MeterProgress.DONE  # its flag had run out
        refused = "SELECT detail ->> 'why' LIKE '%dialysis%' FROM audit_log WHERE action = 'switch.refused'"
        assert here.rows(refused) == [(True,)]
        async with pool.connection() as connection:
            await switching.add_critical(
                connection, meter_id=numbers[1], point_id=None, why="hospital", until=None, actor="test"
            )
        for program in (OFF, LimitProgram(reason=_ARREARS, watts=100)):
            with pytest.raises(ConflictError, match="critical customer"):
                await here.propose(program)
        assert {one.state for one in await here.apply(ON)} == {MeterProgress.DONE, MeterProgress.UNCHANGED}


async def test_an_hour_has_so_many_disconnections_over_all_campaigns(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=5, settings={"disconnections_per_hour": 3}) as here:
        campaign = await here.propose(OFF)
        await here.approve(campaign.campaign_id)
        async with asyncio.timeout(30):
            while len([one for one in await here.standing(campaign.campaign_id) if one.ended_at]) < 3:
                await here.advance(campaign.campaign_id)
                await asyncio.sleep(0.05)
            waiting = "SELECT count(*) FROM requests WHERE state = 'open' AND reason IS NOT NULL"
            while here.rows(waiting) != [(2,)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert sum(not _breaker(here, n).output for n in range(5)) == 3
        (reason, later) = here.rows(
            "SELECT reason, next_at > now() + interval '50 minutes' FROM requests WHERE state = 'open'"
        )[0]
        assert "3 customers were disconnected within the hour" in reason
        assert later
        async with here.house.base.pool.connection() as connection:
            await control.abort(connection, campaign.campaign_id, actor="test", reason="enough")
        await here.apply(ON)  # nobody is kept from being reconnected
        assert all(_breaker(here, n).output for n in range(5))


async def test_an_emergency_stop_holds_all_until_it_is_allowed_again(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        pool = here.house.base.pool
        campaign = await here.propose(OFF)
        await here.approve(campaign.campaign_id)
        async with pool.connection() as connection, connection.transaction():
            await switching.turn(connection)
            assert await switching.stop(connection, reason="wrong list", actor="anna", account=1)
        with pytest.raises(ConflictError, match="stopped by anna"):
            await here.propose(ON)
        async with asyncio.timeout(30):
            while here.rows("SELECT reason FROM requests WHERE state = 'open'") in ([], [(None,)]):
                await here.advance(campaign.campaign_id)
                await asyncio.sleep(0.05)
        assert "wrong list" in here.rows("SELECT reason FROM requests")[0][0]
        assert _breaker(here).moves == 0


async def test_limits_are_set_and_read_back(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        limiter = here.simulated().part(Limiter)
        for_two_hours = LimitProgram(reason=_ARREARS, watts=2000, for_s=7200, over_s=30)
        (found,) = await here.apply(for_two_hours)
        assert found.state is MeterProgress.DONE, found.reason
        assert (limiter.emergency, limiter.normal, limiter.over_s) == (2000, 10_000, 30)
        assert found.proof["after"]["active_w"] == "2000"
        assert limiter.active(here.field._clock() + 7201, -60) == 10_000
        always = LimitProgram(reason=_ARREARS, watts=5000)
        assert [one.state for one in await here.apply(always)] == [MeterProgress.DONE]
        assert limiter.normal == 5000
        assert [one.state for one in await here.apply(always)] == [MeterProgress.UNCHANGED]
        limiter.groups = ()
        (found,) = await here.apply(for_two_hours)
        assert found.state is MeterProgress.FAILED
        assert "group" in (found.reason or "")


_ANNA = Principal("account:1 anna", frozenset(Permission), account=1)
_BERT = Principal("account:2 bert", frozenset(Permission), account=2)


async def _put_forward(here: Works, program: SwitchProgram) -> int:
    async with here.house.base.pool.connection() as connection, connection.transaction():
        made = await put_forward(
            connection, program, EVERYBODY, name="t", title="t", procedures=here.house.procedures,
            principal=_ANNA, policy=Policy.of(here.house.base.settings), correlation_id="c",
            now=datetime.now(UTC),
        )  # fmt: skip
    return made.campaign.campaign_id


async def test_mass_disconnection_has_an_approval_of_its_own(embedded_database: Any) -> None:
    settings = {"disconnections_per_hour": 1, "four_eyes": []}
    async with works(embedded_database.dsn, meters=3, settings=settings) as here:
        connect = here.house.base.pool.connection
        number = await _put_forward(here, OFF)
        waiting = "SELECT count(*) FROM requests WHERE state = 'open' AND reason LIKE '%mass-disc%'"
        async with asyncio.timeout(30):
            while here.rows(waiting) != [(2,)]:
                await here.advance(number)
                await asyncio.sleep(0.05)
        ((approval, subject, digest),) = here.rows(
            "SELECT approval_id, subject, digest FROM approvals WHERE state = 'waiting'"
        )
        assert subject == f"mass-disconnection:{number}"
        decision = {"approve": True, "seen": bytes(digest), "reason": None, "now": datetime.now(UTC)}
        with pytest.raises(NotYours):
            await decide(connect, approval, _ANNA, **decision)
        await decide(connect, approval, _BERT, **decision)
        assert {one.state for one in await here.ended(number)} == {MeterProgress.DONE}
        await here.apply(ON)
        few = await _put_forward(here, ON)  # reconnecting is no mass of anything
        assert here.rows(f"SELECT count(*) FROM approvals WHERE subject = 'mass-disconnection:{few}'") == [
            (0,)
        ]


async def test_stop_is_for_who_may_and_allow_for_another_person(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1, settings={"four_eyes": []}) as here:
        connect = here.house.base.pool.connection
        number = await _put_forward(here, OFF)
        nobody = Principal("token:1 clerk", frozenset({Permission.READ}))
        with pytest.raises(stopping.MayNot, match="emergency_stop"):
            await stopping.stop(connect, nobody, "why not")
        with pytest.raises(ConflictError, match="not stopped"):
            await stopping.allow(connect, _BERT, "nothing")
        assert await stopping.stop(connect, _ANNA, "wrong list") == [number]
        assert here.rows("SELECT state FROM campaigns") == [("stopped",)]
        for who in (_ANNA, Principal("cli", frozenset(Permission)), nobody):
            with pytest.raises(stopping.MayNot):
                await stopping.allow(connect, who, "go on")
        await stopping.allow(connect, _BERT, "the list is right now")
        actions = [action for (action,) in here.rows("SELECT action FROM audit_log ORDER BY audit_id")]
        told = [one for one in actions if one.startswith("switching.")]
        refused = ["switching.refused"] * 3
        assert told == ["switching.refused", "switching.stop", *refused, "switching.allow"]
        await here.propose(OFF)  # it may be asked for again
