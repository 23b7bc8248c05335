"""Changes that nobody known asks for are refused and on record, and strangers cannot fill the trail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from api.app import create_app
from api.refusals import NOBODY, Refusals, Whence
from headend.people import changes
from headend.store import accounts, sessions, tokens
from headend.store.sessions import SessionKind
from headend.store.tokens import Scope
from schemas.people import AccountState
from tests.integration.api.conftest import NOW
from tests.integration.people import account, people

GROUPS, TAGS = "/api/v1/groups", "/api/v1/tags"
T = datetime(2026, 3, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def stranger(n: int, operation: str = "POST /groups") -> Whence:
    return Whence(NOBODY, f"192.0.2.{n}", operation)


def test_of_a_stranger_the_first_of_a_minute_is_told_and_the_rest_counted() -> None:
    refusals = Refusals()
    assert [refusals.is_told(stranger(1), T) for _ in range(1000)] == [True] + [False] * 999
    assert refusals.is_told(stranger(2), T)
    assert refusals.is_told(stranger(1, "POST /tags"), T)
    assert refusals.ended(T + MINUTE * 0.99) == []
    (beyond,) = refusals.ended(T + MINUTE)
    assert (beyond.whence, beyond.times, beyond.since) == (stranger(1), 999, T)
    assert refusals.ended(T + MINUTE) == []
    assert refusals.is_told(stranger(1), T + MINUTE)


def test_however_many_addresses_a_stranger_has_entries_are_few() -> None:
    refusals = Refusals()
    told = sum(refusals.is_told(stranger(n), T) for n in range(10_000))
    assert told == 201
    assert sum(one.times for one in refusals.ended(T + MINUTE)) == 10_000 - told


def test_of_what_was_good_once_nothing_is_lost() -> None:
    refusals = Refusals()
    for n in range(500):  # whatever strangers do meanwhile
        refusals.is_told(stranger(n), T)
    former = Whence("token:3 nightly", "", "several")
    assert sum(refusals.is_told(former, T) for _ in range(100)) == 60
    (beyond,) = [one for one in refusals.ended(T + MINUTE) if one.whence == former]
    assert beyond.times == 40


async def test_refused_changes_of_who_is_not_known_are_on_record(house: Any) -> None:
    with_ = people()
    bob = await account(house.pool, with_, "bob", "operator")
    at = [NOW]
    house.app = create_app(replace(house.app.state.services, people=with_, clock=lambda: at[0]))
    async with house.pool.connection() as connection:
        made = [
            await tokens.create(connection, name=name, scopes=[Scope.OPERATE], **more)
            for name, more in (
                ("revoked", {}),
                ("expired", {"expires_at": NOW}),
                ("his", {"account_id": bob.account_id}),
            )
        ]
        await tokens.revoke(connection, made[0].token.token_id, now=NOW)
        ended = await sessions.add(
            connection, bob.account_id, SessionKind.CLI, second_factor=True, idle_s=60, longest_s=60, now=NOW
        )
        await sessions.end(connection, ended.session_id, now=NOW)
        locked = await accounts.by_login(connection, "bob")
        await changes.set_state(connection, locked, AccountState.LOCKED, actor="test", now=NOW)
    before = len(house.audit())
    secrets = [one.secret for one in made] + [ended.secret]
    async with house.client(None) as anybody:

        async def post(path: str, secret: str | None = None, **headers: str) -> httpx.Response:
            sent = headers if secret is None else {"Authorization": f"Bearer {secret}", **headers}
            answer = await anybody.post(path, json={}, headers=sent)
            assert answer.status_code == 401
            return answer

        for secret in secrets:
            for _ in range(2):
                told = await post(GROUPS, secret, **{"X-Correlation-Id": "c-1"})
                assert "unknown, expired or revoked" in told.json()["detail"]
        for n in range(3):
            await post(GROUPS, "hdnd_" + "x" * 43, **{"X-Correlation-Id": f"c-{n}"})
        await post(f"/api/v1/meters/{'y' * 99}/states")
        assert (await anybody.get(GROUPS)).status_code == 401
        entries = house.audit()[before:]
        former = ["token:4 revoked", "token:5 expired", "token:6 his", f"account:{bob.account_id} bob"]
        assert [line[0] for line in entries] == [who for who in former for _ in range(2)] + [NOBODY] * 2
        assert {(line[1], line[2]) for line in entries[:8]} == {("request.refused", f"POST {GROUPS}")}
        assert [line[2:] for line in entries[8:]] == [
            (f"POST {GROUPS}", {"reason": "no token or session that there is", "source": "127.0.0.1",
                                "correlation_id": "c-0"}),
            ("POST /api/v1/meters/{asset_id}/states",
             {"reason": "no token or session that there is", "source": "127.0.0.1"}),
        ]  # fmt: skip
        at[0] += MINUTE
        async with house.client() as reader:
            await reader.get(GROUPS)
        (rest,) = house.audit()[before + 10 :]
    assert rest[:3] == (NOBODY, "request.refused", f"POST {GROUPS}")
    assert (rest[3]["times"], rest[3]["since"]) == (2, "2026-03-10T12:00:00Z")
    assert not any(secret in str(house.audit()) for secret in secrets)
