"""headend network: what stands between the head-end and its meters."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.network_view import as_json as branch_json
from headend.cli.network_view import draw
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, moment, out, print_json
from headend.ingest.network_import import export_network, import_network
from headend.store import audit, network
from headend.store.network_tree import TooLargeError, tree
from schemas.config import load_settings
from schemas.network import LinkKind
from schemas.people import Permission

app = typer.Typer(
    help="The network: import, show, move, history, export.", no_args_is_help=True, add_completion=False
)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Since = Annotated[str | None, typer.Option(help="From when on (RFC 3339); default now.")]
#: Nodes of a tree on a terminal, and in a document.
_MOST_SHOWN: Final = 20_000
_MOST_WRITTEN: Final = 1_000_000


@app.command("import")
@reported
async def import_command(
    file: Annotated[Path, typer.Argument(help="CSV file; see README.", exists=True, dir_okay=False)],
    since: Since = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; store nothing.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Import nodes and links: all of the file or nothing, every error with its line and column."""
    settings = load_settings()
    begins = datetime.now(UTC) if since is None else moment(since, option="--since")
    async with base(settings) as opened, opened.pool.connection() as connection:
        who = await acting(
            connection, opened, "network.imported", f"file:{file.name}", needs=Permission.ADMINISTER
        )
        done = await import_network(
            connection,
            file.read_bytes(),
            since=begins,
            actor=who.actor,
            profile_folders=settings.profile_folders,
            dry_run=dry_run,
        )
    if as_json:
        print_json(
            {
                "added": done.added,
                "moved": done.moved,
                "changed": done.changed,
                "unchanged": done.unchanged,
                "errors": [
                    {"line": one.line, "column": one.column, "reason": one.reason} for one in done.errors
                ],
            }
        )
    elif done.errors:
        for one in done.errors:
            err.print(f"{file}: {one}", markup=False, soft_wrap=True)
        err.print(f"{len(done.errors)} errors; nothing was imported", style="red")
    else:
        counts = f"{done.moved} moved, {done.changed} changed, {done.unchanged} unchanged"
        out.print(
            ("nothing is stored; would be: " if dry_run else "") + f"{done.added} nodes added, {counts}"
        )
    return 1 if done.errors else 0


@app.command("show")
@reported
async def show(
    node: Annotated[str | None, typer.Argument(help="Begin at this node; default the whole network.")] = None,
    depth: Annotated[int, typer.Option(min=0, max=50, help="Levels below it.")] = 2,
    most: Annotated[int, typer.Option(min=1, help="Children of a node that are shown one by one.")] = 40,
    as_json: AsJson = False,
) -> None:
    """Show the network as a tree: kind, quality and hops of the links, counts of what is folded."""
    async with base() as opened, opened.pool.connection() as connection:
        try:
            found = await tree(connection, node, depth=depth, most=_MOST_WRITTEN if as_json else _MOST_SHOWN)
        except TooLargeError as error:
            raise CommandError(str(error)) from error
        nowhere = await network.nowhere(connection) if node is None else 0
    if as_json:
        print_json([branch_json(one) for one in found])
        return
    if found:
        out.print(draw(found, most=most))
    elif node is None:
        out.print("the network has no nodes yet; headend network import brings them")
    if nowhere:
        out.print(f"{nowhere:,} meters have no place in the network", style="yellow")


@app.command("history")
@reported
async def history(
    node: Annotated[str, typer.Argument(help="The node's code; of a meter its asset id.")],
    as_json: AsJson = False,
) -> None:
    """Show what a node hung on from when to when."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await network.get(connection, node)
        past = await network.history(connection, found.node.node_id)
    if as_json:
        print_json(
            [
                {
                    "parent": one.parent,
                    "link": one.kind,
                    "hops": one.hops,
                    "quality": one.quality,
                    "from": one.since,
                    "to": one.until,
                }
                for one in past
            ]
        )
        return
    table = Table("parent", "link", "hops", "quality", "from", "to", title=node)
    for one in past:
        table.add_row(
            one.parent,
            one.kind or "",
            str(one.hops),
            "" if one.quality is None else f"{one.quality} %",
            f"{one.since:%F %T}Z",
            "" if one.until is None else f"{one.until:%F %T}Z",
        )
    out.print(table)


@app.command("move")
@reported
async def move(
    node: Annotated[str, typer.Argument(help="The node that moves, with all below it.")],
    parent: Annotated[str, typer.Argument(help="The node that it stands below from then on.")],
    link: Annotated[LinkKind | None, typer.Option(help="What carries the link.")] = None,
    since: Since = None,
) -> None:
    """Hang a node on another parent; what it hung on before stays in its history."""
    at = datetime.now(UTC) if since is None else moment(since, option="--since")
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "network.moved", f"node:{node}")
        before, after = await network.move(connection, node, parent, kind=link, at=at)
        was = None if before.link is None else before.link.parent
        await audit.record(
            connection,
            actor=who.actor,
            action="network.moved",
            object_=f"{after.node.kind}:{node}",
            detail={"from": was, "to": parent, "link": link, "at": at.isoformat()},
        )
    out.print(f"{node} is below {parent} since {at:%F %T}Z" + ("" if was is None else f", before {was}"))


@app.command("export")
@reported
async def export(
    file: Annotated[
        Path | None, typer.Argument(help="Where to write; default standard output.", dir_okay=False)
    ] = None,
) -> None:
    """Write the network as it is now, as a CSV file that import takes."""
    async with base() as opened, opened.pool.connection() as connection:
        text = await export_network(connection)
    if file is None:
        typer.echo(text, nl=False)
    else:
        file.write_text(text, "utf-8")
        out.print(f"{text.count(chr(10)) - 1} nodes are in {file}")
