"""What commands about people share: who acts, passwords typed in, what log-ins are made with."""

import sys

import typer

from headend.cli.terminal import CommandError
from headend.clock import utc_now
from headend.foundation import Base, sealer_if_any
from headend.people.identity import NotLoggedIn, cli_principal, kept_session
from headend.people.login import People
from headend.store import audit, sessions
from headend.store.sessions import OpenSession, SessionKind
from headend.store.sql import Connection
from schemas.people import Permission, Principal

#: Why somebody may do less than his roles say.
COUNTS = (
    "and roles that need a second factor count once it was shown (`headend account totp` sets it up, then "
    "`headend login`); a first password is changed before (`headend account password`)"
)


async def may(
    connection: Connection, opened: Base, object_: str, what: str, *, host_only: bool = False
) -> Principal:
    """Who acts, if he sees to people. A refusal is audited. ``host_only``: nobody who is logged in, for with
    another's credentials he could approve of what he asked for himself."""
    who = await cli_principal(connection, opened.settings)
    why = None
    if not who.may(Permission.PEOPLE) or who.at(Permission.PEOPLE).areas is not None:
        why = f"{who.actor} may not see to people: that is an administrator's, {COUNTS}"
    elif host_only and (who.account is not None or who.token is not None):
        why = "credentials of others are set on the host itself, by nobody who is logged in: `headend logout`"
    if why is not None:
        await audit.record(connection, actor=who.actor, action=f"{what}.refused", object_=object_)
        await connection.commit()
        raise CommandError(why)
    return who


def people_of(opened: Base) -> People:
    """What log-ins are made with here."""
    return People.of(opened.settings, sealer_if_any(opened.settings))


def ask_password(*, confirm: bool = False, stdin: bool = False, prompt: str = "password") -> str:
    """A password by prompt, or the first line of standard input: never an argument, which others can see."""
    if stdin or not sys.stdin.isatty():
        given = sys.stdin.readline().rstrip("\r\n")
        if not given:
            raise CommandError("standard input holds no password")
        return given
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))


async def logged_in(connection: Connection) -> OpenSession:
    """The session of `headend login`. Raises NotLoggedIn."""
    secret = kept_session()
    found = None
    if secret is not None:
        found = await sessions.verify(connection, secret, SessionKind.CLI, now=utc_now())
    if found is None:
        raise NotLoggedIn("nobody is logged in here: `headend login` first, or name an account")
    return found
