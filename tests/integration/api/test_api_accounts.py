"""Accounts by their administrators, roles under four eyes, one's own second factor, and areas."""

from dataclasses import replace
from typing import Any, cast

import pyotp
import pytest

from headend.approvals import four_eyes
from headend.approvals.four_eyes import Changed, NotYours
from headend.approvals.policy import EVERYTHING
from headend.people import changes
from headend.people.identity import principal
from headend.people.role_change import ask_roles
from headend.programs.contract import Procedure
from headend.store import accounts, approvals, groups, meters, network
from headend.store.network import Hanging, NewNode
from headend.store.tokens import Scope
from schemas.meter import MeterState
from schemas.network import LinkKind, NodeKind
from schemas.people import Grant
from schemas.program import ProgramKind
from tests.integration.api.conftest import app_over
from tests.integration.api.test_api_sessions import IN, LOGIN, browser
from tests.integration.people import APPROVING, NOW, PASSWORD, account, people, with_totp

ACCOUNTS = "/api/v1/accounts"


@pytest.fixture
def with_people(house: Any) -> Any:
    def made(second: frozenset[Any] = frozenset()) -> Any:
        house.people = people(second=second)
        house.app = app_over(replace(house.app.state.services, people=house.people))
        return house

    return made


async def test_an_account_begins_with_nothing_but_a_password_to_change(with_people: Any) -> None:
    house = with_people()
    async with house.client(Scope.ADMIN) as admin, browser(house) as page:
        made = await admin.post(ACCOUNTS, json={"login": "bob", "title": "Bob"})
        assert (made.status_code, made.json()["roles"]) == (201, [])
        first = made.json()["password"]
        assert (await admin.post(ACCOUNTS, json={"login": "bob", "title": "B"})).status_code == 409
        async with house.pool.connection() as connection:
            await accounts.set_grants(connection, made.json()["account"], [Grant.parse("operator")])
        came = await page.come_in(login="bob", password=first)
        assert came.json()["must_change_password"]
        refused = await page.get("/api/v1/meters")
        assert (refused.status_code, "change the password" in refused.json()["detail"]) == (403, True)
        weak = await page.post(f"{LOGIN}/password", json={"current": first, "new": "short"})
        assert (weak.status_code, weak.json()["errors"][0]["pointer"]) == (422, "/new")
        wrong = await page.post(f"{LOGIN}/password", json={"current": "wrong", "new": PASSWORD})
        assert wrong.status_code == 403
        told = await page.post(f"{LOGIN}/password", json={"current": first, "new": PASSWORD})
        assert told.status_code == 204
        assert (await page.get("/api/v1/meters")).status_code == 200
        assert (await page.post(LOGIN, json=IN | {"login": "bob", "password": first})).status_code == 401
        listed = (await admin.get(ACCOUNTS)).json()["accounts"]
        assert [(one["login"], one["roles"]) for one in listed] == [("bob", ["operator"])]
        assert first not in str(house.audit())
        off = await admin.patch(f"{ACCOUNTS}/bob", json={"state": "disabled"})
        assert off.json()["state"] == "disabled"
        assert (await page.get("/api/v1/meters")).status_code == 401


