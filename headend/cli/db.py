"""headend db: bring the database up to date, and tell where it stands."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from headend.cli.shell import reported
from headend.cli.terminal import out, print_json
from headend.foundation import database
from headend.store.migrate import migrate, redacted, status
from schemas.config import load_settings

app = typer.Typer(
    help="The database: migrations and their status.", no_args_is_help=True, add_completion=False
)


@app.command("migrate")
@reported
async def migrate_command() -> None:
    """Apply the migrations that are missing. Safe to repeat."""
    async with database(load_settings()) as dsn:
        done = await asyncio.to_thread(migrate, dsn)
        for name in done.applied:
            out.print(f"applied {name}")
        out.print(f"{redacted(dsn)} is up to date; TimescaleDB: {done.timescale}")


@app.command("status")
@reported
async def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Show the migrations; exit status 1 when one is missing."""
    async with database(load_settings()) as dsn:
        found = await asyncio.to_thread(status, dsn)
    missing = sum(one.applied_at is None for one in found)
    if as_json:
        print_json([{"name": one.name, "applied_at": one.applied_at} for one in found])
    else:
        table = Table("migration", "applied")
        for one in found:
            applied = Text("missing", style="red") if one.applied_at is None else f"{one.applied_at:%F %T}Z"
            table.add_row(one.name, applied)
        out.print(table)
        if missing:
            out.print(f"{missing} missing: run headend db migrate")
    return 1 if missing else 0
