"""headend account password, totp: of whoever is logged in; or of another, on the host itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import SecretStr

from headend.cli.people import ask_password, logged_in, may, people_of
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, out
from headend.clock import utc_now
from headend.people import changes, own
from headend.people.login import BadCredentials
from headend.people.passwords import WeakPassword
from headend.people.throttle import Throttled
from headend.store import accounts

FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read passwords from standard input, one in a line.")
]
Whose = Annotated[
    str | None, typer.Argument(help="The account's login; without: one's own, who is logged in.")
]


@reported
async def password(login: Whose = None, password_stdin: FromStdin = False) -> None:
    """Change one's own password; or give another account one that its owner changes at the next log-in.

    All other sessions of the account end.
    """
    async with base() as opened:
        people = people_of(opened)
        if login is None:
            async with opened.pool.connection() as connection:
                session = await logged_in(connection)
            current = SecretStr(ask_password(stdin=password_stdin, prompt="present password"))
            new = SecretStr(ask_password(confirm=True, stdin=password_stdin, prompt="new password"))
            with _told():
                await own.change_password(
                    opened.pool.connection, people, session, current, new, now=utc_now()
                )
            out.print(f"{session.login} has another password; all other sessions ended")
            return
        async with opened.pool.connection() as connection:
            who = await may(connection, opened, f"account:{login}", "account.password", host_only=True)
            account = await accounts.by_login(connection, login)
            given = ask_password(confirm=True, stdin=password_stdin, prompt="new password")
            with _told():
                await changes.set_password(
                    connection, people, account, given, must_change=True, actor=who.actor, now=utc_now()
                )
    out.print(f"{login} has another password and changes it at the next log-in; its sessions ended")


@reported
async def totp(
    login: Whose = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the second factor away: of a lost telephone.")
    ] = False,
    password_stdin: FromStdin = False,
) -> None:
    """Set up one's own second factor: one-time passwords of a telephone. Or take another's away.

    With --password-stdin the second line is the code that confirms it.
    """
    if login is not None and not remove:
        raise CommandError("a second factor is set up by its owner, logged in: without a login here")
    async with base() as opened:
        people = people_of(opened)
        if login is not None:
            async with opened.pool.connection() as connection:
                who = await may(connection, opened, f"account:{login}", "account.totp", host_only=True)
                account = await accounts.by_login(connection, login)
                await changes.remove_totp(connection, account, actor=who.actor, now=utc_now())
            out.print(f"{login} has no second factor; its sessions ended")
            return
        async with opened.pool.connection() as connection:
            session = await logged_in(connection)
        shown = SecretStr(ask_password(stdin=password_stdin))
        connect = opened.pool.connection
        with _told():
            if remove:
                code = SecretStr(ask_password(stdin=password_stdin, prompt="code, or recovery code"))
                await own.remove_totp(connect, people, session, shown, code, now=utc_now())
                out.print("there is no second factor any more; all sessions ended")
                return
            made = await own.begin_totp(connect, people, session, shown, now=utc_now())
            err.print("put this into the telephone's application, by hand or as a QR code:")
            out.print(made.uri, soft_wrap=True)
            code = SecretStr(ask_password(stdin=password_stdin, prompt="code that it shows"))
            codes = await own.confirm_totp(connect, people, session, code, now=utc_now())
    err.print("the second factor holds from now on. Recovery codes, each of use once, shown only now:")
    for one in codes:
        out.print(one)


@contextmanager
def _told() -> Iterator[None]:
    """Inside, what was typed may be wrong, weak, or come too soon."""
    try:
        yield
    except (BadCredentials, Throttled, WeakPassword) as error:
        raise CommandError(str(error)) from error