async def test_ones_own_second_factor(with_people: Any) -> None:
    house = with_people(APPROVING)
    await account(house.pool, house.people, "alice", "operator")
    async with browser(house) as page, browser(house) as other:
        await page.come_in()
        await other.come_in()
        bare = await page.get("/api/v1/meters")
        assert (bare.status_code, bare.json()["detail"].endswith("POST /api/v1/session/totp")) == (403, True)
        never = await page.get("/api/v1/keys")
        assert never.json()["detail"].endswith("the roles of alice do not have it"), "no second factor helps"
        assert (await page.post(f"{LOGIN}/totp", json={"password": "wrong"})).status_code == 403
        begun = await page.post(f"{LOGIN}/totp", json={"password": PASSWORD})
        assert begun.status_code == 201
        totp = pyotp.TOTP(begun.json()["secret"])
        assert begun.json()["uri"].startswith("otpauth://totp/Headend:alice?")
        wrong = "000000" if totp.at(NOW) != "000000" else "000001"
        assert (await page.post(f"{LOGIN}/totp/confirm", json={"code": wrong})).status_code == 409
        done = await page.post(f"{LOGIN}/totp/confirm", json={"code": totp.at(NOW)})
        assert len(done.json()["recovery_codes"]) == 10
        assert (await page.get("/api/v1/meters")).status_code == 200
        assert (await other.get(LOGIN)).status_code == 401, "a session of before is over"
        again = await page.post(f"{LOGIN}/totp", json={"password": PASSWORD})
        assert again.status_code == 409, "it is not replaced by whoever has the session and the password"
        replayed = {"password": PASSWORD, "code": totp.at(NOW)}
        assert (await page.post(f"{LOGIN}/totp/remove", json=replayed)).status_code == 403
        code = {"password": PASSWORD, "code": done.json()["recovery_codes"][0]}
        assert (await page.post(f"{LOGIN}/totp/remove", json=code)).status_code == 204
        assert (await page.get(LOGIN)).status_code == 401
    said = str(house.audit())
    assert begun.json()["secret"] not in said
    assert PASSWORD not in said


async def test_roles_change_by_two_people(with_people: Any) -> None:
    house = with_people()
    adam = await account(house.pool, house.people, "adam", "administrator")
    eve = await account(house.pool, house.people, "eve", "administrator")
    bob = await account(house.pool, house.people, "bob", "viewer")
    asked_by = principal(adam.actor, adam.account_id, adam.grants)
    second = principal(eve.actor, eve.account_id, eve.grants)
    connect = house.pool.connection

    async def decide(number: int, who: Any, *, approve: bool = True) -> None:
        async with connect() as connection:
            seen = (await approvals.find(connection, number)).digest
        await four_eyes.decide(connect, number, who, approve=approve, seen=seen, reason="so", now=NOW)

    async def roles_of(login: str) -> list[str]:
        async with connect() as connection:
            return [str(one) for one in (await accounts.by_login(connection, login)).grants]

    async with browser(house) as page:
        await page.come_in(login="adam")
        unknown = await page.put(f"{ACCOUNTS}/bob/roles", json={"roles": ["operator:nowhere"]})
        assert (unknown.status_code, "'nowhere'" in unknown.json()["detail"]) == (409, True)
        assert (await page.put(f"{ACCOUNTS}/bob/roles", json={"roles": ["king"]})).status_code == 422
        asked = await page.put(f"{ACCOUNTS}/bob/roles", json={"roles": ["operator"]})
        assert (asked.status_code, asked.json()["account"]["roles"]) == (202, ["viewer"])
        number = asked.json()["approval"]
        twice = await page.put(f"{ACCOUNTS}/bob/roles", json={"roles": ["billing"]})
        assert twice.status_code == 409, "one step at a time"
        with pytest.raises(NotYours):
            await decide(number, asked_by)
        with pytest.raises(NotYours):
            await decide(number, principal(bob.actor, bob.account_id, [Grant.parse("operator")]))
        assert await roles_of("bob") == ["viewer"]
        await decide(number, second)
        assert await roles_of("bob") == ["operator"]
        asked = await page.put(f"{ACCOUNTS}/bob/roles", json={"roles": ["security_officer"]})
        async with connect() as connection:  # changed meanwhile, by whatever way
            await changes.set_grants(
                connection, await accounts.by_login(connection, "bob"), [], actor="another"
            )
        with pytest.raises(Changed):
            await decide(asked.json()["approval"], second)
        assert await roles_of("bob") == []
        same = await page.put(f"{ACCOUNTS}/bob/roles", json={"roles": []})
        assert (same.status_code, same.json()["approval"]) == (200, None)
        mine = await page.put(f"{ACCOUNTS}/adam/roles", json={"roles": ["administrator", "operator"]})
        assert mine.status_code == 202, "nobody gives himself a role"
        with pytest.raises(NotYours):
            await decide(mine.json()["approval"], asked_by)


