"""headend account: who may log in, and what his roles are."""

import re
from datetime import UTC
from typing import Annotated, Any

import typer
from rich.table import Table

from headend.approvals.policy import Policy
from headend.cli.own import FromStdin, password, totp
from headend.cli.people import ask_password, may, people_of
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.clock import utc_now
from headend.people import changes
from headend.people.passwords import WeakPassword
from headend.people.role_change import ask_roles
from headend.store import accounts, audit, sessions
from headend.store.accounts import Account
from schemas.people import LOGIN_PATTERN, AccountState, Grant, Role

app = typer.Typer(help="Accounts of people, and their roles.", no_args_is_help=True, add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Login = Annotated[str, typer.Argument(help="The account's login.")]

app.command("password")(password)
app.command("totp")(totp)


@app.command("create")
@reported
async def create(
    login: Annotated[str, typer.Argument(help="Lower case letters, digits and . _ @ + -")],
    title: Annotated[str | None, typer.Option(help="How the person is called.")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Make the first administrator, where there is none yet.")
    ] = False,
    password_stdin: FromStdin = False,
    as_json: AsJson = False,
) -> None:
    """Make an account. It has no roles: `headend account roles` asks for them.

    Whoever it is for changes the password at the first log-in; the first administrator's is his own.
    """
    if re.fullmatch(LOGIN_PATTERN, login) is None:
        raise CommandError(f"{login!r} is no login: lower case letters, digits and . _ @ + -, at most 64")
    async with base() as opened, opened.pool.connection() as connection:
        who = await may(connection, opened, f"account:{login}", "account.create")
        if admin and await accounts.holders(connection, Role.ADMINISTRATOR):
            raise CommandError(
                "there is an administrator already: make the account without --admin, then `headend account "
                "roles` asks for the role, which a second person approves"
            )
        password = ask_password(confirm=True, stdin=password_stdin)
        async with connection.transaction():
            try:
                account = await changes.create(
                    connection,
                    people_of(opened),
                    login=login,
                    title=title or login,
                    password=password,
                    must_change=not admin,
                    actor=who.actor,
                    now=utc_now(),
                )
            except WeakPassword as error:
                raise CommandError(str(error)) from error
            if admin:
                await changes.set_grants(connection, account, [Grant(Role.ADMINISTRATOR)], actor=who.actor)
        account = await accounts.get(connection, account.account_id)
    if as_json:
        print_json(_shown(account))
        return
    out.print(f"account {login} is made, with {_roles(account) or 'no roles yet'}")
    if admin:
        out.print("its role counts once a second factor is set up: headend login, then headend account totp")


@app.command("list")
@reported
async def list_command(as_json: AsJson = False) -> None:
    """Show all accounts."""
    async with base() as opened, opened.pool.connection() as connection:
        await may(connection, opened, "accounts", "account.list")
        found: list[Account] = []
        while more := await accounts.page(connection, limit=500, after=found[-1].login if found else None):
            found += more
    if as_json:
        print_json([_shown(one) for one in found])
        return
    table = Table("login", "name", "state", "roles", "second factor", "log-in by")
    for one in found:
        ways = (["password"] if one.has_password else []) + ([one.oidc_issuer] if one.oidc_issuer else [])
        table.add_row(
            one.login, one.title, one.state, _roles(one), "yes" if one.totp_since else "no", ", ".join(ways)
        )
    out.print(table)


@app.command("show")
@reported
async def show(login: Login, as_json: AsJson = False) -> None:
    """Show one account, its sessions and what was done to it."""
    async with base() as opened, opened.pool.connection() as connection:
        await may(connection, opened, f"account:{login}", "account.show")
        account = await accounts.by_login(connection, login)
        left = await accounts.codes_left(connection, account.account_id)
        opens = await sessions.of_account(connection, account.account_id, now=utc_now())
        done = await audit.page(connection, limit=20, object_=f"account:{login}")
    if as_json:
        history = [{"at": one.at, "actor": one.actor, "action": one.action} for one in done]
        print_json(
            _shown(account) | {"recovery_codes_left": left, "sessions": len(opens), "newest_entries": history}
        )
        return
    out.print(f"{account.login}  {account.title}  {account.state}")
    out.print(f"roles          {_roles(account) or 'none'}")
    factor = f"since {account.totp_since:%F}, {left} recovery codes left" if account.totp_since else "none"
    out.print(f"second factor  {factor}")
    out.print(f"sessions       {len(opens)}")
    for one in done:
        out.print(f"{one.at.astimezone(UTC):%F %R}Z  {one.actor}  {one.action}", soft_wrap=True)


@app.command("disable")
@reported
async def disable(
    login: Login,
    for_now: Annotated[bool, typer.Option("--lock", help="For now: the person is to come back.")] = False,
) -> None:
    """Let nobody in by it any more: its sessions end, its tokens do nothing, at once."""
    await _set_state(login, AccountState.LOCKED if for_now else AccountState.DISABLED)


@app.command("enable")
@reported
async def enable(login: Login) -> None:
    """Let its owner in again."""
    await _set_state(login, AccountState.ACTIVE)


@app.command("roles")
@reported
async def roles(
    login: Login,
    wanted: Annotated[
        list[str] | None,
        typer.Argument(help="All that it shall have: role, or role:area (a group's name or station's code)."),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="It shall have no role.")] = False,
) -> None:
    """Ask for other roles; a second person approves of it."""
    try:
        grants = [Grant.parse(one) for one in wanted or []]
    except ValueError as error:
        raise CommandError(str(error)) from error
    if bool(grants) == none:
        raise CommandError("name all roles that it shall have, or --none")
    async with base() as opened, opened.pool.connection() as connection:
        who = await may(connection, opened, f"account:{login}", "account.roles")
        account = await accounts.by_login(connection, login)
        said = await ask_roles(
            connection, account, grants, who, policy=Policy.of(opened.settings), now=utc_now()
        )
    roles_text = ", ".join(map(str, grants)) or "no role"
    if said is None:
        out.print(f"{login} has {roles_text}")
    else:
        number = said.approval_id
        out.print(f"{login} has {roles_text} once a second person approves: headend approvals show {number}")


