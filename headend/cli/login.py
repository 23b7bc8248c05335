"""headend login, logout, whoami: as whom commands act."""

import contextlib
import os
import socket
from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from headend.cli.people import COUNTS, ask_password, people_of
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, out, print_json
from headend.clock import utc_now
from headend.foundation import Base
from headend.people import login as logins
from headend.people.identity import NotLoggedIn, cli_principal, kept_session, login_file
from headend.people.login import Ask, BadCredentials, CodeNeeded
from headend.people.throttle import Throttled
from headend.store import sessions
from headend.store.sessions import IssuedSession, SessionKind


@reported
async def login(
    login: Annotated[str, typer.Argument(help="The account's login.")],
    code: Annotated[
        str | None, typer.Option(help="The second factor's code; without: asked for where one is needed.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, its first line.")
    ] = False,
) -> None:
    """Act as an account from now on, in all commands of this user of the host, until it ends or `logout`."""
    async with base() as opened:
        password = SecretStr(ask_password(stdin=password_stdin))

        async def attempt(given: str | None) -> IssuedSession:
            ask = Ask(
                login=login,
                password=password,
                code=None if given is None else SecretStr(given),
                kind=SessionKind.CLI,
                address=None,
                user_agent=f"headend on {socket.gethostname()}",
            )
            return await logins.log_in(opened.pool.connection, people_of(opened), ask, now=utc_now())

        try:
            try:
                issued = await attempt(code)
            except CodeNeeded:
                if password_stdin:
                    raise
                issued = await attempt(str(typer.prompt("code of the second factor", err=True)).strip())
        except (BadCredentials, CodeNeeded, Throttled) as error:
            raise CommandError(str(error)) from error
        await _end(opened)
        async with opened.pool.connection() as connection:
            found = await sessions.verify(connection, issued.secret, SessionKind.CLI, now=utc_now())
            must_change = found is not None and found.must_change
    _keep(login_file(), issued.secret)
    err.print(f"logged in as {login} until {issued.expires_at.astimezone(UTC):%F %R}Z")
    if must_change:
        err.print(
            "somebody else knows the password: `headend account password` changes it, before anything else"
        )


@reported
async def logout() -> None:
    """Act as the host again: the log-in ends at once, and its file goes."""
    async with base() as opened:
        await _end(opened)
    login_file().unlink(missing_ok=True)
    err.print("logged out: commands act as the host itself")


@reported
async def whoami(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """As whom commands act, and what that may do."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await cli_principal(connection, opened.settings)
    if as_json:
        print_json(
            {
                "actor": who.actor,
                "account": who.account,
                "roles": [str(one) for one in who.grants],
                "permissions": sorted(who.permissions),
                "areas": None if who.areas is None else sorted(who.areas),
            }
        )
        return
    out.print(who.actor)
    out.print(f"may   {', '.join(sorted(who.permissions)) or 'nothing'}", soft_wrap=True)
    if who.permissions:
        out.print(f"in    {'all areas' if who.areas is None else ', '.join(sorted(who.areas)) or 'no area'}")
    if who.account is not None and who.token is None:
        out.print(f"its roles are looked at now, {COUNTS}", soft_wrap=True)


async def _end(opened: Base) -> None:
    """The session that was kept before, where it still goes on."""
    with contextlib.suppress(NotLoggedIn):
        secret = kept_session()
        if secret is None:
            return
        now = utc_now()
        async with opened.pool.connection() as connection:
            found = await sessions.verify(connection, secret, SessionKind.CLI, now=now)
            if found is not None:
                number = found.session.account_id
                await logins.log_out(
                    connection, found.session.session_id, actor=f"account:{number} {found.login}", now=now
                )


def _keep(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