async def test_nobody_approves_of_his_own_roles(with_people: Any) -> None:
    house = with_people()
    adam, eve, ivy = [
        await account(house.pool, house.people, login, "administrator") for login in ("adam", "eve", "ivy")
    ]
    eve_asks, own, third = (principal(one.actor, one.account_id, one.grants) for one in (eve, adam, ivy))
    connect = house.pool.connection
    async with connect() as connection:
        wanted = [*adam.grants, Grant.parse("security_officer")]
        asked = await ask_roles(connection, adam, wanted, eve_asks, policy=EVERYTHING, now=NOW)
    assert asked is not None
    decision = {"seen": asked.digest, "reason": None, "now": NOW}
    for approve in (True, False):
        with pytest.raises(NotYours, match="own roles"):
            await four_eyes.decide(connect, asked.approval_id, own, approve=approve, **decision)
    refused = [line for line in house.audit() if line[1] == "approval.refused"]
    assert [(line[0], line[2]) for line in refused] == [(adam.actor, "role:adam")] * 2
    await four_eyes.decide(connect, asked.approval_id, third, approve=True, **decision)
    async with connect() as connection:
        assert (await accounts.by_login(connection, "adam")).grants == tuple(sorted(wanted, key=str))


async def test_somebody_is_left_to_see_to_people(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "adam", "administrator")
    async with browser(house) as page:
        await page.come_in(login="adam")
        refused = await page.patch(f"{ACCOUNTS}/adam", json={"state": "disabled"})
        assert (refused.status_code, "last administrator" in refused.json()["detail"]) == (409, True)
        assert (await page.get(ACCOUNTS)).status_code == 200


# ---- areas ----------------------------------------------------------------------------------------------


async def _fleet(house: Any) -> None:
    """N-1 and N-2 in the group north; S-1 behind the concentrator DC-1; X-1 nowhere."""
    for name in ("N-1", "N-2", "S-1", "X-1"):
        number = await house.add_meter(name, address="tcp://127.0.0.1:1")
        async with house.pool.connection() as connection:
            for hour, state in ((1, MeterState.INSTALLED), (2, MeterState.COMMISSIONED)):
                await meters.change_state(connection, number, state, since=NOW.replace(hour=hour))
    async with house.pool.connection() as connection:
        await groups.add(connection, "north", meters=["N-1", "N-2"], actor="test")
        nodes = await network.add_nodes(
            connection,
            [
                NewNode("DC-1", NodeKind.CONCENTRATOR),
                NewNode("S-1", NodeKind.METER, meter_id=house.ids["S-1"]),
            ],
        )
        await network.hang(
            connection, [Hanging(nodes["S-1"], nodes["DC-1"], LinkKind.PLC_NARROWBAND, 1, None)], at=NOW
        )


