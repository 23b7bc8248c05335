"""headend inbox: what came and could not be stored, until an engineer has looked at it."""

from typing import Annotated

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import out, print_json
from headend.store import audit, inbox

app = typer.Typer(help="What came and could not be stored.", no_args_is_help=True, add_completion=False)

#: Bytes of a payload that a table shows; --json has all.
_HEAD = 16


@app.command("list")
@reported
async def list_command(
    after: Annotated[int, typer.Option(min=0, help="Only entries with higher numbers.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts; payloads whole, as hex.")] = False,
) -> None:
    """List what waits, oldest first. `headend decode` explains a payload."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await inbox.unresolved(connection, limit=limit, after=after)
    if as_json:
        print_json(
            [
                {
                    "number": one.inbox_id,
                    "received_at": one.received_at,
                    "source": one.source,
                    "identity": one.identity,
                    "reason": one.reason,
                    "payload": one.payload.hex(),
                }
                for one in found
            ]
        )
        return
    table = Table("number", "received", "source", "identity", "reason", "payload")
    for one in found:
        head = one.payload[:_HEAD].hex() + ("..." if len(one.payload) > _HEAD else "")
        table.add_row(
            str(one.inbox_id), f"{one.received_at:%F %T}Z", one.source, one.identity or "", one.reason, head
        )
    out.print(table)


@app.command("resolve")
@reported
async def resolve(number: Annotated[int, typer.Argument(help="The entry's number.")]) -> None:
    """Mark an entry as dealt with. It stays stored."""
    async with base() as opened, opened.pool.connection() as connection:
        entry = f"inbox:{number}"
        who = await acting(connection, opened, "inbox.resolved", entry)
        await inbox.resolve(connection, number)
        await audit.record(connection, actor=who.actor, action="inbox.resolved", object_=entry)
    out.print(f"entry {number} is dealt with")
