"""Accounts of people: who they are, how they prove it, which roles they have. No secret is in any repr."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from headend.store import sql
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.people import AccountState, Grant, Role

_QUERIES: Final = sql.load("accounts")


@dataclass(frozen=True, slots=True)
class Account:
    """A stored account, without its secrets. ``totp_since`` None: no second factor is asked for. Times are
    aware."""

    account_id: int
    login: str
    title: str
    state: AccountState
    has_password: bool
    must_change: bool
    totp_since: datetime | None
    oidc_issuer: str | None
    oidc_subject: str | None
    created_at: datetime
    updated_at: datetime
    grants: tuple[Grant, ...]

    @property
    def actor(self) -> str:
        """How the audit trail names him."""
        return f"account:{self.account_id} {self.login}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a log-in has to show: the password's argon2id form, the sealed secret of one-time passwords."""

    account_id: int
    state: AccountState
    password: str | None = field(repr=False)
    totp: bytes | None = field(repr=False)
    totp_sealed_by: str | None
    totp_since: datetime | None
    totp_step: int | None


async def add(
    connection: Connection,
    *,
    login: str,
    title: str,
    now: datetime,
    password: str | None = None,
    must_change: bool = False,
    oidc: tuple[str, str] | None = None,
) -> Account:
    """A new account without roles; ``password`` is its argon2id form. Raises ConflictError for a login or an
    identity in use."""
    issuer, subject = oidc or (None, None)
    cursor = await connection.execute(
        _QUERIES["add"],
        {
            "login": login,
            "title": title,
            "password": password,
            "must_change": must_change,
            "issuer": issuer,
            "subject": subject,
            "now": sql.aware(now),
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise ConflictError(f"there is an account {login!r} already")
    return await get(connection, row[0])


async def get(connection: Connection, account_id: int) -> Account:
    """One by number. Raises UnknownError."""
    found = await _find(connection, number=account_id)
    if found is None:
        raise UnknownError(f"no account number {account_id}")
    return found


async def by_login(connection: Connection, login: str) -> Account:
    """One by login. Raises UnknownError."""
    found = await _find(connection, login=login)
    if found is None:
        raise UnknownError(f"no account {login!r}; `headend account list` shows them")
    return found


async def by_identity(connection: Connection, issuer: str, subject: str) -> Account | None:
    """The one that a provider of identities knows by ``subject``."""
    return await _find(connection, issuer=issuer, subject=subject)


async def page(connection: Connection, *, limit: int, after: str | None = None) -> list[Account]:
    """At most ``limit`` whose logins come after ``after``, in order."""
    cursor = await connection.execute(_QUERIES["page"], {"limit": limit, "after": after})
    return [_account(row) for row in await cursor.fetchall()]


async def credentials(connection: Connection, login: str) -> Credentials | None:
    """What the log-in of this name has to show; None where there is no such account."""
    row = await (await connection.execute(_QUERIES["credentials"], {"login": login})).fetchone()
    return None if row is None else _credentials(row)


async def lock(connection: Connection, account_id: int) -> Credentials:
    """Keep the account to this transaction. Raises UnknownError."""
    row = await (await connection.execute(_QUERIES["lock"], {"account": account_id})).fetchone()
    if row is None:
        raise UnknownError(f"no account number {account_id}")
    return _credentials(row)


async def set_state(connection: Connection, account_id: int, state: AccountState) -> None:
    """Active, locked or disabled; it holds for whatever is asked next."""
    await connection.execute(_QUERIES["set_state"], {"account": account_id, "state": state})


async def set_password(
    connection: Connection, account_id: int, password: str, *, now: datetime, must_change: bool = False
) -> None:
    """Another password, in its argon2id form."""
    told = {"account": account_id, "password": password, "now": sql.aware(now), "must_change": must_change}
    await connection.execute(_QUERIES["set_password"], told)


async def rehash(connection: Connection, account_id: int, *, former: str, password: str) -> None:
    """The same password in a dearer form, where it is still the same."""
    told = {"account": account_id, "password": password, "former": former}
    await connection.execute(_QUERIES["rehash"], told)


# ---- roles ----------------------------------------------------------------------------------------------


async def set_grants(connection: Connection, account_id: int, grants: Iterable[Grant]) -> None:
    """These roles and no others. Raises ConflictError for an area that is none, or that names two things."""
    held = list(grants)
    await check_areas(connection, held)
    wanted = sorted({(one.role, one.area or "") for one in held})
    await connection.execute(_QUERIES["take_roles"], {"account": account_id})
    told = {
        "account": account_id,
        "roles": [role for role, _ in wanted],
        "areas": [area for _, area in wanted],
    }
    await connection.execute(_QUERIES["give_roles"], told)


async def check_areas(connection: Connection, grants: Iterable[Grant]) -> None:
    """Raises ConflictError for an area that is none, or that names two things."""
    areas = sorted({one.area for one in grants if one.area is not None})
    for area, times in await (
        await connection.execute(_QUERIES["unknown_areas"], {"areas": areas})
    ).fetchall():
        if times == 0:
            raise ConflictError(f"{area!r} is neither a group nor a concentrator, gateway or substation")
        if times > 1:
            raise ConflictError(f"{area!r} is a group and a station: give the group another name first")


async def holders(connection: Connection, role: Role) -> int:
    """How many active accounts have the role everywhere."""
    row = await (await connection.execute(_QUERIES["holders"], {"role": role})).fetchone()
    return 0 if row is None else int(row[0])


# ---- second factor --------------------------------------------------------------------------------------


async def set_totp(connection: Connection, account_id: int, sealed: bytes, sealed_by: str) -> None:
    """A new secret, asked of nobody until it is confirmed."""
    told = {"account": account_id, "sealed": sealed, "sealed_by": sealed_by}
    await connection.execute(_QUERIES["set_totp"], told)


async def confirm_totp(
    connection: Connection, account_id: int, *, step: int, codes: Sequence[bytes], now: datetime
) -> None:
    """From now on it is asked for; ``codes`` are the digests of the recovery codes."""
    await connection.execute(
        _QUERIES["confirm_totp"], {"account": account_id, "step": step, "now": sql.aware(now)}
    )
    await connection.execute(_QUERIES["drop_codes"], {"account": account_id})
    await connection.execute(_QUERIES["add_codes"], {"account": account_id, "digests": list(codes)})


async def remove_totp(connection: Connection, account_id: int) -> None:
    """No second factor any more, and no recovery codes."""
    await connection.execute(_QUERIES["remove_totp"], {"account": account_id})
    await connection.execute(_QUERIES["drop_codes"], {"account": account_id})


async def use_step(connection: Connection, account_id: int, step: int) -> bool:
    """Take a time step, once; False where it or a later one was taken before."""
    cursor = await connection.execute(_QUERIES["use_step"], {"account": account_id, "step": step})
    return await cursor.fetchone() is not None


async def use_code(connection: Connection, account_id: int, digest: bytes, *, now: datetime) -> bool:
    """Take a recovery code, once; False where it is none or was taken before."""
    told = {"account": account_id, "digest": digest, "now": sql.aware(now)}
    return await (await connection.execute(_QUERIES["use_code"], told)).fetchone() is not None


async def codes_left(connection: Connection, account_id: int) -> int:
    """How many recovery codes are left."""
    row = await (await connection.execute(_QUERIES["codes_left"], {"account": account_id})).fetchone()
    return 0 if row is None else int(row[0])


async def other_totps(connection: Connection, sealed_by: str) -> list[tuple[int, bytes, str]]:
    """(account, sealed secret, master key) of those that another master key sealed, kept to this
    transaction."""
    cursor = await connection.execute(_QUERIES["other_totps"], {"sealed_by": sealed_by})
    return [(number, bytes(sealed), by) for number, sealed, by in await cursor.fetchall()]


async def reseal_totp(connection: Connection, account_id: int, sealed: bytes, sealed_by: str) -> None:
    """The same secret under another master key."""
    told = {"account": account_id, "sealed": sealed, "sealed_by": sealed_by}
    await connection.execute(_QUERIES["reseal_totp"], told)


async def _find(
    connection: Connection,
    *,
    number: int | None = None,
    login: str | None = None,
    issuer: str | None = None,
    subject: str | None = None,
) -> Account | None:
    told = {"number": number, "login": login, "issuer": issuer, "subject": subject}
    row = await (await connection.execute(_QUERIES["find"], told)).fetchone()
    return None if row is None else _account(row)


def _account(row: Sequence[Any]) -> Account:
    number, login, title, state, *known, roles = row
    grants = tuple(Grant.parse(one) for one in roles)
    has_password, must_change, totp_since, issuer, subject, created_at, updated_at = known
    return Account(
        number, login, title, AccountState(state), has_password, must_change, totp_since, issuer, subject,
        created_at, updated_at, grants,
    )  # fmt: skip


def _credentials(row: Sequence[Any]) -> Credentials:
    number, state, password, totp, sealed_by, since, step = row
    return Credentials(
        number, AccountState(state), password, None if totp is None else bytes(totp), sealed_by, since, step
    )
