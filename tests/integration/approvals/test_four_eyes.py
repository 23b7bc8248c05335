"""Nothing under four eyes begins but exactly what a second person saw and approved."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import pytest

from headend.approvals import four_eyes
from headend.approvals.four_eyes import Changed, NotYours
from headend.approvals.policy import Policy
from headend.approvals.proposing import Key, KeyReused, NotPermitted, Proposed, put_forward
from headend.drivers.contract import Target
from headend.programs import waves
from headend.programs.contract import Procedure
from headend.programs.proposal import PlanError
from headend.store import approvals, campaigns
from headend.store.approvals import ApprovalState
from headend.store.pool import Pool, open_pool
from schemas.campaign import CampaignState, Plan
from schemas.job import Selection
from schemas.people import Permission, Principal
from schemas.program import Program, ProgramKind
from schemas.programs.clock import ClockProgram
from schemas.programs.switch import SwitchAction, SwitchProgram, SwitchReason

P = Permission
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MAY = frozenset({P.READ, P.CLOCK, P.SWITCH, P.APPROVE})
ALICE, BOB = Principal("alice", MAY, account=1), Principal("bob", MAY, account=2)
DISCONNECT = SwitchProgram(action=SwitchAction.DISCONNECT, reason=SwitchReason.ARREARS)
PLAN = Plan(selection=Selection(meters=("M1", "M2", "M3")))
POLICY = Policy(frozenset({"switch"}))


class _Fits:
    """Every meter is fit but M3."""

    def __init__(self, kind: ProgramKind) -> None:
        self.kind = kind

    def unfit(self, program: Program, target: Target) -> str | None:
        return "it has no breaker" if target.meter.asset_id == "M3" else None


PROCEDURES = [cast("Procedure", _Fits(kind)) for kind in (ProgramKind.SWITCH, ProgramKind.CLOCK)]


@pytest.fixture
async def pool(embedded_database: Any) -> AsyncIterator[Pool]:
    with psycopg.connect(embedded_database.dsn) as connection:
        connection.execute(
            """WITH made AS (INSERT INTO meters (asset_id, model, address)
                             SELECT 'M' || n, 'headend-sim', 'tcp://127.0.0.1:4059'
                               FROM generate_series(1, 3) n
                             RETURNING meter_id)
               INSERT INTO meter_states SELECT meter_id, 'commissioned', '2026-01-01Z' FROM made"""
        )
    async with open_pool(embedded_database.dsn, max_size=2) as pool:
        yield pool


async def forward(
    pool: Pool, program: Program = DISCONNECT, *, by: Principal = ALICE, plan: Plan = PLAN, key: Key | None
    = None
) -> Proposed:  # fmt: skip
    async with pool.connection() as connection:
        return await put_forward(
            connection, program, plan, name="p", title="t", procedures=PROCEDURES, principal=by,
            policy=POLICY, correlation_id="c", now=NOW, key=key,
        )  # fmt: skip


async def decide(
    pool: Pool, made: Proposed, who: Principal, *, approve: bool = True, seen: bytes | None = None,
    now: datetime = NOW,
) -> approvals.Approval:  # fmt: skip
    digest = made.approval.digest if seen is None else seen
    return await four_eyes.decide(
        pool.connection, made.approval.approval_id, who, approve=approve, seen=digest, reason="so", now=now
    )


async def state(pool: Pool, made: Proposed) -> tuple[ApprovalState, CampaignState, bool]:
    async with pool.connection() as connection:
        found = await approvals.find(connection, made.approval.approval_id)
        campaign = await campaigns.find(connection, made.campaign.campaign_id)
        held = await approvals.holds(connection, found.subject, campaign.digest)
    return found.state, campaign.state, held


async def audited(pool: Pool) -> list[tuple[str, str, str]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            b"SELECT actor, action, coalesce(detail->>'why', '') FROM audit_log ORDER BY audit_id"
        )
        return [(actor, action, why) for actor, action, why in await cursor.fetchall()]


async def requests(pool: Pool) -> int:
    async with pool.connection() as connection:
        row = await (await connection.execute(b"SELECT count(*) FROM requests")).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_second_person_sees_what_will_be_sent_and_approves(pool: Pool) -> None:
    made = await forward(pool)
    assert await state(pool, made) == (ApprovalState.WAITING, CampaignState.PROPOSED, False)
    assert await requests(pool) == 0
    shown = made.approval.shown
    assert shown["program"]["action"] == "disconnect"
    assert shown["program"]["reason"] == "arrears"
    assert (shown["meters"], shown["unfit"], shown["models"]) == (2, 1, {"headend-sim": 2})
    assert (shown["first"], shown["last"]) == (["M1", "M2"], ["M1", "M2"])
    assert shown["plan"] == PLAN.model_dump(mode="json")
    await decide(pool, made, BOB)
    approval, campaign, held = await state(pool, made)
    assert (approval, held) == (ApprovalState.APPROVED, True)
    assert campaign in {CampaignState.APPROVED, CampaignState.RUNNING}
    assert [line[:2] for line in await audited(pool)][:3] == [
        ("alice", "campaign.propose"), ("alice", "approval.ask"), ("bob", "approval.approve"),
    ]  # fmt: skip


async def test_what_the_policy_does_not_name_needs_nobody(pool: Pool) -> None:
    made = await forward(pool, ClockProgram())
    approval, campaign, held = await state(pool, made)
    assert (approval, held) == (ApprovalState.APPROVED, True)
    assert campaign in {CampaignState.APPROVED, CampaignState.RUNNING}
    assert made.approval.decided_by == "policy"


NOBODY = [
    (ALICE, "who asked for it cannot approve it"),
    (Principal("token:9 of alice", MAY, account=1), "who asked for it cannot approve it"),
    (Principal("alice", MAY, account=7), "who asked for it cannot approve it"),
    (Principal("cli", frozenset(P)), "a person with an account"),
    (Principal("token:4 nightly", MAY), "a person with an account"),
    (Principal("carol", MAY - {P.APPROVE}, account=3), "needs the permissions approve and program.switch"),
    (Principal("dave", MAY - {P.SWITCH}, account=4), "needs the permissions approve and program.switch"),
]


async def test_nobody_else_decides(pool: Pool) -> None:
    made = await forward(pool)
    for who, why in NOBODY:
        for approve in (True, False):
            with pytest.raises(NotYours, match=why):
                await decide(pool, made, who, approve=approve)
            assert await state(pool, made) == (ApprovalState.WAITING, CampaignState.PROPOSED, False)
            actor, action, told = (await audited(pool))[-1]
            assert (actor, action) == (who.actor, "approval.refused")
            assert why in told
    assert await requests(pool) == 0


Change = Callable[[int], str]
CHANGES: dict[str, Change] = {
    "another action": lambda n: 'UPDATE programs SET content = content || \'{"action": "reconnect"}\'',
    "another reason": lambda n: 'UPDATE programs SET content = content || \'{"reason": "safety"}\'',
    "another program": lambda n: (
        "WITH p AS (INSERT INTO programs (kind, name, content, digest, actor) "
        "VALUES ('clock', 'x', '{\"kind\": \"clock\"}', 'x', 'x') RETURNING program_id) "
        f"UPDATE campaigns SET program_id = (SELECT program_id FROM p) WHERE campaign_id = {n}"
    ),
    "more at once": lambda n: "UPDATE campaigns SET plan = plan || '{\"stop_percent\": 100}'",
    "another window": lambda n: (
        "UPDATE campaigns SET plan = jsonb_set(plan, '{window}', "
        '\'{"opens": "22:00", "closes": "05:00", "zone": "Europe/Berlin"}\')'
    ),
    "another selection": lambda n: "UPDATE campaigns SET plan = jsonb_set(plan, '{selection,meters}', '[]')",
    "a meter less": lambda n: "DELETE FROM campaign_meters WHERE meter_id = 1",
    "a meter more": lambda n: (
        f"INSERT INTO campaign_meters (campaign_id, meter_id, wave) VALUES ({n}, 99, 1)"
    ),
    "another wave": lambda n: "UPDATE campaign_meters SET wave = 2 WHERE meter_id = 1",
    "an unfit one": lambda n: (
        "UPDATE campaign_meters SET state = 'waiting', reason = NULL WHERE state = 'incompatible'"
    ),
}


async def test_any_change_kills_it(pool: Pool) -> None:
    for change, statement in CHANGES.items():
        made = await forward(pool)
        async with pool.connection() as connection:
            await connection.execute(statement(made.campaign.campaign_id).encode())
        with pytest.raises(Changed, match="it was changed since"):
            await decide(pool, made, BOB)
        assert await state(pool, made) == (ApprovalState.VOID, CampaignState.REFUSED, False), change
        assert [line[:2] for line in await audited(pool)][-2:] == [
            ("policy", "approval.void"), ("bob", "approval.refused"),
        ]  # fmt: skip
        async with pool.connection() as connection:
            await connection.execute(b"DELETE FROM campaigns")
            await connection.execute(b"DELETE FROM programs")
    assert await requests(pool) == 0


async def test_nothing_begins_but_what_was_approved(pool: Pool) -> None:
    """Changed behind the approval and before the start, or the approval void: it does not begin."""
    later = PLAN.model_copy(update={"starts_at": datetime.now(UTC) + timedelta(hours=1)})
    for change in ("another reason", "another wave", "void"):
        made = await forward(pool, plan=later)
        await decide(pool, made, BOB)
        number = made.campaign.campaign_id
        assert (await state(pool, made))[1] is CampaignState.APPROVED
        async with pool.connection() as connection:
            if change == "void":
                await four_eyes.void(connection, made.approval.subject, reason="x", actor="x")
            else:
                await connection.execute(CHANGES[change](number).encode())
            await waves.advance(connection, number, datetime.now(UTC) + timedelta(hours=2))
            campaign = await campaigns.find(connection, number)
            assert campaign.state is CampaignState.ABORTED, change
            assert campaign.reason is not None
            assert "not what is there now" in campaign.reason
            await connection.execute(b"DELETE FROM campaigns")
            await connection.execute(b"DELETE FROM programs")
    assert await requests(pool) == 0


async def test_whoever_approves_names_what_he_saw(pool: Pool) -> None:
    made = await forward(pool)
    with pytest.raises(Changed, match="not the digest"):
        await decide(pool, made, BOB, seen=bytes(32))
    assert await state(pool, made) == (ApprovalState.WAITING, CampaignState.PROPOSED, False)
    await decide(pool, made, BOB)


async def test_it_is_decided_once_and_in_time(pool: Pool) -> None:
    refused, late, overdue = await forward(pool), await forward(pool), await forward(pool)
    await decide(pool, refused, BOB, approve=False)
    assert await state(pool, refused) == (ApprovalState.REFUSED, CampaignState.REFUSED, False)
    async with pool.connection() as connection:
        assert (await campaigns.find(connection, refused.campaign.campaign_id)).reason == "refused by bob: so"
    with pytest.raises(Changed, match="waits no longer: it is refused"):
        await decide(pool, refused, BOB)
    then = NOW + POLICY.waits
    with pytest.raises(Changed, match="nobody decided in time"):
        await decide(pool, late, BOB, now=then)
    assert await state(pool, late) == (ApprovalState.EXPIRED, CampaignState.REFUSED, False)
    async with pool.connection() as connection:
        assert await four_eyes.expire(connection, then - timedelta(microseconds=1)) == 0
        assert await four_eyes.expire(connection, then) == 1
    assert await state(pool, overdue) == (ApprovalState.EXPIRED, CampaignState.REFUSED, False)


async def test_what_is_void_holds_no_longer(pool: Pool) -> None:
    made = await forward(pool)
    await decide(pool, made, BOB)
    async with pool.connection() as connection:
        await four_eyes.void(connection, made.approval.subject, reason="the breaker was exchanged", actor="x")
    approval, _, held = await state(pool, made)
    assert (approval, held) == (ApprovalState.VOID, False)


async def test_a_proposal_repeated_with_its_key_is_one_campaign(pool: Pool) -> None:
    first, again = await forward(pool, key=Key("k", b"1" * 32)), await forward(pool, key=Key("k", b"1" * 32))
    assert (first.campaign.campaign_id, first.is_new) == (again.campaign.campaign_id, not again.is_new)
    other = await forward(pool, by=BOB, key=Key("k", b"1" * 32))
    assert other.campaign.campaign_id != first.campaign.campaign_id
    with pytest.raises(KeyReused, match=f"became campaign {first.campaign.campaign_id}"):
        await forward(pool, key=Key("k", b"2" * 32))


async def test_what_may_not_be_asked_for_is_not_there_after(pool: Pool) -> None:
    with pytest.raises(NotPermitted, match=r"program\.switch"):
        await forward(pool, by=Principal("erin", frozenset({P.READ, P.CLOCK}), account=5))
    with pytest.raises(PlanError, match="no meter 'M9'"):
        await forward(pool, plan=Plan(selection=Selection(meters=("M1", "M9"))))
    async with pool.connection() as connection:
        assert await campaigns.page(connection, limit=9) == []
