"""What a person does to his own account: another password, a second factor.

A session that somebody got hold of is not enough: each asks for the password, and wrong ones are slowed down
as at log-in.
"""

from datetime import datetime

from pydantic import SecretStr

from headend.people import changes, second_factor, throttle
from headend.people.login import BadCredentials, Connect, People
from headend.people.second_factor import Enrolment
from headend.store import accounts, audit, sessions
from headend.store.accounts import Account
from headend.store.errors import ConflictError
from headend.store.sessions import OpenSession
from headend.store.sql import Connection


async def change_password(
    connect: Connect,
    people: People,
    opened: OpenSession,
    current: SecretStr,
    new: SecretStr,
    *,
    now: datetime,
) -> None:
    """Another password; all other sessions end. Raises BadCredentials, Throttled, WeakPassword."""
    account = await _known(connect, people, opened, current, now)
    async with connect() as connection:
        await changes.set_password(
            connection,
            people,
            account,
            new.get_secret_value(),
            must_change=False,
            actor=account.actor,
            now=now,
            but=opened.session.session_id,
        )


async def begin_totp(
    connect: Connect, people: People, opened: OpenSession, password: SecretStr, *, now: datetime
) -> Enrolment:
    """A secret for the telephone. Raises BadCredentials, Throttled, NoMasterKey, ConflictError."""
    account = await _known(connect, people, opened, password, now)
    async with connect() as connection, connection.transaction():
        enrolment = await second_factor.enrol(connection, account, people.sealer)
        await _record(connection, account, "totp.begin")
    return enrolment


async def confirm_totp(
    connect: Connect, people: People, opened: OpenSession, code: SecretStr, *, now: datetime
) -> list[str]:
    """The second factor holds from now on, in this session too; others end. The recovery codes, told this
    once. Raises WrongCode, NoMasterKey, ConflictError, Throttled."""
    number = opened.session.account_id
    async with connect() as connection, connection.transaction():
        charged = await throttle.charge(connection, opened.login, None, now=now)
    async with connect() as connection, connection.transaction():
        account = await accounts.get(connection, number)
        given = code.get_secret_value().strip()
        codes = await second_factor.confirm(connection, number, people.sealer, given, now=now)
        await throttle.succeeded(connection, charged, now=now)
        await sessions.prove(connection, opened.session.session_id)
        await sessions.end_all(connection, number, now=now, but=opened.session.session_id)
        await _record(connection, account, "totp.confirm")
    return codes


async def remove_totp(
    connect: Connect,
    people: People,
    opened: OpenSession,
    password: SecretStr,
    code: SecretStr,
    *,
    now: datetime,
) -> None:
    """No second factor any more: roles that need one count no longer, and all sessions end. Raises
    BadCredentials, Throttled, NoMasterKey, ConflictError."""
    account = await _known(connect, people, opened, password, now)
    if account.totp_since is None:
        raise ConflictError("there is no second factor")
    async with connect() as connection, connection.transaction():
        charged = await throttle.charge(connection, opened.login, None, now=now)
    async with connect() as connection, connection.transaction():
        held = await accounts.lock(connection, account.account_id)
        given = code.get_secret_value().strip()
        if not await second_factor.shown(connection, held, people.sealer, given, now=now):
            raise BadCredentials
        await throttle.succeeded(connection, charged, now=now)
        await changes.remove_totp(connection, account, actor=account.actor, now=now)


async def _known(
    connect: Connect, people: People, opened: OpenSession, password: SecretStr, now: datetime
) -> Account:
    """The account, its password having been shown once more."""
    async with connect() as connection, connection.transaction():
        charged = await throttle.charge(connection, opened.login, None, now=now)
        held = await accounts.credentials(connection, opened.login)
        account = await accounts.get(connection, opened.session.account_id)
    stored = None if held is None else held.password
    matches = await people.passwords.verify(stored, password.get_secret_value())
    async with connect() as connection, connection.transaction():
        if matches:
            await throttle.give_back(connection, charged, now=now)
        else:
            await _record(connection, account, "password.refused")
    if not matches:
        raise BadCredentials
    return account


async def _record(connection: Connection, account: Account, what: str) -> None:
    await audit.record(
        connection, actor=account.actor, action=f"account.{what}", object_=f"account:{account.login}"
    )
