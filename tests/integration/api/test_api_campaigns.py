"""Programs, campaigns and approvals over HTTP: put forward, refused, approved, followed, steered,
reported."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest

from api.services import Services
from headend.approvals import four_eyes
from headend.approvals.policy import Policy
from headend.drivers.contract import Target
from headend.moment.campaign_feed import CampaignFeeds
from headend.programs.contract import Procedure
from headend.store import approvals, campaign_meters, campaigns
from headend.store.tokens import Scope
from schemas.campaign import CampaignState, MeterProgress
from schemas.failure import Stage
from schemas.people import Permission, Principal
from schemas.program import Program, ProgramKind
from tests.integration.api.conftest import NOW, House, app_over

SWITCH = {"kind": "switch", "action": "disconnect", "reason": "arrears"}
CLOCK = {"kind": "clock"}
BOB = Principal("bob", frozenset({Permission.APPROVE, Permission.SWITCH}), account=2)


class _Fits:
    def __init__(self, kind: ProgramKind) -> None:
        self.kind = kind

    def unfit(self, program: Program, target: Target) -> str | None:
        return "it has no breaker" if target.meter.asset_id == "M-9" else None


PROCEDURES = tuple(cast("Procedure", _Fits(kind)) for kind in ProgramKind)


@pytest.fixture
async def desk(house: House) -> House:
    """A house with three meters that applies every kind of program; nobody works at lanes."""
    house.lanes.answer = None
    moment = replace(house.moment, campaigns=CampaignFeeds(house.pool.connection, look_s=0.05))
    policy = Policy(frozenset({"switch"}))
    house.app = app_over(
        Services(house.pool, moment, clock=lambda: NOW, procedures=PROCEDURES, policy=policy)
    )
    house.moment = moment
    for asset_id in ("M-1", "M-2", "M-9"):
        await house.add_meter(asset_id, address="tcp://127.0.0.1:4059")
    async with house.pool.connection() as connection:
        await connection.execute(
            b"INSERT INTO meter_states (meter_id, state, since) "
            b"SELECT meter_id, 'commissioned', '2026-03-02Z' FROM meters"
        )
    return house


def body(program: Any = SWITCH, **plan: Any) -> dict[str, Any]:
    plan.setdefault("selection", {"meters": ["M-1", "M-2", "M-9"]})
    return {"title": "arrears", "program": program, "plan": plan}


async def made(client: httpx.AsyncClient, ask: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await client.post("/api/v1/campaigns", json=ask, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def end(house: House, number: int, asset_id: str, state: MeterProgress, **known: Any) -> None:
    async with house.pool.connection() as connection:
        assert await campaign_meters.end(connection, number, house.ids[asset_id], state, **known)


async def test_a_proposal_waits_for_a_second_person_and_says_for_whom(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        found = await made(client, body())
        assert (found["state"], found["approval"]["state"]) == ("proposed", "waiting")
        approval = found["approval"]
        assert approval["who_may"] == (
            "another person with the permissions approve and program.switch: operator"
        )
        shown = approval["shown"]
        assert shown["program"].items() >= SWITCH.items()
        assert (shown["meters"], shown["unfit"]) == (2, 1)
        assert (await client.get(f"/api/v1/approvals/{approval['id']}")).json() == approval
        waiting = await client.get("/api/v1/approvals", params={"state": "waiting"})
        assert [one["id"] for one in waiting.json()["approvals"]] == [approval["id"]]

        for verb in ("approve", "refuse"):
            answer = await client.post(
                f"/api/v1/approvals/{approval['id']}/{verb}",
                json={"digest": approval["digest"], "reason": "it is me"},
            )
            assert answer.status_code == 403, answer.text
        assert (await client.get(f"/api/v1/campaigns/{found['id']}")).json() == found
        assert desk.audit()[-1][1].endswith("refused")

        await four_eyes.decide(
            desk.pool.connection, approval["id"], BOB, approve=True,
            seen=bytes.fromhex(approval["digest"]), reason=None, now=NOW,
        )  # fmt: skip
        after = (await client.get(f"/api/v1/campaigns/{found['id']}")).json()
        assert after["approval"]["decided_by"] == "bob"
        assert after["state"] in {"approved", "running"}


async def test_what_the_policy_leaves_alone_begins_at_once(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        found = await made(client, body(CLOCK))
        assert found["state"] == "running"
        assert (found["approval"]["state"], found["approval"]["decided_by"]) == ("approved", "policy")
        (wave,) = found["waves"]
        assert wave["states"] == {"open": 2, "incompatible": 1}


Change = Callable[[dict[str, Any]], Any]
BAD: list[tuple[str, Change, int, str]] = [
    ("nobody", lambda b: b["plan"].update(selection={"query": "X*"}), 422, "/plan/selection"),
    ("unknown", lambda b: b["plan"]["selection"]["meters"].append("M-7"), 422, "/plan/selection/meters/3"),
    ("no program", lambda b: b.pop("program"), 422, "program_id"),
    ("both programs", lambda b: b.update(program_id=1), 422, "one of the two"),
    ("no such program", lambda b: (b.pop("program"), b.update(program_id=77)), 404, "number 77"),
    ("none fit", lambda b: b["plan"].update(selection={"meters": ["M-9"]}), 409, "no breaker"),
    ("waves", lambda b: b["plan"].update(waves=[10, 20]), 422, "add up to 100"),
    ("past", lambda b: b["plan"].update(starts_at="2026-03-01T00:00:00Z"), 422, "/plan/starts_at"),
    ("reason", lambda b: b["program"].update(reason="because"), 422, "/program/reason"),
]


async def test_what_cannot_be_is_refused_with_what_to_do(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        for name, change, status, told in BAD:
            ask = body(dict(SWITCH))
            ask["plan"]["selection"] = {"meters": ["M-1", "M-2", "M-9"]}
            change(ask)
            answer = await client.post("/api/v1/campaigns", json=ask)
            assert answer.status_code == status, (name, answer.text)
            assert told in answer.text, name
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get("/api/v1/campaigns")).json()["campaigns"] == []


async def test_the_same_key_is_the_same_campaign(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        first = await made(client, body(), **{"Idempotency-Key": "k", "X-Correlation-Id": "c-1"})
        again = await made(client, body(), **{"Idempotency-Key": "k"})
        assert first == again
        assert again["correlation_id"] == "c-1"
        other = await client.post("/api/v1/campaigns", json=body(CLOCK), headers={"Idempotency-Key": "k"})
        assert (other.status_code, other.json()["errors"][0]["parameter"]) == (422, "Idempotency-Key")
        assert len((await client.get("/api/v1/campaigns")).json()["campaigns"]) == 1


async def test_it_is_paused_resumed_and_ended_by_whoever_saw_it_as_it_is(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        where = f"/api/v1/campaigns/{(await made(client, body(CLOCK)))['id']}"
        tag = (await client.get(where)).headers["ETag"]
        why = {"reason": "a storm is coming"}
        paused = await client.post(f"{where}/pause", json=why, headers={"If-Match": tag})
        assert (paused.status_code, paused.json()["state"]) == (200, "paused")
        assert paused.json()["reason"] == "a storm is coming"
        for stale in (tag, "W/x"):
            late = await client.post(f"{where}/resume", json=why, headers={"If-Match": stale})
            assert late.status_code == 412, late.text
        went_on = await client.post(f"{where}/resume", json=why, headers={"If-Match": paused.headers["ETag"]})
        assert went_on.json()["state"] == "running"
        assert (await client.post(f"{where}/abort", json=why)).json()["state"] == "aborted"
        assert (await client.post(f"{where}/resume", json=why)).status_code == 409
        assert (await client.post(f"{where}/abort", json={})).status_code == 422
    async with desk.client(Scope.READ) as client:
        assert (await client.post(f"{where}/pause", json=why)).status_code == 403
    said = [(action, detail.get("reason")) for _, action, _, detail in desk.audit() if "campaign." in action]
    for action in ("campaign.pause", "campaign.resume", "campaign.abort"):
        assert (action, "a storm is coming") in said


async def test_a_proposal_that_is_taken_back_can_be_approved_no_more(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        found = await made(client, body())
        ended = await client.post(f"/api/v1/campaigns/{found['id']}/abort", json={"reason": "he has paid"})
        assert (ended.json()["state"], ended.json()["approval"]["state"]) == ("aborted", "void")
    with pytest.raises(four_eyes.Changed, match="waits no longer: it is void"):
        await four_eyes.decide(
            desk.pool.connection, found["approval"]["id"], BOB, approve=True,
            seen=bytes.fromhex(found["approval"]["digest"]), reason=None, now=NOW,
        )  # fmt: skip


async def test_a_kind_that_he_may_not_ask_for_is_refused_and_audited(desk: House) -> None:
    """The token's permissions are its scope's: what the kind takes is asked of whoever the caller is."""
    from headend.approvals.proposing import NotPermitted, put_forward
    from schemas.campaign import Plan
    from schemas.program import PROGRAM

    ask = body()
    clerk = Principal("clerk", frozenset({Permission.READ, Permission.CLOCK}), account=3)
    with pytest.raises(NotPermitted, match=r"program\.switch"):
        async with desk.pool.connection() as connection:
            await put_forward(
                connection, PROGRAM.validate_python(SWITCH), Plan.model_validate(ask["plan"]), name="n",
                title="t", procedures=PROCEDURES, principal=clerk, policy=Policy(frozenset()),
                correlation_id="c", now=NOW,
            )  # fmt: skip
    async with desk.client(Scope.READ) as client:
        assert (await client.post("/api/v1/campaigns", json=ask)).status_code == 403
        assert (
            await client.post("/api/v1/programs", json={"name": "n", "content": SWITCH})
        ).status_code == 403


async def test_each_meter_is_told_with_its_proof_and_its_steps(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        number = (await made(client, body(CLOCK)))["id"]
        async with desk.pool.connection() as connection:
            for phase in ("intended", "done"):
                assert await campaign_meters.note(
                    connection, number, desk.ids["M-1"], step="set", phase=phase, facts={"off_s": 7}
                )
        await end(desk, number, "M-1", MeterProgress.DONE, proof={"off_s": 0})
        where = f"/api/v1/campaigns/{number}/meters"
        page = (await client.get(where, params={"limit": 2})).json()
        assert [(one["meter"], one["state"]) for one in page["meters"]] == [("M-1", "done"), ("M-2", "open")]
        rest = (await client.get(where, params={"after": page["next"]})).json()
        assert [(one["meter"], one["reason"]) for one in rest["meters"]] == [("M-9", "it has no breaker")]
        some = (await client.get(where, params={"state": ["done", "incompatible"], "wave": 1})).json()
        assert [one["meter"] for one in some["meters"]] == ["M-1", "M-9"]
        one = (await client.get(f"{where}/M-1")).json()
        assert one["proof"] == {"off_s": 0}
        assert [(step["step"], step["phase"]) for step in one["steps"]] == [
            ("set", "intended"), ("set", "done"),
        ]  # fmt: skip
        assert (await client.get(f"{where}/M-8")).status_code == 404


async def test_the_report_is_safe_in_a_spreadsheet(desk: House) -> None:
    await desk.add_meter('=HYPERLINK("http://x")', address="tcp://127.0.0.1:4059")
    async with desk.client(Scope.OPERATE) as client:
        number = (await made(client, body(CLOCK)))["id"]
        async with desk.pool.connection() as connection:
            await connection.execute(
                b"INSERT INTO campaign_meters (campaign_id, meter_id, wave) VALUES (%s, %s, 2)",
                (number, desk.ids['=HYPERLINK("http://x")']),
            )
        await end(desk, number, "M-1", MeterProgress.DONE, proof={"ä": [1, "two, three"]})
        await end(
            desk,
            number,
            "M-2",
            MeterProgress.FAILED,
            reason='+cmd|" /C calc"!A0\nsaid it',
            stage=Stage.ACCESS,
        )
        answer = await client.get(f"/api/v1/campaigns/{number}/report.csv")
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["asset_id"] for row in rows] == ['\'=HYPERLINK("http://x")', "M-1", "M-2", "M-9"]
    first, done, failed, unfit = rows
    assert (first["wave"], first["state"], first["ended_at"], first["proof"]) == ("2", "waiting", "", "")
    assert json.loads(done["proof"]) == {"ä": [1, "two, three"]}
    assert done["proof"] == '{"ä":[1,"two, three"]}'
    assert done["ended_at"].endswith("Z")
    assert (failed["stage"], failed["reason"]) == ("access", '\'+cmd|" /C calc"!A0\nsaid it')
    assert unfit["reason"] == "it has no breaker"
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())


async def test_a_campaign_is_followed_to_its_end(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        number = (await made(client, body(CLOCK)))["id"]
        watching = asyncio.create_task(client.get(f"/api/v1/campaigns/{number}/events"))
        async with asyncio.timeout(20):
            while not desk.moment.campaigns.clients:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await end(desk, number, "M-1", MeterProgress.DONE, proof={"off_s": 0})
            await end(desk, number, "M-2", MeterProgress.FAILED, reason="no")
            async with desk.pool.connection() as connection:
                await campaigns.move(connection, number, CampaignState.DONE, before=[CampaignState.RUNNING])
            answer = await watching
        assert (await client.get("/api/v1/campaigns/99/events")).status_code == 404
    events = [
        (block[0].removeprefix("event: "), json.loads(block[1].removeprefix("data: ")))
        for text in answer.text.split("\n\n")
        if (block := [line for line in text.splitlines() if line.startswith(("event: ", "data: "))])
    ]
    told = {data["meter"]: data["state"] for name, data in events if name == "meter"}
    assert told == {"M-1": "done", "M-2": "failed", "M-9": "incompatible"}
    assert [name for name, _ in events].count("end") == 1
    name, last = events[-1]
    assert (name, last["state"]) == ("end", "done")
    assert last["waves"][0]["states"] == {"done": 1, "failed": 1, "incompatible": 1}
    assert desk.moment.campaigns.clients == 0


async def test_programs_are_stored_once(desk: House) -> None:
    async with desk.client(Scope.OPERATE) as client:
        first = await client.post("/api/v1/programs", json={"name": "a", "content": SWITCH})
        again = await client.post("/api/v1/programs", json={"name": "b", "content": SWITCH})
        assert first.status_code == again.status_code == 201
        assert first.json() == again.json()
        other = await client.post("/api/v1/programs", json={"name": "c", "content": CLOCK})
        assert other.json()["digest"] != first.json()["digest"]
        page = (await client.get("/api/v1/programs", params={"limit": 1})).json()
        rest = (await client.get("/api/v1/programs", params={"after": page["next"]})).json()
        assert [one["name"] for one in page["programs"] + rest["programs"]] == ["c", "a"]
        only = (await client.get("/api/v1/programs", params={"kind": "switch"})).json()["programs"]
        assert only == [(await client.get(first.headers["Location"])).json()]
        found = await made(client, body() | {"program": None, "program_id": only[0]["id"]})
        assert found["program"] == only[0]["id"]
    async with desk.pool.connection() as connection:
        assert (await approvals.find(connection, found["approval"]["id"])).shown["program_name"] == "a"
