"""headend token: who may use the API."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, out, print_json
from headend.store import audit, tokens
from headend.store.tokens import Scope, Token

app = typer.Typer(help="Bearer tokens of the API.", no_args_is_help=True, add_completion=False)

ACTOR = "cli"
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("create")
@reported
async def create(
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    scope: Annotated[
        Scope, typer.Option(help="What it allows: each scope includes those before.")
    ] = Scope.READ,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it ends; without: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. Its secret is shown once and stored nowhere."""
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    async with base() as opened, opened.pool.connection() as connection:
        try:
            issued = await tokens.create(connection, name=name, scopes=[scope], expires_at=expires)
        except ValueError as error:
            raise CommandError(str(error)) from error
        await audit.record(
            connection,
            actor=ACTOR,
            action="token.created",
            object_=f"token:{issued.token.token_id}",
            detail={"name": issued.token.name, "scopes": list(issued.token.scopes)},
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
        found = await tokens.list_all(connection)
    if as_json:
        print_json([_shown(token) for token in found])
        return
    table = Table("number", "name", "scopes", "created", "ends", "last used", "revoked")
    for token in found:
        times = (token.created_at, token.expires_at, token.last_used_at, token.revoked_at)
        table.add_row(
            str(token.token_id),
            token.name,
            ", ".join(token.scopes),
            *("" if time is None else f"{time:%F %R}Z" for time in times),
        )
    out.print(table)


@app.command("revoke")
@reported
async def revoke(number: Annotated[int, typer.Argument(help="The token's number.")]) -> None:
    """End a token at once."""
    async with base() as opened, opened.pool.connection() as connection:
        await tokens.revoke(connection, number, now=datetime.now(UTC))
        await audit.record(connection, actor=ACTOR, action="token.revoked", object_=f"token:{number}")
    out.print(f"token {number} is revoked")


def _shown(token: Token) -> dict[str, object]:
    return {
        "number": token.token_id,
        "name": token.name,
        "scopes": list(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }
