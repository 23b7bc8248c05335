"""What tests of people share: an account with roles, a cheap hasher, a second factor in hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
from argon2 import PasswordHasher
from pydantic import SecretStr

from headend.keys.seal import MasterKey, Sealer
from headend.people import changes, second_factor
from headend.people.login import Ask, People
from headend.people.passwords import Passwords
from headend.store import accounts
from headend.store.accounts import Account
from headend.store.sessions import SessionKind
from schemas.people import ROLES, Grant, Permission, Role

PASSWORD = "correct horse battery staple"
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
#: Hashes of tests: the real function at next to no cost.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
APPROVING = frozenset(one for one in Role if Permission.APPROVE in ROLES[one])


def people(*, second: frozenset[Role] = frozenset(), **other: Any) -> People:
    sealer = other.pop("sealer", Sealer(MasterKey(bytes(range(32)))))
    return replace(People(passwords=Passwords(CHEAP)), sealer=sealer, second_factor_roles=second, **other)


async def account(
    pool: Any, with_: People, login: str = "alice", *roles: str, password: str | None = PASSWORD
) -> Account:
    """An account that has these roles."""
    async with pool.connection() as connection:
        made = await changes.create(
            connection,
            with_,
            login=login,
            title=login.title(),
            password=password,
            must_change=False,
            actor="test",
            now=NOW,
        )
        await accounts.set_grants(connection, made.account_id, [Grant.parse(one) for one in roles])
        return await accounts.get(connection, made.account_id)


async def with_totp(
    pool: Any, with_: People, of: Account, *, now: datetime = NOW
) -> tuple[pyotp.TOTP, list[str]]:
    """A second factor, confirmed a minute before ``now``, and its recovery codes."""
    async with pool.connection() as connection:
        enrolled = await second_factor.enrol(connection, of, with_.sealer)
        totp = pyotp.TOTP(enrolled.secret)
        before = now - timedelta(minutes=1)
        codes = await second_factor.confirm(
            connection, of.account_id, with_.sealer, totp.at(before), now=before
        )
    return totp, codes


def ask(login: str = "alice", password: str = PASSWORD, code: str | None = None, **other: Any) -> Ask:
    return Ask(
        login,
        SecretStr(password),
        other.pop("kind", SessionKind.BROWSER),
        None if code is None else SecretStr(code),
        other.pop("address", "192.0.2.7"),
        other.pop("user_agent", "a browser"),
    )
