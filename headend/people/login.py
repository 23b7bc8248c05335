"""Log-in by password and second factor: a session, or a refusal that tells as little as it can.

::

    charge the try (committed) ──> verify the password, once, whoever it is ──> second factor ──> session
          │ too soon                     │ wrong, unknown, locked, disabled         │ missing, wrong, used
          └── Throttled                  └── BadCredentials          CodeNeeded, BadCredentials ──┘
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import SecretStr

from headend.keys.seal import Sealer
from headend.people import second_factor, throttle
from headend.people.passwords import LONGEST, Passwords
from headend.people.throttle import Charged
from headend.store import accounts, audit, sessions
from headend.store.accounts import Account, Credentials
from headend.store.errors import UnknownError
from headend.store.sessions import IssuedSession, SessionKind
from headend.store.sql import Connection
from schemas.config import Settings
from schemas.people import AccountState, Role

Connect = Callable[[], AbstractAsyncContextManager[Connection]]

#: Characters of a browser's name that are kept.
_AGENT: Final = 200


class BadCredentials(Exception):
    """Login, password or code is not right, or the account may not log in: which, is not told."""

    def __init__(self) -> None:
        super().__init__(
            "login, password or code is not right, or the account is locked; an administrator can help"
        )


class CodeNeeded(Exception):
    """The password is right, and the account has a second factor."""

    def __init__(self) -> None:
        super().__init__("the account has a second factor: send its code too, or a recovery code")


@dataclass(frozen=True, slots=True)
class People:
    """What log-ins and sessions are made with, from the settings."""

    passwords: Passwords = field(default_factory=Passwords)
    sealer: Sealer | None = None
    idle_s: float = 3_600
    longest_s: float = 43_200
    second_factor_roles: frozenset[Role] = frozenset()
    plain_http: bool = False

    @classmethod
    def of(cls, settings: Settings, sealer: Sealer | None, passwords: Passwords | None = None) -> "People":
        """As the settings say."""
        return cls(
            passwords or Passwords(),
            sealer,
            settings.session_idle_s,
            settings.session_longest_s,
            frozenset(settings.second_factor_roles),
            settings.session_plain_http,
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants to log in; ``code`` is a one-time password or a recovery code."""

    login: str
    password: SecretStr
    kind: SessionKind
    code: SecretStr | None = None
    address: str | None = None
    user_agent: str | None = None


async def log_in(connect: Connect, people: People, ask: Ask, *, now: datetime) -> IssuedSession:
    """A session of the account. Raises BadCredentials, CodeNeeded, Throttled; NoMasterKey where a second
    factor cannot be looked at."""
    login, password = ask.login.strip().lower(), ask.password.get_secret_value()
    async with connect() as connection, connection.transaction():
        charged = await throttle.charge(connection, login, ask.address, now=now)
        held = await accounts.credentials(connection, login)
    stored = None if held is None else held.password
    # No connection is held meanwhile, and whoever it is, it takes one verification.
    matches = await people.passwords.verify(stored, password[: LONGEST + 1])
    async with connect() as connection, connection.transaction():
        issued = await _proved(connection, people, ask, held if matches else None, charged, now)
        if issued is None:
            await _refused(connection, ask, held)
    if issued is None:
        raise BadCredentials
    if isinstance(issued, CodeNeeded):
        raise issued
    if held is not None and stored is not None and people.passwords.is_cheap(stored):
        again = await people.passwords.hash(password)
        async with connect() as connection:
            await accounts.rehash(connection, held.account_id, former=stored, password=again)
    return issued


async def _proved(
    connection: Connection,
    people: People,
    ask: Ask,
    held: Credentials | None,
    charged: Charged,
    now: datetime,
) -> IssuedSession | CodeNeeded | None:
    """The session; None where something is not right."""
    if held is None:
        return None
    locked = await accounts.lock(connection, held.account_id)
    if locked.state is not AccountState.ACTIVE or locked.password != held.password:
        return None
    with_factor = locked.totp_since is not None
    if with_factor:
        if ask.code is None:
            await throttle.give_back(connection, charged, now=now)
            return CodeNeeded()
        code = ask.code.get_secret_value().strip()
        if not await second_factor.shown(connection, locked, people.sealer, code, now=now):
            return None
    await throttle.succeeded(connection, charged, now=now)
    account = await accounts.get(connection, held.account_id)
    how = "password and second factor" if with_factor else "password"
    return await open_session(connection, people, account, ask, second_factor=with_factor, how=how, now=now)


async def open_session(
    connection: Connection,
    people: People,
    account: Account,
    ask: Any,
    *,
    second_factor: bool,
    how: str,
    now: datetime,
) -> IssuedSession:
    """A session of somebody who has proved who he is. ``ask`` has kind, address and user_agent."""
    agent = None if ask.user_agent is None else ask.user_agent[:_AGENT]
    issued = await sessions.add(
        connection,
        account.account_id,
        ask.kind,
        second_factor=second_factor,
        idle_s=people.idle_s,
        longest_s=people.longest_s,
        now=now,
        address=ask.address,
        user_agent=agent,
    )
    await audit.record(
        connection,
        actor=account.actor,
        action="session.open",
        object_=f"session:{issued.session_id}",
        detail={"by": how, "kind": ask.kind, "address": ask.address},
    )
    return issued


async def log_out(connection: Connection, session_id: int, *, actor: str, now: datetime) -> None:
    """End a session at once. Raises UnknownError."""
    await sessions.end(connection, session_id, now=now)
    await audit.record(connection, actor=actor, action="session.end", object_=f"session:{session_id}")


async def _refused(connection: Connection, ask: Ask, held: Credentials | None) -> None:
    # The name of an account that there is; what else was typed may be a password in the wrong field.
    object_ = "account:unknown"
    if held is not None:
        try:
            object_ = f"account:{(await accounts.get(connection, held.account_id)).login}"
        except UnknownError:
            object_ = f"account:{held.account_id}"
    await audit.record(
        connection,
        actor="nobody",
        action="session.refused",
        object_=object_,
        detail={"reason": "login, password or code", "kind": ask.kind, "address": ask.address},
    )