async def test_who_is_limited_sees_and_does_nothing_elsewhere(with_people: Any) -> None:
    house = with_people()
    await _fleet(house)
    await account(house.pool, house.people, "alice", "operator:north", "operator:DC-1")
    async with browser(house) as page:
        came = await page.come_in()
        assert came.json()["areas"] == ["DC-1", "north"]
        listed = (await page.get("/api/v1/meters", params={"limit": 2})).json()
        more = (await page.get("/api/v1/meters", params={"after": listed["next"]})).json()
        assert [m["asset_id"] for m in listed["meters"] + more["meters"]] == ["N-1", "N-2", "S-1"]
        ranged = "load-curve?from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z"
        for what in ("", "/tags", "/registers", f"/{ranged}"):
            assert (await page.get(f"/api/v1/meters/N-1{what}")).status_code == 200, what
            hidden = await page.get(f"/api/v1/meters/X-1{what}")
            unknown = await page.get(f"/api/v1/meters/Q-1{what}")
            assert (hidden.status_code, unknown.status_code) == (404, 404), what
            assert hidden.json()["detail"].replace("X-1", "Q-1") == unknown.json()["detail"], "told alike"
        for path, body in (("states", {"state": "removed"}), ("reads", {"obis": ["1.8.0"]})):
            assert (await page.post(f"/api/v1/meters/X-1/{path}", json=body)).status_code == 404, path
        assert (await page.put("/api/v1/meters/X-1/tags", json={"tags": []})).status_code == 404
        works = [{"kind": "registers", "obis": ["1-0:1.8.0*255"]}]
        beyond = await page.post("/api/v1/reads", json={"meters": ["N-1", "X-1"], "works": works})
        assert beyond.json()["errors"] == [
            {"pointer": "/meters/1", "detail": "no meter has the asset id 'X-1'"}
        ]
        for wanted in ({}, {"query": "*"}, {"query": "X*"}, {"meters": ["N-1", "X-1"]}):
            asked = await page.post("/api/v1/reads", json={"selection": wanted, "works": works})
            assert asked.status_code == 403, wanted
        within = await page.post("/api/v1/reads", json={"selection": {"query": "N*"}, "works": works})
        assert within.status_code == 200
        own = await page.post("/api/v1/reads", json={"meters": ["S-1"], "works": works, "wait_s": 0})
        assert own.status_code in {200, 202}, own.text
        assert (await page.get(own.headers["location"])).status_code == 200
        # What does not mind areas is refused, not answered for all.
        for method, path in (
            ("GET", "/api/v1/announcements"),
            ("GET", "/api/v1/quarantine"),
            ("GET", "/api/v1/points"),
            ("PATCH", "/api/v1/groups/north/meters"),
            ("POST", "/api/v1/groups"),
            ("POST", "/api/v1/tags"),
            ("POST", "/api/v1/schedules"),
            ("PATCH", "/api/v1/network/nodes/S-1"),
        ):
            body = {"add": ["X-1"]} if path.endswith("/meters") else {}
            refused = await page.request(method, path, json=body if method[0] == "P" else None)
            assert refused.status_code == 403, path
    assert {asked[0] for asked in house.lanes.asked} <= {"N-1", "N-2", "S-1"}


async def test_a_job_of_others_is_not_seen_by_who_is_limited(with_people: Any) -> None:
    house = with_people()
    await _fleet(house)
    await account(house.pool, house.people, "alice", "operator:north")
    works = [{"kind": "registers", "obis": ["1-0:1.8.0*255"]}]
    async with house.client(Scope.OPERATE) as all_, browser(house) as page:
        job = await all_.post("/api/v1/reads", json={"meters": ["X-1"], "works": works, "wait_s": 0})
        at = job.headers["location"]
        await page.come_in()
        for path in (at, f"{at}/requests", f"{at}/events"):
            assert (await page.get(path)).status_code == 404, path
        assert (await page.post(f"{at}/cancel")).status_code == 404


async def test_areas_are_of_the_permission_that_is_used(with_people: Any) -> None:
    house = with_people()
    await _fleet(house)
    await account(house.pool, house.people, "alice", "viewer", "operator:north")
    async with browser(house) as page:
        await page.come_in()
        assert len((await page.get("/api/v1/meters")).json()["meters"]) == 4
        assert (await page.get("/api/v1/events")).status_code == 200
        assert (await page.put("/api/v1/meters/N-1/tags", json={"tags": ["a"]})).status_code == 200
        assert (await page.put("/api/v1/meters/X-1/tags", json={"tags": ["a"]})).status_code == 404


