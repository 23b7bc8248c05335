"""headend token: who may use the API."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from headend.cli.people import may
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, out, print_json
from headend.store import accounts, audit, tokens
from headend.store.tokens import Scope, Token

app = typer.Typer(help="Bearer tokens of the API.", no_args_is_help=True, add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("create")
@reported
async def create(
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    scope: Annotated[
        Scope, typer.Option(help="What it allows: each scope includes those before.")
    ] = Scope.READ,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it ends; without: never.")] = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="Whose it is: it may do what both its scope and the account's roles allow, but approve."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. Its secret is shown once and stored nowhere."""
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    async with base() as opened, opened.pool.connection() as connection:
        who = await may(connection, opened, "tokens", "token.create", host_only=True)
        owner = None if account is None else await accounts.by_login(connection, account)
        try:
            issued = await tokens.create(
                connection,
                name=name,
                scopes=[scope],
                expires_at=expires,
                account_id=None if owner is None else owner.account_id,
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        await audit.record(
            connection,
            actor=who.actor,
            action="token.created",
            object_=f"token:{issued.token.token_id}",
            detail={"name": issued.token.name, "scopes": list(issued.token.scopes), "account": account},
        )
    if as_json:
        print_json(_shown(issued.token) | {"secret": issued.secret})
    else:
        # the secret alone on standard output, so that a script can take it
        err.print(f"token {issued.token.token_id} ({scope}) for {issued.token.name}; shown only now:")
        out.print(issued.secret, soft_wrap=True, markup=False)


@app.command("list")
@reported
async def list_command(as_json: AsJson = False) -> None:
    """Show all tokens, without their secrets."""
    async with base() as opened, opened.pool.connection() as connection:
        await may(connection, opened, "tokens", "token.list")
        found = await tokens.list_all(connection)
    if as_json:
        print_json([_shown(token) for token in found])
        return
    table = Table("number", "name", "scopes", "account", "created", "ends", "last used", "revoked")
    for token in found:
        times = (token.created_at, token.expires_at, token.last_used_at, token.revoked_at)
        table.add_row(
            str(token.token_id),
            token.name,
            ", ".join(token.scopes),
            "" if token.account_id is None else str(token.account_id),
            *("" if time is None else f"{time:%F %R}Z" for time in times),
        )
    out.print(table)


@app.command("revoke")
@reported
async def revoke(number: Annotated[int, typer.Argument(help="The token's number.")]) -> None:
    """End a token at once."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await may(connection, opened, f"token:{number}", "token.revoke")
        await tokens.revoke(connection, number, now=datetime.now(UTC))
        await audit.record(connection, actor=who.actor, action="token.revoked", object_=f"token:{number}")
    out.print(f"token {number} is revoked")


def _shown(token: Token) -> dict[str, object]:
    return {
        "number": token.token_id,
        "name": token.name,
        "scopes": list(token.scopes),
        "account": token.account_id,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }
