"""headend links: what is not used because nothing answered there, and having it tried again."""

from typing import Annotated

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import out, print_json
from headend.links.opened import Kind
from headend.store import audit, link_states

app = typer.Typer(
    help="Meters, stations and lines that do not answer and are only probed.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("show")
@reported
async def show(
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200_000, help="At most so many.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show open circuit breakers, some seconds old: since when, why, and when the next probe may be."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await link_states.page(connection, kind=kind, limit=limit)
    if as_json:
        print_json(
            [
                {
                    "kind": one.state.kind,
                    "name": one.name,
                    "since": one.state.since,
                    "until": one.state.until,
                    "failures": one.state.failures,
                    "probes": one.state.probes,
                    "stage": one.state.stage,
                    "reason": one.state.reason,
                }
                for one in found
            ]
        )
        return
    if not found:
        out.print("everything that was asked has answered")
        return
    table = Table("kind", "name", "silent since", "no probe before", "failures", "stage", "reason")
    for one in found:
        state = one.state
        table.add_row(
            state.kind,
            one.name,
            f"{state.since:%F %T}Z",
            f"{state.until:%F %T}Z",
            f"{state.failures}",
            state.stage,
            state.reason,
        )
    out.print(table)


@app.command("reset")
@reported
async def reset(
    kind: Annotated[Kind, typer.Argument(help="meter, station or line.")],
    name: Annotated[str, typer.Argument(help="Its name, as show tells it.")],
) -> None:
    """Have a meter, station or line tried again at once. A running service follows within seconds."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "link.reset", f"{kind}:{name}")
        found = await link_states.ask_reset(connection, kind, name)
        await audit.record(
            connection,
            actor=who.actor,
            action="link.reset",
            object_=f"{kind}:{name}",
            detail={"reason": found.state.reason},
        )
    out.print(f"{kind} {name} is tried again; it was silent since {found.state.since:%F %T}Z")