async def test_an_area_that_is_gone_is_no_area(with_people: Any) -> None:
    house = with_people()
    await _fleet(house)
    await account(house.pool, house.people, "alice", "viewer:north")
    async with house.pool.connection() as connection:
        await groups.remove(connection, "north", actor="test")
    async with browser(house) as page:
        await page.come_in()
        assert (await page.get("/api/v1/meters")).json()["meters"] == []


async def test_second_factors_in_hand_count_for_areas_too(with_people: Any) -> None:
    house = with_people(APPROVING)
    await _fleet(house)
    alice = await account(house.pool, house.people, "alice", "viewer:north", "operator")
    async with browser(house) as page:
        bare = await page.come_in()
        assert bare.json()["areas"] == ["north"], "the role that was not proved gives no area either"
        totp, _ = await with_totp(house.pool, house.people, alice)
        assert (await page.come_in(code=totp.at(NOW))).json()["areas"] is None


# ---- four eyes ------------------------------------------------------------------------------------------


class _Fits:
    """A procedure of switching that fits every meter; nobody applies it here."""

    kind = ProgramKind.SWITCH

    def unfit(self, _program: Any, _target: Any) -> str | None:
        return None


async def test_an_operator_alone_disconnects_nobody(with_people: Any) -> None:
    house = with_people(APPROVING)
    await _fleet(house)
    house.app = app_over(
        replace(house.app.state.services, procedures=(cast("Procedure", _Fits()),), policy=EVERYTHING)
    )
    totps = {}
    for login, role in (("alice", "operator"), ("nora", "operator:north"), ("bob", "operator")):
        one = await account(house.pool, house.people, login, role)
        totps[login], _ = await with_totp(house.pool, house.people, one)

    def ask(meter: str) -> dict[str, Any]:
        program = {"kind": "switch", "action": "disconnect", "reason": "arrears"}
        return {"title": "arrears", "program": program, "plan": {"selection": {"meters": [meter]}}}

    async with browser(house) as alice, browser(house) as nora, browser(house) as bob:
        for login, page in (("alice", alice), ("nora", nora), ("bob", bob)):
            came = await page.come_in(login=login, code=totps[login].at(NOW))
            assert came.status_code == 201, login
        made = await alice.post("/api/v1/campaigns", json=ask("X-1"))
        assert (made.status_code, made.json()["state"]) == (201, "proposed")
        waiting = made.json()["approval"]
        approve = f"/api/v1/approvals/{waiting['id']}/approve"
        same = {"digest": waiting["digest"]}
        token = await alice.post("/api/v1/tokens", json={"name": "t", "scopes": ["admin"]})
        bearer = {"Authorization": f"Bearer {token.json()['token']}"}
        async with house.client(None) as outside:
            by_token = await outside.post(approve, json=same, headers=bearer)
        of_nobody = house.client(Scope.ADMIN)
        refusals = [
            await alice.post(approve, json=same),
            by_token,
            await nora.post(approve, json=same),
            await of_nobody.post(approve, json=same),
        ]
        assert [one.status_code for one in refusals] == [403] * 4
        said = [line for line in house.audit() if line[1] in {"approval.refused", "request.refused"}]
        assert len(said) == 4, "each is on record"
        beyond = await nora.post("/api/v1/campaigns", json=ask("X-1"))
        assert beyond.status_code == 403, beyond.text
        own = await nora.post("/api/v1/campaigns", json=ask("N-1"))
        assert own.status_code == 201, own.text
        done = await bob.post(approve, json=same)
        assert (done.status_code, done.json()["state"]) == (200, "approved")


