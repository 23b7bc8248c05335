"""Who acts, by what he brings: an API token, a session, or the host's own command line.

| brought | may do | account |
|---|---|---|
| token of nobody | what its scopes allow | none: can ask, never approve |
| token of an account | what scopes and its owner's roles allow, but approve: a person's act | the owner |
| session | what the roles allow; those that need a second factor once it was shown | his |
| the host (no log-in) | what an operator may ask for, and the people and the rest of this host | none |
"""

import os
import pwd
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from headend.clock import utc_now
from headend.store import accounts, sessions, tokens
from headend.store.errors import UnknownError
from headend.store.sessions import OpenSession, SessionKind
from headend.store.sql import Connection
from headend.store.tokens import Scope, Token
from schemas.config import Settings
from schemas.people import ROLES, AccountState, Grant, Permission, Principal, Role

_OPERATOR: Final = frozenset(Permission) - {Permission.ADMINISTER, Permission.PEOPLE, Permission.AUDIT}
#: What each scope allows.
OF_SCOPES: Final = {
    Scope.READ: frozenset({Permission.READ}),
    Scope.OPERATE: _OPERATOR,
    Scope.ADMIN: frozenset(Permission),
}


class NotLoggedIn(UnknownError):
    """What the command line acts by is not good any more; the message says what to do."""


def scope_for(any_of: Iterable[Permission]) -> Scope:
    """The smallest scope that allows one of these."""
    wanted = frozenset(any_of)
    return next(scope for scope in Scope if OF_SCOPES[scope] & wanted)


async def principal_of_token(connection: Connection, secret: str, *, now: datetime) -> Principal | None:
    """Whom a token stands for; None where it is unknown, over or revoked, or its owner is not active."""
    token = await tokens.verify(connection, secret, now=now)
    return None if token is None else await _of_token(connection, token)


async def _of_token(connection: Connection, token: Token) -> Principal | None:
    allowed: frozenset[Permission] = frozenset().union(*(OF_SCOPES[scope] for scope in token.scopes))
    actor = f"token:{token.token_id} {token.name}"
    if token.account_id is None:
        return Principal(actor, allowed, token=token.token_id)
    owner = await accounts.get(connection, token.account_id)
    if owner.state is not AccountState.ACTIVE:
        return None
    whole = principal(f"{actor} of {owner.login}", owner.account_id, owner.grants)
    return Principal(
        whole.actor,
        (whole.permissions & allowed) - {Permission.APPROVE},
        whole.account,
        whole.areas,
        whole.grants,
        token.token_id,
    )


async def principal_of_session(
    connection: Connection,
    secret: str,
    kind: SessionKind,
    *,
    now: datetime,
    second_factor_roles: frozenset[Role],
) -> tuple[Principal, OpenSession] | None:
    """Whom a session stands for; None where it is unknown or over, or its account is not active."""
    found = await sessions.verify(connection, secret, kind, now=now)
    if found is None:
        return None
    held = found.grants if not found.must_change else ()
    if not found.session.second_factor:
        held = tuple(one for one in held if one.role not in second_factor_roles)
    number = found.session.account_id
    return principal(f"account:{number} {found.login}", number, held), found


async def former_actor(connection: Connection, secret: str) -> str | None:
    """Whom a secret stood for that is not good now: expired, revoked, ended, in the wrong place, or of an
    account that is not active; None: it was never given to anybody."""
    token = await tokens.of_secret(connection, secret)
    if token is not None:
        return f"token:{token.token_id} {token.name}"
    owner = await sessions.of_secret(connection, secret)
    return None if owner is None else f"account:{owner[0]} {owner[1]}"


def principal(actor: str, account: int | None, grants: Iterable[Grant]) -> Principal:
    """Somebody with these roles."""
    held = tuple(sorted(grants, key=str))
    permissions: frozenset[Permission] = frozenset().union(*(ROLES[one.role] for one in held))
    return Principal(actor, permissions, account, grants=held).at(*permissions)


# ---- the command line -----------------------------------------------------------------------------------


def login_file() -> Path:
    """Where `headend login` keeps its session: readable by its owner alone."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "headend" / "session"


def kept_session() -> str | None:
    """The session that `headend login` keeps. Raises NotLoggedIn where its file is open to others."""
    path = login_file()
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise NotLoggedIn(
            f"{path} cannot be read ({type(error).__name__}): headend logout removes it"
        ) from None
    if mode & 0o077:
        raise NotLoggedIn(f"{path} is open to others: `headend logout`, then `headend login` makes it anew")
    return text or None


def host_actor() -> str:
    """Who acts on the host by itself, without a log-in: ``host:`` and the operating system's user."""
    number = os.getuid()
    try:
        return f"host:{pwd.getpwuid(number).pw_name}"
    except KeyError:  # a container may run under a number that has no name
        return f"host:{number}"


async def cli_principal(connection: Connection, settings: Settings) -> Principal:
    """Who acts on the command line: HEADEND_TOKEN, the session of `headend login`, else the host.

    Whoever may start commands on the host reads its database: it is asked for no password, and it is nobody's
    account, so that it can ask for anything and approve of nothing. Raises NotLoggedIn where what was given
    is not good any more: a command never runs with more rights than it was started with.
    """
    now = utc_now()
    if settings.token is not None:
        of_token = await principal_of_token(connection, settings.token.get_secret_value(), now=now)
        if of_token is None:
            raise NotLoggedIn(
                "the token of HEADEND_TOKEN is unknown, expired or revoked: `headend token create` makes "
                "another; without one, unset HEADEND_TOKEN"
            )
        return of_token
    secret = kept_session()
    if secret is None:
        return Principal(host_actor(), frozenset(Permission) - {Permission.APPROVE})
    found = await principal_of_session(
        connection,
        secret,
        SessionKind.CLI,
        now=now,
        second_factor_roles=frozenset(settings.second_factor_roles),
    )
    if found is None:
        raise NotLoggedIn(
            f"the log-in kept in {login_file()} is over: `headend login` anew, or `headend logout` to act as "
            "the host"
        )
    return found[0]
