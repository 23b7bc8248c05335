"""Log-in: what it takes, what it costs, what it tells, and how it is slowed down. The clock is the test's."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from headend.keys.seal import MasterKey, Sealer
from headend.people import changes, second_factor, throttle
from headend.people.identity import principal_of_session, principal_of_token
from headend.people.login import BadCredentials, CodeNeeded, log_in
from headend.people.second_factor import NoMasterKey
from headend.people.throttle import Throttled
from headend.store import accounts, audit, sessions, tokens
from headend.store.pool import open_pool
from headend.store.sessions import SessionKind
from headend.store.tokens import Scope
from schemas.people import AccountState, Grant, Permission
from tests.integration.people import APPROVING, NOW, PASSWORD, account, ask, people, with_totp

SECOND = timedelta(seconds=1)


@pytest.fixture
async def pool(embedded_database: Any) -> AsyncIterator[Any]:
    async with open_pool(embedded_database.dsn, max_size=8) as opened:
        yield opened


async def actions(pool: Any) -> list[tuple[str, str, str]]:
    async with pool.connection() as connection:
        return [(one.actor, one.action, one.object) for one in await audit.page(connection, limit=100)]


async def test_a_session_is_what_its_account_is_now(pool: Any) -> None:
    who = people(idle_s=600, longest_s=3600)
    alice = await account(pool, who, "alice", "operator")
    issued = await log_in(pool.connection, who, ask(" Alice "), now=NOW)
    assert issued.secret not in repr(issued)

    async def seen(after: timedelta, kind: SessionKind = SessionKind.BROWSER) -> Any:
        async with pool.connection() as connection:
            return await principal_of_session(
                connection, issued.secret, kind, now=NOW + after, second_factor_roles=frozenset()
            )

    principal, opened = await seen(SECOND)
    assert (principal.actor, principal.account) == (f"account:{alice.account_id} alice", alice.account_id)
    assert principal.permissions & {Permission.SWITCH, Permission.KEYS} == {Permission.SWITCH}
    assert await seen(SECOND, SessionKind.CLI) is None, "a browser's secret is no bearer token"
    async with pool.connection() as connection:
        await changes.set_grants(connection, alice, [Grant.parse("viewer")], actor="test")
    assert (await seen(2 * SECOND))[0].permissions == {Permission.READ}
    assert await seen(timedelta(seconds=601)) is None, "idle"
    for at in range(1, 60, 8):  # used all along: then it ends by its age
        assert await seen(timedelta(minutes=at)) is not None, at
    assert await seen(timedelta(seconds=3601)) is None
    assert opened.session.session_id == issued.session_id


@pytest.mark.parametrize("state", [AccountState.LOCKED, AccountState.DISABLED])
async def test_who_is_out_is_out_at_once(pool: Any, state: AccountState) -> None:
    who = people()
    alice = await account(pool, who, "alice", "operator")
    issued = await log_in(pool.connection, who, ask(), now=NOW)
    async with pool.connection() as connection:
        token = await tokens.create(connection, name="t", scopes=[Scope.OPERATE], account_id=alice.account_id)
        assert await principal_of_token(connection, token.secret, now=NOW) is not None
        await changes.set_state(connection, alice, state, actor="test", now=NOW)
        assert await principal_of_token(connection, token.secret, now=NOW) is None
        assert await sessions.verify(connection, issued.secret, SessionKind.BROWSER, now=NOW) is None
    with pytest.raises(BadCredentials):
        await log_in(pool.connection, who, ask(), now=NOW)
    async with pool.connection() as connection:
        alice = await accounts.get(connection, alice.account_id)
        await changes.set_state(connection, alice, AccountState.ACTIVE, actor="test", now=NOW)
        assert await sessions.verify(connection, issued.secret, SessionKind.BROWSER, now=NOW) is None
        assert await principal_of_token(connection, token.secret, now=NOW) is not None


async def test_a_token_has_no_more_than_its_owner(pool: Any) -> None:
    who = people()
    alice = await account(pool, who)
    async with pool.connection() as connection:
        token = await tokens.create(connection, name="t", scopes=[Scope.ADMIN], account_id=alice.account_id)
        for role, has, lacks in (
            ("operator", Permission.SWITCH, Permission.KEYS),
            ("administrator", Permission.PEOPLE, Permission.SWITCH),
            ("viewer", Permission.READ, Permission.OPERATE),
        ):
            await accounts.set_grants(connection, alice.account_id, [Grant.parse(role)])
            found = await principal_of_token(connection, token.secret, now=NOW)
            assert found is not None
            assert found.permissions & {has, lacks} == {has}, role
            assert not found.may(Permission.APPROVE), "approving is a person's act"
            assert found.account == alice.account_id
        await accounts.set_grants(connection, alice.account_id, [])
        found = await principal_of_token(connection, token.secret, now=NOW)
        assert found is not None
        assert found.permissions == frozenset()


async def test_every_refusal_costs_one_verification_and_looks_alike(pool: Any) -> None:
    who = people()
    alice = await account(pool, who, "alice")
    locked = await account(pool, who, "locked")
    await account(pool, who, "nopass", password=None)
    totp, _ = await with_totp(pool, who, alice)
    async with pool.connection() as connection:
        await changes.set_state(connection, locked, AccountState.LOCKED, actor="test", now=NOW)
    said = set()
    for wrong in (
        ask("nobody"),
        ask("alice", "wrong password"),
        ask("alice", code="000000" if totp.at(NOW) != "000000" else "000001"),
        ask("alice", code="aaaa-bbbb"),
        ask("locked"),
        ask("nopass"),
        ask("alice", "x" * 10_000),
    ):
        before = who.passwords.verified
        with pytest.raises(BadCredentials) as refused:
            await log_in(pool.connection, who, wrong, now=NOW)
        assert who.passwords.verified == before + 1, wrong.login
        said.add(str(refused.value))
    assert len(said) == 1
    done = await actions(pool)
    refusals = [one for one in done if one[1] == "session.refused"]
    assert len(refusals) == 7
    assert {one[2] for one in refusals} == {
        "account:unknown",
        "account:alice",
        "account:locked",
        "account:nopass",
    }
    assert "wrong password" not in str(done)
    assert "account:nobody" not in str(done)


async def test_the_second_factor_is_asked_for_and_used_once(pool: Any) -> None:
    who = people()
    alice = await account(pool, who, "alice", "operator")
    totp, codes = await with_totp(pool, who, alice)
    with pytest.raises(CodeNeeded):
        await log_in(pool.connection, who, ask(), now=NOW)
    await log_in(pool.connection, who, ask(code=totp.at(NOW)), now=NOW)
    for moment in (NOW, NOW + 2 * SECOND):  # replayed, by whoever looked over the shoulder
        with pytest.raises(BadCredentials):
            await log_in(pool.connection, who, ask(code=totp.at(NOW)), now=moment)
    with pytest.raises(BadCredentials):  # older than what was used
        await log_in(pool.connection, who, ask(code=totp.at(NOW - 30 * SECOND)), now=NOW + 9 * SECOND)
    later = NOW + 60 * SECOND
    await log_in(pool.connection, who, ask(code=totp.at(later - 30 * SECOND)), now=later)  # a slow clock
    with pytest.raises(BadCredentials):  # two steps behind
        await log_in(pool.connection, who, ask(code=totp.at(NOW + 300 * SECOND)), now=NOW + 400 * SECOND)
    used = codes[0].upper()
    issued = await log_in(pool.connection, who, ask(code=used), now=NOW + 500 * SECOND)
    with pytest.raises(BadCredentials):
        await log_in(pool.connection, who, ask(code=used), now=NOW + 500 * SECOND)
    async with pool.connection() as connection:
        assert await accounts.codes_left(connection, alice.account_id) == len(codes) - 1
        opened = await sessions.verify(connection, issued.secret, SessionKind.BROWSER, now=NOW + 500 * SECOND)
    assert opened is not None
    assert opened.session.second_factor


async def test_the_same_code_twice_at_once_is_taken_once(pool: Any) -> None:
    who = people()
    totp, _ = await with_totp(pool, who, await account(pool, who))
    tries = [log_in(pool.connection, who, ask(code=totp.at(NOW)), now=NOW) for _ in range(4)]
    came = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(one).__name__ for one in came) == ["BadCredentials"] * 3 + ["IssuedSession"]


async def test_roles_that_need_a_second_factor_count_when_it_was_shown(pool: Any) -> None:
    who = people(second=APPROVING)
    alice = await account(pool, who, "alice", "operator", "viewer")

    async def permissions(secret: str) -> frozenset[Permission]:
        async with pool.connection() as connection:
            found = await principal_of_session(
                connection, secret, SessionKind.BROWSER, now=NOW, second_factor_roles=who.second_factor_roles
            )
        assert found is not None
        return found[0].permissions

    bare = await log_in(pool.connection, who, ask(), now=NOW)
    assert await permissions(bare.secret) == {Permission.READ}
    totp, _ = await with_totp(pool, who, alice)
    both = await log_in(pool.connection, who, ask(code=totp.at(NOW)), now=NOW)
    assert Permission.APPROVE in await permissions(both.secret)
    assert await permissions(bare.secret) == {Permission.READ}


async def test_a_second_factor_needs_the_master_key_and_goes_with_it(pool: Any) -> None:
    who = people()
    alice = await account(pool, who)
    async with pool.connection() as connection:
        with pytest.raises(NoMasterKey, match="HEADEND_MASTER_KEY_FILE"):
            await second_factor.enrol(connection, alice, None)
    totp, _ = await with_totp(pool, who, alice)
    with pytest.raises(NoMasterKey):
        await log_in(pool.connection, people(sealer=None), ask(code=totp.at(NOW)), now=NOW)
    former, present = MasterKey(bytes(range(32))), MasterKey(bytes(32))
    async with pool.connection() as connection:
        assert await second_factor.reseal(connection, Sealer(present, [former])) == 1
        assert await second_factor.reseal(connection, Sealer(present, [former])) == 0
    await log_in(pool.connection, people(sealer=Sealer(present)), ask(code=totp.at(NOW)), now=NOW)


# ---- throttling -----------------------------------------------------------------------------------------


async def tried(pool: Any, who: Any, at: Any, **other: Any) -> str:
    try:
        await log_in(pool.connection, who, ask(**other), now=at)
    except BadCredentials:
        return "refused"
    except Throttled as error:
        return str(error.after_s)
    return "in"


async def test_failed_log_ins_wait_twice_as_long_each_time_and_never_for_ever(pool: Any) -> None:
    who = people()
    await account(pool, who)
    now, waits = NOW, []
    for n in range(16):
        address = f"192.0.2.{n}"
        assert await tried(pool, who, now, password="wrong password", address=address) == "refused"
        if n < 4:
            continue
        verified = who.passwords.verified
        waits.append(int(await tried(pool, who, now, password="wrong password", address=address)))
        now += waits[-1] * SECOND
        assert await tried(pool, who, now - SECOND / 10) == "1", "the right one waits too"
        assert who.passwords.verified == verified, "what comes too soon is not looked at"
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert await tried(pool, who, now) == "in", "after the longest wait its owner comes in"
    assert await tried(pool, who, now, password="wrong password") == "refused", "and nothing is held any more"
    assert await tried(pool, who, now) == "in"


async def test_names_that_nobody_has_are_slowed_down_alike(pool: Any) -> None:
    who = people()
    await account(pool, who)
    for name in ("alice", "nobody"):
        said = [await tried(pool, who, NOW, login=name, password="wrong password") for _ in range(7)]
        assert said == ["refused"] * 5 + ["1", "1"], name


async def test_an_address_is_slowed_down_over_all_names(pool: Any) -> None:
    who = people()
    await account(pool, who)
    said = [await tried(pool, who, NOW, login=f"n{n}", password="x") for n in range(21)]
    assert said == ["refused"] * 20 + ["1"]
    assert await tried(pool, who, NOW) == "1"
    assert await tried(pool, who, NOW, address="198.51.100.1") == "in", "others are not held up"


async def test_many_at_once_count_one_by_one(pool: Any) -> None:
    who = people()
    await account(pool, who)
    came = await asyncio.gather(
        *(tried(pool, who, NOW, password="wrong password", address=f"192.0.2.{n}") for n in range(12))
    )
    assert came.count("refused") == 5
    assert who.passwords.verified == 5


async def test_a_right_password_without_its_code_buys_no_guesses(pool: Any) -> None:
    who = people()
    totp, _ = await with_totp(pool, who, await account(pool, who))
    wrong = "000000" if totp.at(NOW) != "000000" else "000001"
    guesses = 0
    for _ in range(30):
        try:
            await log_in(pool.connection, who, ask(code=wrong), now=NOW)
        except BadCredentials:
            guesses += 1
        except Throttled:
            break
        with pytest.raises((CodeNeeded, Throttled)):
            await log_in(pool.connection, who, ask(), now=NOW)
    assert guesses == 5


def test_how_long_is_waited() -> None:
    assert [throttle.wait_s(n, 5) for n in (0, 4, 5, 6, 14, 15, 10_000)] == [0, 0, 1, 2, 512, 900, 900]


def test_an_address_is_what_one_subscriber_has() -> None:
    for address, same in (
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
    ):
        assert throttle.network(address) == same


async def test_passwords_that_are_guessed_first_are_not_taken(pool: Any) -> None:
    for wrong in ("short", "aaaaaaaaaaaaaaaa", "alice1234567", "x" * 300):
        with pytest.raises(ValueError, match="password"):
            await account(pool, people(), "alice", password=wrong)
    assert PASSWORD not in str(await actions(pool))
