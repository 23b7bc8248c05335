"""headend groups: named sets of meters, and tags."""

import csv
import io
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from headend.cli.acting import acting, acting_on
from headend.cli.meter_list import meter_list
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.store import groups, tags
from headend.store.groups import Group
from schemas.text import PathName

app = typer.Typer(
    help="Groups of meters and tags on them: what schedules and reads select by.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

_NAME: Final = TypeAdapter(PathName)
Name = Annotated[str, typer.Argument(help="The group's name.")]
Meters = Annotated[list[str] | None, typer.Argument(help="Asset ids of meters.")]
File = Annotated[
    Path | None, typer.Option(help="CSV file with a column asset_id.", exists=True, dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("list")
@reported
async def list_command(
    search: Annotated[str | None, typer.Argument(help="A part of the name.")] = None,
    meter: Annotated[str | None, typer.Option(help="Only those that this meter is in.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List groups with how many meters are in each."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await groups.page(connection, limit=limit, q=search, meter=meter)
    if as_json:
        print_json([_shown(one) for one in found])
        return
    if not found:
        out.print("no groups; headend groups add makes one")
        return
    table = Table("name", "meters", "title", "changed")
    for one in found:
        table.add_row(one.name, f"{one.meters:,}", one.title or "", f"{one.updated_at:%F %R}Z")
    out.print(table)


@app.command("show")
@reported
async def show(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="At most so many meters.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show a group and its meters."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await groups.get(connection, name)
        members = await groups.members(connection, found.group_id, limit=None if as_json else limit)
    if as_json:
        print_json(_shown(found) | {"members": members})
        return
    out.print(f"{found.name}: {found.meters:,} meters" + (f", {found.title}" if found.title else ""))
    for asset_id in members:
        out.print(f"  {asset_id}")
    if len(members) < found.meters:
        out.print(f"  ... and {found.meters - len(members):,} more; headend groups export writes all")


@app.command("add")
@reported
async def add(
    name: Name,
    meters: Meters = None,
    file: File = None,
    title: Annotated[str | None, typer.Option(help="What it is for, in words.")] = None,
) -> None:
    """Make a group: all of its meters are known, or nothing is made.

    [bold]headend groups add residential --file residential.csv --title "Households"[/bold]
    """
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise CommandError(
            f"{name!r} is no name of a group: no blanks around it, no /, no control characters"
        ) from error
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "group.added", f"group:{name}")
        made = await groups.add(connection, name, title=title, meters=_named(meters, file), actor=who.actor)
    out.print(f"{made.name} has {made.meters:,} meters")


@app.command("put")
@reported
async def put(name: Name, meters: Meters = None, file: File = None) -> None:
    """Put meters into a group: all or none.

    [bold]headend groups put residential SIM00000001 SIM00000002[/bold]
    """
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "group.members", f"group:{name}")
        came, _ = await groups.change_members(connection, name, add=_some(meters, file), actor=who.actor)
    out.print(f"{came:,} meters came into {name}")


@app.command("take")
@reported
async def take(name: Name, meters: Meters = None, file: File = None) -> None:
    """Take meters out of a group: all or none."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "group.members", f"group:{name}")
        _, gone = await groups.change_members(connection, name, remove=_some(meters, file), actor=who.actor)
    out.print(f"{gone:,} meters went out of {name}")


@app.command("import")
@reported
async def import_command(
    name: Name,
    file: Annotated[
        Path, typer.Argument(help="CSV file with a column asset_id.", exists=True, dir_okay=False)
    ],
) -> None:
    """Make the meters of a file, and no others, the group's: what export writes."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "group.members", f"group:{name}")
        came, gone = await groups.set_members(connection, name, meter_list(file), actor=who.actor)
    out.print(f"{name}: {came:,} meters came, {gone:,} went")


@app.command("export")
@reported
async def export(
    name: Name,
    file: Annotated[
        Path | None, typer.Argument(help="Where to write; default standard output.", dir_okay=False)
    ] = None,
) -> None:
    """Write a group's meters as a CSV file."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await groups.get(connection, name)
        members = await groups.members(connection, found.group_id)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["asset_id"], *([one] for one in members)])
    if file is None:
        typer.echo(text.getvalue(), nl=False)
    else:
        file.write_text(text.getvalue(), "utf-8")
        out.print(f"{len(members):,} meters are in {file}")


@app.command("title")
@reported
async def title_command(
    name: Name, title: Annotated[str, typer.Argument(help="In words; empty: none.")]
) -> None:
    """Say what a group is for."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "group.changed", f"group:{name}")
        await groups.retitle(connection, name, title or None, actor=who.actor)


@app.command("remove")
@reported
async def remove(name: Name) -> None:
    """Remove a group; its meters stay. Refused where a schedule selects by it."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "group.removed", f"group:{name}")
        await groups.remove(connection, name, actor=who.actor)
    out.print(f"{name} is removed")


@app.command("tag")
@reported
async def tag(
    meters: Meters = None,
    file: File = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A tag, key or key=value.")] = None,
    unset: Annotated[list[str] | None, typer.Option(help="A key to take off.")] = None,
) -> None:
    """Put tags on meters and take keys off them: all meters or none. A key has one value.

    [bold]headend groups tag SIM00000001 SIM00000002 --set rate=2 --set vip --unset trial[/bold]
    """
    if not set_ and not unset:
        raise CommandError("nothing to do: give --set key=value or --unset key")
    for one in set_ or ():
        key, _, value = one.partition("=")
        if not key or key != key.strip() or value != value.strip():
            raise CommandError(f"--set {one!r}: write key or key=value")
    async with base() as opened, opened.pool.connection() as connection:
        named = _some(meters, file)
        who = await acting_on(connection, opened, named, "tags.changed", "tags")
        changed = await tags.change(connection, named, add=set_ or (), remove=unset or (), actor=who.actor)
    out.print(f"{changed:,} tags of meters changed")


@app.command("tags")
@reported
async def tags_command(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List tags that some meter has."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await tags.all_used(connection, limit=limit)
    if as_json:
        print_json([{"tag": one, "meters": count} for one, count in found])
        return
    table = Table("tag", "meters")
    for one, count in found:
        table.add_row(one, f"{count:,}")
    out.print(table)


def _named(meters: list[str] | None, file: Path | None) -> list[str]:
    return [*(meters or ()), *(() if file is None else meter_list(file))]


def _some(meters: list[str] | None, file: Path | None) -> list[str]:
    named = _named(meters, file)
    if not named:
        raise CommandError("no meters: name some, or give --file")
    return named


def _shown(group: Group) -> dict[str, object]:
    return {
        "name": group.name,
        "title": group.title,
        "meters": group.meters,
        "created_at": group.created_at,
        "updated_at": group.updated_at,
    }
