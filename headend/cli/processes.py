"""headend api, worker, ingest, scheduler: the service in parts; headend workers: those that there are."""

import sys
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.table import Table

from headend.cli.shell import base, log_to_terminal, reported
from headend.cli.terminal import flags, out, print_json
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
    from headend import app

    await app.serve(_settings() if port is None else _settings(api_port=port), _tell)


@reported
async def ingest() -> None:
    """Store what comes by itself: the broker's messages, and pushes. Ctrl-C stops it.

    Any number of these share the slots of one database: each slot is read by one of them, and by another one
    when that ends. `headend run` does the same inside.
    """
    from headend import parts

    await parts.ingest(_settings(), _tell)


@reported
async def worker(
    processes: Annotated[
        int, typer.Option("--processes", "-n", min=1, max=256, help="So many; one uses one core.")
    ] = 1,
    one_of: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
) -> None:
    """Read meters: work at the lanes of jobs, and take meters that dial in. Ctrl-C stops it.

    Any number of these share the lanes of one database: each lane has one holder, and another one when that
    ends. With more than one process a parent keeps them, and each has its part of what the settings allow at
    once.
    """
    from headend import parts
    from headend.processes.lifeline import Lifeline
    from headend.processes.share import share

    settings = _settings()
    if one_of is not None:
        with Lifeline() as line:
            await parts.work(share(settings, one_of), _tell, line=line)
    elif processes == 1:
        await parts.work(settings, _tell)
    else:
        command = [sys.executable, "-P", "-m", "headend.cli"]
        command += ["--debug"] if flags.debug else []
        await parts.supervise(settings, [*command, "worker", "--one-of", str(processes)], processes, _tell)


@reported
async def scheduler() -> None:
    """Make jobs of schedules when their time comes. Ctrl-C stops it.

    Any number of these make each job once. `headend run` does the same inside.
    """
    from headend import parts

    await parts.schedule(_settings(), _tell)


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
