"""headend announcements: devices that were announced and are no meters of ours yet."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.foundation import Base
from headend.ingest.acceptance import accept, reject
from headend.store import announcements
from headend.store.announcements import AnnouncementState, InboxDevice
from headend.store.sql import Connection
from schemas.config import load_settings
from schemas.meter import FIRST_STATES, MeterState
from schemas.people import Principal

app = typer.Typer(
    help="Devices that were announced and wait for you.", no_args_is_help=True, add_completion=False
)


@app.command("list")
@reported
async def list_command(
    state: Annotated[AnnouncementState, typer.Option(help="What became of them.")] = (
        AnnouncementState.WAITING
    ),
    station: Annotated[str | None, typer.Option(help="Only what this concentrator announced.")] = None,
    after: Annotated[int, typer.Option(min=0, help="Only entries with higher numbers.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List what was announced, oldest first."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await announcements.page(connection, limit=limit, after=after, state=state, station=station)
        beyond = await announcements.overflow(connection)
    if as_json:
        print_json([_shown(one) for one in found])
        return
    if not found and not beyond:
        out.print("no device waits to be decided on")
        return
    table = Table("number", "station", "identity", "model", "address", "link", "first", "last", "times")
    for one in found:
        told = one.announced
        link = "" if told.link is None else f"{told.link}, {told.hops} hops"
        table.add_row(
            str(one.number),
            one.station or "",
            told.identity,
            told.model or "",
            told.address or "",
            link,
            f"{one.first_at:%F %R}Z",
            f"{one.last_at:%F %R}Z",
            str(one.times),
        )
    out.print(table)
    for code, times, last_at in beyond:
        out.print(
            f"{code or 'no station'}: {times} more found no room, last {last_at:%F %R}Z; decide on some",
            style="yellow",
        )


@app.command("accept")
@reported
async def accept_command(
    numbers: Annotated[list[int], typer.Argument(help="Their numbers.")],
    model: Annotated[str | None, typer.Option(help="Meter model; default as announced.")] = None,
    asset_id: Annotated[str | None, typer.Option(help="For a single one; default its identity.")] = None,
    address: Annotated[
        str | None, typer.Option(help="For a single one: link address; default as announced.")
    ] = None,
    state: Annotated[MeterState, typer.Option(help="The state it begins in.")] = MeterState.INSTALLED,
) -> None:
    """Make them meters, below the station that announced them: all or none."""
    if len(numbers) > 1 and (asset_id is not None or address is not None):
        raise CommandError("--asset-id and --address are for a single announcement")
    if state not in FIRST_STATES:
        raise CommandError(f"--state: a meter begins as one of {', '.join(FIRST_STATES)}")
    if asset_id is not None and (not asset_id or asset_id != asset_id.strip()):
        raise CommandError("--asset-id: must not be empty and has no blanks around it")
    folders = load_settings().profile_folders
    async with base() as opened, opened.pool.connection() as connection:
        who = await _deciding(connection, opened, "accepted", numbers)
        async with connection.transaction():
            made = [
                await accept(
                    connection,
                    number,
                    actor=who.actor,
                    now=datetime.now(UTC),
                    asset_id=asset_id,
                    model=model,
                    address=address,
                    state=state,
                    profile_folders=folders,
                )
                for number in numbers
            ]
    for meter in made:
        out.print(
            f"{meter.asset_id} is a meter: {meter.model}, {meter.state}, {meter.address or 'no address'}"
        )


@app.command("reject")
@reported
async def reject_command(numbers: Annotated[list[int], typer.Argument(help="Their numbers.")]) -> None:
    """Keep them quiet, however often they are announced again: all or none."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await _deciding(connection, opened, "rejected", numbers)
        async with connection.transaction():
            gone = [
                await reject(connection, number, actor=who.actor, now=datetime.now(UTC)) for number in numbers
            ]
    for one in gone:
        out.print(f"{one.announced.identity} is rejected")


async def _deciding(connection: Connection, opened: Base, what: str, numbers: list[int]) -> Principal:
    named = "announcements:" + ",".join(map(str, numbers))
    return await acting(connection, opened, f"announcement.{what}", named)


def _shown(one: InboxDevice) -> dict[str, object]:
    told = one.announced
    return {
        "number": one.number,
        "station": one.station,
        "identity": told.identity,
        "model": told.model,
        "address": told.address,
        "link": told.link,
        "hops": told.hops,
        "quality": told.quality,
        "parent": told.parent,
        "first_at": one.first_at,
        "last_at": one.last_at,
        "times": one.times,
        "state": one.state,
        "decided_at": one.decided_at,
        "meter": one.asset_id,
    }
