"""headend readings: what people and hand-held units read."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import err, out, print_json
from headend.ingest.reading_import import import_readings
from headend.store import audit
from schemas.reading import Quality

app = typer.Typer(help="Readings that people bring.", no_args_is_help=True, add_completion=False)


@app.callback()
def group() -> None:
    """Readings that people bring."""


@app.command("import")
@reported
async def import_command(
    file: Annotated[
        Path,
        typer.Argument(help="CSV with asset_id, obis, time, value, unit.", exists=True, dir_okay=False),
    ],
    handheld: Annotated[
        bool, typer.Option("--handheld/--manual", help="Read by a hand-held unit, or typed in.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Import register readings: all of the file or nothing, every error with its line and column."""
    quality = Quality.HANDHELD if handheld else Quality.MANUAL
    data = file.read_bytes()
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "readings.imported", f"file:{file.name}")
        done = await import_readings(
            connection,
            data,
            quality=quality,
            now=datetime.now(UTC),
            source=f"file {file.name} by {who.actor}",
        )
        stored = 0 if done.written is None else done.written.registers
        if stored:
            await audit.record(
                connection,
                actor=who.actor,
                action="readings.imported",
                object_=f"file:{file.name}",
                detail={"registers": stored, "quality": quality.name.lower()},
            )
    repeated = 0 if done.written is None else done.written.repeated
    conflicts = 0 if done.written is None else done.written.quarantined
    if as_json:
        errors = [{"line": one.line, "column": one.column, "reason": one.reason} for one in done.errors]
        print_json({"stored": stored, "repeated": repeated, "in_conflict": conflicts, "errors": errors})
    elif done.errors:
        for one in done.errors:
            err.print(f"{file}: {one}", markup=False, soft_wrap=True)
        err.print(f"{len(done.errors)} errors; nothing was imported", style="red")
    else:
        out.print(f"{stored} readings stored, {repeated} were there already")
        if conflicts:
            out.print(f"{conflicts} contradict what is stored: see headend inbox list", style="yellow")
    return 1 if done.errors else 0
