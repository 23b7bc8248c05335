"""Sessions of browsers: cookies, CSRF, fixation, the ways in and out; and whose tokens may do what."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from headend.store.tokens import Scope
from tests.integration.api.conftest import app_over
from tests.integration.people import APPROVING, NOW, PASSWORD, account, people, with_totp

LOGIN = "/api/v1/session"
IN = {"login": "alice", "password": PASSWORD}


class Browser(httpx.AsyncClient):
    """What a page of ours does: keeps cookies, sends the CSRF token with each change."""

    async def come_in(self, **body: str) -> httpx.Response:
        answer = await self.post(LOGIN, json=IN | body)
        if answer.status_code == 201:
            self.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return answer


@pytest.fixture
def with_people(house: Any) -> Any:
    """The house with accounts, whose passwords cost little; roles need no second factor unless a test says
    so."""

    def made(second: frozenset[Any] = frozenset()) -> Any:
        house.people = people(second=second)
        house.app = app_over(replace(house.app.state.services, people=house.people))
        return house

    return made


def browser(house: Any, *, url: str = "http://headend", address: str = "127.0.0.1") -> Browser:
    transport = httpx.ASGITransport(house.app, client=(address, 4711))
    return Browser(transport=transport, base_url=url)


async def test_a_session_from_end_to_end(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice", "operator")
    async with browser(house) as page:
        came = await page.come_in()
        assert came.status_code == 201
        assert (came.json()["login"], came.json()["roles"]) == ("alice", ["operator"])
        cookie = came.headers["set-cookie"].lower()
        assert cookie.startswith("headend=hdns_")
        assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.split("; "))
        assert came.headers["cache-control"] == "no-store"
        assert (await page.get("/api/v1/meters")).status_code == 200
        who = (await page.get(LOGIN)).json()
        assert who == came.json()
        made = await page.post("/api/v1/groups", json={"name": "G"})
        assert made.status_code == 201
        secret = page.cookies["headend"]
        assert (await page.delete(LOGIN)).status_code == 204
        assert "headend" not in page.cookies
        page.cookies.set("headend", secret)
        assert (await page.get("/api/v1/meters")).status_code == 401
        bearer = {"Authorization": f"Bearer {secret}"}
        assert (await page.get("/api/v1/meters", headers=bearer)).status_code == 401
    done = [(actor.partition(" ")[2], action) for actor, action, _, _ in house.audit() if action[0] in "sg"]
    assert done == [("alice", "session.open"), ("alice", "group.added"), ("alice", "session.end")]


async def test_over_https_the_cookie_is_bound_to_this_host(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice", "viewer")
    async with browser(house, url="https://headend", address="192.0.2.1") as page:
        came = await page.come_in()
        cookie = came.headers["set-cookie"]
        assert cookie.startswith("__Host-headend=hdns_")
        assert "Secure" in cookie
        assert "Domain" not in cookie
        assert came.headers["strict-transport-security"].startswith("max-age=")
        secret = page.cookies["__Host-headend"]
    async with browser(house, url="https://headend") as page:  # planted by a page of plain http
        page.cookies.set("headend", secret)
        assert (await page.get("/api/v1/meters")).status_code == 401


async def test_no_password_is_taken_over_a_network_in_the_clear(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice")
    async with browser(house, address="192.0.2.1") as page:
        refused = await page.come_in()
        assert refused.status_code == 403
        assert "https" in refused.json()["detail"]
    assert house.people.passwords.verified == 0


FOREIGN: list[dict[str, str]] = [
    {"X-CSRF-Token": ""},
    {"X-CSRF-Token": "0" * 64},
    {"Origin": "http://evil"},
    {"Origin": "null"},
    {"Origin": "http://headend:8080"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


async def test_what_another_page_sends_changes_nothing(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice", "operator")
    async with browser(house) as page:
        await page.come_in()
        for headers in FOREIGN:
            refused = await page.post("/api/v1/groups", json={"name": "G"}, headers=headers)
            assert refused.status_code == 403, headers
            assert refused.json()["type"] == "/problems/csrf"
            assert (await page.delete(LOGIN, headers=headers)).status_code == 403
        assert (await page.get("/api/v1/groups/G")).status_code == 404
        told = [line for line in house.audit() if line[1] == "request.refused"]
        assert [line[2] for line in told] == ["POST /api/v1/groups", f"DELETE {LOGIN}"] * len(FOREIGN)
        assert told[0][3] == {"reason": "CSRF"}
        same = {"Origin": "http://headend", "Sec-Fetch-Site": "same-origin"}
        assert (await page.post("/api/v1/groups", json={"name": "G"}, headers=same)).status_code == 201


async def test_the_csrf_token_is_of_one_session(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice", "operator")
    async with browser(house) as one, browser(house) as two:
        await one.come_in()
        await two.come_in()
        assert one.headers["X-CSRF-Token"] != two.headers["X-CSRF-Token"]
        one.headers["X-CSRF-Token"] = two.headers["X-CSRF-Token"]
        assert (await one.post("/api/v1/groups", json={"name": "G"})).status_code == 403


async def test_a_log_in_of_another_page_is_refused(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice")
    async with browser(house) as page:
        refused = await page.post(LOGIN, json=IN, headers={"Origin": "http://evil"})
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/csrf")
        assert "set-cookie" not in refused.headers
        form = await page.post(LOGIN, content="login=alice", headers={"Content-Type": "text/plain"})
        assert form.status_code == 422


async def test_no_session_can_be_planted(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice", "operator")
    await account(house.pool, house.people, "mallory", "viewer")
    async with browser(house) as attacker, browser(house) as victim:
        await attacker.come_in(login="mallory")
        planted = attacker.cookies["headend"]
        victim.cookies.set("headend", planted, domain="headend.local")
        await victim.come_in()
        given = {one.value for one in victim.cookies.jar} - {planted}
        assert len(given) == 1, "the secret of a session is ours to choose"
        attacker.cookies.set("headend", planted, domain="headend.local")
        # The session that was planted is over, for both.
        assert (await attacker.get(LOGIN)).status_code == 401


async def test_what_is_wrong_is_told_alike_and_slowed_down(with_people: Any) -> None:
    house = with_people()
    alice = await account(house.pool, house.people, "alice")
    totp, _ = await with_totp(house.pool, house.people, alice)
    async with browser(house) as page:
        needed = await page.come_in()
        assert (needed.status_code, needed.json()["type"]) == (401, "/problems/code-needed")
        wrong = [await page.come_in(password="wrong password"), await page.come_in(login="nobody")]
        assert {(one.status_code, one.text) for one in wrong} == {(401, wrong[0].text)}
        for _ in range(4):
            last = await page.come_in(password="wrong password")
            assert PASSWORD not in last.text
        last = await page.come_in(code=totp.at(NOW))
        assert last.status_code == 429
        assert last.headers["retry-after"] == "1"
        assert last.json()["type"] == "/problems/too-many-requests"


async def test_tokens_are_ones_own(with_people: Any) -> None:
    house = with_people()
    await account(house.pool, house.people, "alice", "operator")
    await account(house.pool, house.people, "adam", "administrator")
    async with browser(house) as alice, browser(house) as adam, house.client(None) as outside:
        await alice.come_in()
        await adam.come_in(login="adam")
        made = await alice.post("/api/v1/tokens", json={"name": "mine", "scopes": ["admin"]})
        assert made.status_code == 201
        bearer = {"Authorization": f"Bearer {made.json()['token']}"}
        who = (await outside.get(LOGIN, headers=bearer)).json()
        assert (who["login"], who["account"]) == (None, made.json()["account"])
        assert "operate" in who["permissions"]
        assert not {"approve", "people", "administer"} & set(who["permissions"])
        more = await outside.post("/api/v1/tokens", json={"name": "x", "scopes": ["read"]}, headers=bearer)
        assert more.status_code == 403
        assert len((await alice.get("/api/v1/tokens")).json()["tokens"]) == 1
        assert len((await adam.get("/api/v1/tokens")).json()["tokens"]) == 4
        own = await adam.post("/api/v1/tokens", json={"name": "his", "scopes": ["admin"]})
        assert (await alice.delete(f"/api/v1/tokens/{own.json()['id']}")).status_code == 404
        assert (await adam.delete(f"/api/v1/tokens/{made.json()['id']}")).status_code == 204
        assert (await outside.get(LOGIN, headers=bearer)).status_code == 401


async def test_a_token_is_worth_what_its_maker_proved(with_people: Any) -> None:
    house = with_people(APPROVING)
    alice = await account(house.pool, house.people, "alice", "operator")
    async with browser(house) as page:
        await page.come_in()
        refused = await page.post("/api/v1/tokens", json={"name": "mine", "scopes": ["operate"]})
        assert refused.status_code == 403
        assert (await page.post("/api/v1/groups", json={"name": "G"})).status_code == 403
        totp, _ = await with_totp(house.pool, house.people, alice)
        await page.come_in(code=totp.at(NOW))
        assert (await page.post("/api/v1/groups", json={"name": "G"})).status_code == 201
        made = await page.post("/api/v1/tokens", json={"name": "mine", "scopes": ["operate"]})
        assert made.status_code == 201


async def test_a_refused_change_by_a_token_is_on_record(with_people: Any) -> None:
    house = with_people()
    async with house.client(Scope.READ) as client:
        assert (await client.post("/api/v1/groups", json={"name": "G"})).status_code == 403
        assert (await client.get("/api/v1/tokens")).status_code == 403
    assert [line[:3] for line in house.audit()] == [
        ("token:1 read", "request.refused", "POST /api/v1/groups")
    ]
