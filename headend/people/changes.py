"""What is done to accounts, each change audited in its own transaction; it holds for whatever is asked next.

Changes of roles need a second person, but the first administrator's, whom the host makes: `needs_second`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from headend.people import passwords as rules
from headend.people.login import People
from headend.store import accounts, audit, sessions
from headend.store.accounts import Account
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from schemas.people import AccountState, Grant, Role

_ADMIN: Final = Grant(Role.ADMINISTRATOR)


class LastAdministrator(ConflictError):
    """Nobody would be left to see to people; the message says what to do."""


async def create(
    connection: Connection,
    people: People,
    *,
    login: str,
    title: str,
    password: str | None,
    must_change: bool,
    actor: str,
    now: datetime,
) -> Account:
    """A new account without roles. Raises WeakPassword, ConflictError for a login in use."""
    hashed = None
    if password is not None:
        rules.check(password, login=login)
        hashed = await people.passwords.hash(password)
    async with connection.transaction():
        account = await accounts.add(
            connection, login=login, title=title, password=hashed, must_change=must_change, now=now
        )
        await _record(connection, actor, "create", account, {"title": title})
    return account


async def set_state(
    connection: Connection, account: Account, state: AccountState, *, actor: str, now: datetime
) -> None:
    """Lock, disable or let in again. Out, its sessions end and its tokens do nothing. Raises
    LastAdministrator."""
    async with connection.transaction():
        await accounts.lock(connection, account.account_id)
        await accounts.set_state(connection, account.account_id, state)
        if state is not AccountState.ACTIVE:
            await sessions.end_all(connection, account.account_id, now=now)
            await _keep_one(connection, account)
        await _record(connection, actor, "state", account, {"from": account.state, "to": state})


async def set_grants(
    connection: Connection,
    account: Account,
    grants: Iterable[Grant],
    *,
    actor: str,
    asked_by: str | None = None,
) -> None:
    """These roles and no others. Raises ConflictError for an area that is none, LastAdministrator."""
    wanted = sorted(set(grants), key=str)
    async with connection.transaction():
        await accounts.lock(connection, account.account_id)
        before = (await accounts.get(connection, account.account_id)).grants
        await accounts.set_grants(connection, account.account_id, wanted)
        await _keep_one(connection, account)
        detail: dict[str, object] = {"from": [str(one) for one in before], "to": [str(one) for one in wanted]}
        if asked_by is not None:
            detail["asked_by"] = asked_by
        await _record(connection, actor, "roles", account, detail)


async def set_password(
    connection: Connection,
    people: People,
    account: Account,
    password: str,
    *,
    must_change: bool,
    actor: str,
    now: datetime,
    but: int | None = None,
) -> None:
    """Another password; all sessions end except ``but``. Raises WeakPassword."""
    rules.check(password, login=account.login)
    hashed = await people.passwords.hash(password)
    async with connection.transaction():
        await accounts.lock(connection, account.account_id)
        await accounts.set_password(connection, account.account_id, hashed, now=now, must_change=must_change)
        ended = await sessions.end_all(connection, account.account_id, now=now, but=but)
        await _record(connection, actor, "password", account, {"sessions_ended": ended})


async def remove_totp(
    connection: Connection, account: Account, *, actor: str, now: datetime, but: int | None = None
) -> None:
    """No second factor any more: all sessions end except ``but``."""
    async with connection.transaction():
        await accounts.lock(connection, account.account_id)
        await accounts.remove_totp(connection, account.account_id)
        ended = await sessions.end_all(connection, account.account_id, now=now, but=but)
        await _record(connection, actor, "totp.remove", account, {"sessions_ended": ended})


async def end_sessions(connection: Connection, account: Account, *, actor: str, now: datetime) -> int:
    """All of them, at once: how many."""
    async with connection.transaction():
        ended = await sessions.end_all(connection, account.account_id, now=now)
        await _record(connection, actor, "sessions.end", account, {"sessions_ended": ended})
    return ended


async def needs_second(connection: Connection, account: Account, wanted: Iterable[Grant]) -> bool:
    """Whether a change of roles needs a second person: all do, but the first administrator's."""
    first = await accounts.holders(connection, Role.ADMINISTRATOR) == 0
    return not (first and not account.grants and set(wanted) == {_ADMIN})


async def _keep_one(connection: Connection, account: Account) -> None:
    was_admin = _ADMIN in account.grants and account.state is AccountState.ACTIVE
    if was_admin and await accounts.holders(connection, Role.ADMINISTRATOR) == 0:
        raise LastAdministrator(
            f"{account.login} is the last administrator: make another one before, for nobody could after"
        )


async def _record(
    connection: Connection, actor: str, what: str, account: Account, detail: dict[str, object]
) -> None:
    await audit.record(
        connection, actor=actor, action=f"account.{what}", object_=f"account:{account.login}", detail=detail
    )
