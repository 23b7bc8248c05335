"""headend api, ingest, workers: parts of the service as processes of their own, and those that there are."""

from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.table import Table

from headend.cli.shell import base, log_to_terminal, reported
from headend.cli.terminal import out, print_json
from headend.store import workers as processes
from headend.store.workers import Kind
from schemas.config import Settings, load_settings

#: Processes that are shown: more have nobody to look at them all.
_MOST: Final = 10_000


@reported
async def api(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The API's port.")] = None,
) -> None:
    """Serve the API by itself. Ctrl-C stops it.

    It dials no meter and opens no key, so it needs no master key. `headend run` does the same inside.
    """
    from headend import app as service

    await service.serve(_settings() if port is None else _settings(api_port=port), _tell)


@reported
async def ingest() -> None:
    """Store what comes by itself: the broker's messages, and pushes. Ctrl-C stops it.

    Any number of these share the slots of one database: each slot is read by one of them, and by another one
    when that ends. `headend run` does the same inside.
    """
    from headend import app as service

    await service.ingest(_settings(), _tell)


@reported
async def workers(
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show the processes of the service on all hosts: since when, last heard of, what each holds."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await processes.page(connection, limit=_MOST, kind=kind)
    if as_json:
        print_json([{**asdict(one), "kind": one.kind.value} for one in found])
        return
    if not found:
        out.print("no process of the service is there: headend run starts one")
        return
    table = Table("kind", "process", "version", "since", "last heard of", box=None, pad_edge=False)
    for head in ("lanes", "dialled in"):
        table.add_column(head, justify="right")
    for one in found:
        heard = f"{one.seen_at:%F %T}Z" + (", silent" if one.is_silent else "")
        table.add_row(
            one.kind, one.worker, one.version, f"{one.started_at:%F %T}Z", heard,
            f"{one.lanes}", f"{one.connections}",
        )  # fmt: skip
    out.print(table)


def _settings(**given: int) -> Settings:
    settings = load_settings(**given)
    log_to_terminal(settings)
    return settings


def _tell(what: str, where: str) -> None:
    out.print(f"{what:<9} {where}", soft_wrap=True)