async def test_roles_are_approved_of_over_the_api_too(with_people: Any) -> None:
    house = with_people()
    for login in ("adam", "eve"):
        await account(house.pool, house.people, login, "administrator")
    await account(house.pool, house.people, "bob")
    async with browser(house) as adam, browser(house) as eve:
        await adam.come_in(login="adam")
        await eve.come_in(login="eve")
        asked = await adam.put(f"{ACCOUNTS}/bob/roles", json={"roles": ["operator", "viewer"]})
        number = asked.json()["approval"]
        shown = (await eve.get(f"/api/v1/approvals/{number}")).json()
        assert (shown["subject"], shown["shown"]["to"]) == ("role:bob", ["operator", "viewer"])
        same = {"digest": shown["digest"]}
        assert (await adam.post(f"/api/v1/approvals/{number}/approve", json=same)).status_code == 403
        assert (await eve.post(f"/api/v1/approvals/{number}/approve", json=same)).status_code == 200
        found = (await adam.get(f"{ACCOUNTS}/bob")).json()
        assert found["roles"] == ["operator", "viewer"]


async def test_who_is_limited_sees_and_steers_campaigns_of_his_meters(with_people: Any) -> None:
    house = with_people(APPROVING)
    await _fleet(house)
    house.app = app_over(
        replace(house.app.state.services, procedures=(cast("Procedure", _Fits()),), policy=EVERYTHING)
    )
    totps = {}
    for login, role in (("alice", "operator"), ("nora", "operator:north")):
        one = await account(house.pool, house.people, login, role)
        totps[login], _ = await with_totp(house.pool, house.people, one)

    def ask(*named: str) -> dict[str, Any]:
        program = {"kind": "switch", "action": "disconnect", "reason": "arrears"}
        return {"title": "arrears", "program": program, "plan": {"selection": {"meters": list(named)}}}

    async with browser(house) as alice, browser(house) as nora:
        for login, page in (("alice", alice), ("nora", nora)):
            assert (await page.come_in(login=login, code=totps[login].at(NOW))).status_code == 201, login
        made = [
            await page.post("/api/v1/campaigns", json=ask(*named))
            for page, named in ((nora, ["N-1"]), (alice, ["N-2"]), (alice, ["X-1", "S-1"]))
        ]
        assert [one.status_code for one in made] == [201] * 3, [one.text for one in made]
        own, theirs, mixed = (one.headers["location"] for one in made)
        async with house.pool.connection() as connection:  # one of the north, one of elsewhere
            await groups.change_members(connection, "north", add=["S-1"], actor="test")
        listed = (await nora.get("/api/v1/campaigns")).json()["campaigns"]
        assert [f"/api/v1/campaigns/{one['id']}" for one in listed] == [theirs, own]
        assert len((await alice.get("/api/v1/campaigns")).json()["campaigns"]) == 3
        for path in ("", "/meters", "/meters/S-1", "/report.csv", "/events"):
            hidden, unknown = await nora.get(f"{mixed}{path}"), await nora.get(f"/api/v1/campaigns/99{path}")
            assert (hidden.status_code, unknown.status_code) == (404, 404), path
            number = mixed.rpartition("/")[2]
            assert hidden.json()["detail"].replace(number, "99") == unknown.json()["detail"], "told alike"
        for path in ("", "/meters", "/meters/N-1", "/report.csv"):
            assert (await nora.get(f"{own}{path}")).status_code == 200, path
        why = {"reason": "he has paid"}
        for what in ("pause", "resume", "abort"):
            refused = await nora.post(f"{mixed}/{what}", json=why)
            assert (refused.status_code, "north" in refused.json()["detail"]) == (403, True), what
        assert sum(line[1] == "campaign.refused" for line in house.audit()) == 3
        for one in (own, theirs):
            ended = await nora.post(f"{one}/abort", json=why)
            assert (ended.status_code, ended.json()["state"]) == (200, "aborted"), ended.text
        assert (await alice.get(mixed)).json()["state"] == "proposed"
        async with house.pool.connection() as connection:  # what has left the area is not seen any longer
            await groups.change_members(connection, "north", remove=["N-1"], actor="test")
        assert (await nora.get(own)).status_code == 404