@app.command("sessions")
@reported
async def sessions_command(login: Login, as_json: AsJson = False) -> None:
    """Show its sessions that go on."""
    async with base() as opened, opened.pool.connection() as connection:
        await may(connection, opened, f"account:{login}", "account.sessions")
        account = await accounts.by_login(connection, login)
        found = await sessions.of_account(connection, account.account_id, now=utc_now())
    if as_json:
        print_json(
            [
                {
                    "session": one.session_id,
                    "kind": one.kind,
                    "second_factor": one.second_factor,
                    "since": one.created_at,
                    "seen": one.seen_at,
                    "ends": one.expires_at,
                    "address": one.address,
                    "user_agent": one.user_agent,
                }
                for one in found
            ]
        )
        return
    table = Table("number", "of", "since", "last used", "ends", "from", "by")
    for one in found:
        times = (one.created_at, one.seen_at, one.expires_at)
        told = (f"{at.astimezone(UTC):%F %R}Z" for at in times)
        table.add_row(str(one.session_id), one.kind, *told, one.address or "", one.user_agent or "")
    out.print(table)


@app.command("revoke")
@reported
async def revoke(login: Login) -> None:
    """End all its sessions at once. Its tokens: `headend token revoke`."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await may(connection, opened, f"account:{login}", "account.revoke")
        account = await accounts.by_login(connection, login)
        ended = await changes.end_sessions(connection, account, actor=who.actor, now=utc_now())
    out.print(f"{ended} sessions of {login} ended")


async def _set_state(login: str, state: AccountState) -> None:
    async with base() as opened, opened.pool.connection() as connection:
        who = await may(connection, opened, f"account:{login}", "account.state")
        account = await accounts.by_login(connection, login)
        await changes.set_state(connection, account, state, actor=who.actor, now=utc_now())
    out.print(f"{login} is {state}")


def _roles(account: Account) -> str:
    return ", ".join(str(one) for one in account.grants)


def _shown(account: Account) -> dict[str, Any]:
    return {
        "account": account.account_id,
        "login": account.login,
        "title": account.title,
        "state": account.state,
        "roles": [str(one) for one in account.grants],
        "has_password": account.has_password,
        "must_change_password": account.must_change,
        "second_factor_since": account.totp_since,
        "oidc_issuer": account.oidc_issuer,
        "created_at": account.created_at,
    }
