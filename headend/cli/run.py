"""headend run: the service, told on the terminal."""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from headend.cli.collect import tell_outcome
from headend.cli.shell import log_to_terminal, reported
from headend.cli.terminal import CommandError, err, out
from headend.clock import utc_now
from headend.demo import Demo, DemoError, Demonstration
from headend.demo_broker import DemoBrokerError
from headend.foundation import Base
from headend.jobs.by_hand import Outcome
from headend.store import curves, meters
from headend.store.network import Delivered
from headend.store.pool import Pool
from schemas.config import load_settings
from schemas.models import load_any

_BARS: Final = " ▁▂▃▄▅▆▇█"


@reported
async def run(
    demo: Annotated[bool, typer.Option("--demo", help="Simulate a field of meters and collect it.")] = False,
    demo_meters: Annotated[
        int | None,
        typer.Option(
            "--meters",
            min=1,
            max=20_000,
            help="With --demo: only so many meters that answer directly, instead of every kind of link.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="With --demo: draws the meters' loads.")] = 1,
    base_port: Annotated[
        int, typer.Option(min=1024, max=65000, help="With --demo: the first meter's TCP port.")
    ] = 20000,
    days: Annotated[int | None, typer.Option(min=1, max=366, help="How far back to collect.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The API's port.")] = None,
) -> None:
    """Run the head-end: read meters as schedules say, and serve the API. Ctrl-C stops it.

    Settings come from HEADEND_* variables and headend.toml; options here go before them.
    """
    from headend import app as service

    given = {name: value for name, value in (("read_days", days), ("api_port", port)) if value is not None}
    settings = load_settings(**given)
    log_to_terminal(settings)
    field = Demo(demo_meters, seed, base_port) if demo else None
    try:
        await service.run(settings, _Terminal(), demo=field)
    except (DemoError, DemoBrokerError) as error:
        raise CommandError(str(error)) from error


class _Terminal:
    """Tells what the service does, as `headend.app.View` asks for it."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._url = ""
        self._shown: Demonstration | None = None

    def opened(self, base: Base) -> None:
        applied = len(base.migrated.applied)
        news = f", {applied} migrations applied" if applied else ""
        out.print(f"database  {base.where}, TimescaleDB: {base.migrated.timescale}{news}", soft_wrap=True)

    def demonstrating(self, shown: Demonstration) -> None:
        self._shown = shown
        done = shown.imported
        count = len(done.added) + len(done.unchanged)
        out.print(
            f"field     {count} simulated meters, ports from {shown.demo.base_port} on: {len(done.added)} "
            f"imported, {len(done.unchanged)} known"
        )
        if shown.network is not None:
            out.print(f"network   {_command()} network show", markup=False)

    def listening(self, what: str, where: str) -> None:
        out.print(f"listening {where}, {what}", soft_wrap=True)

    def serving(self, url: str) -> None:
        self._url = url
        out.print(f"API       {url}  (description: {url}/docs)", soft_wrap=True)

    def collecting(self, outcome: Outcome) -> None:
        if not outcome.due:
            return
        if self._progress is None:
            self._progress = Progress(
                TextColumn("collecting"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("meters  {task.fields[intervals]:,} intervals  {task.fields[failed]} failed"),
                TimeElapsedColumn(),
                console=err,
            )
            self._progress.start()
            self._bar = self._progress.add_task("", total=outcome.due, intervals=0, failed=0)
        if self._bar is not None:
            self._progress.update(
                self._bar,
                total=outcome.due,
                completed=outcome.done,
                intervals=outcome.intervals,
                failed=outcome.failed,
            )

    async def collected(self, outcome: Outcome, pool: Pool) -> None:
        self._end_progress()
        tell_outcome(outcome)
        asset_id = await _some_meter(pool)
        if asset_id is None:
            out.print(f"no meters yet: {_command()} meters import FILE", markup=False, soft_wrap=True)
        else:
            await _curve(pool, asset_id)
            self._try_it(asset_id)
        out.print("Ctrl-C stops it.")

    def delivered(self, rows: Sequence[Delivered], *, is_all: bool) -> None:
        found: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            key = ("" if row.link is None else row.link.value, load_any(row.model).driver)
            sums = found.setdefault(key, [0, 0, 0])
            for place, count in enumerate((row.meters, row.delivering, row.intervals)):
                sums[place] += count
        table = Table("link", "language", box=None, pad_edge=False)
        for head in ("meters", "delivering", "intervals"):
            table.add_column(head, justify="right")
        for (link, language), counts in found.items():
            table.add_row(link.replace("_", " ") or "direct", language, *(f"{count:,}" for count in counts))
        out.print(table)
        if is_all:
            out.print("every kind of link delivers")
        else:
            out.print("sampled meters and brokers' devices follow at their boundaries")

    def stopping(self) -> None:
        self._end_progress()
        out.print("stopping")

    def _end_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _try_it(self, asset_id: str) -> None:
        until = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
        query = f"from={until - timedelta(days=1):%FT%TZ}&to={until:%FT%TZ}"
        token = "$HEADEND_TOKEN"  # noqa: S105 - the name of a variable
        if self._shown is not None:
            token = self._shown.token if self._shown.token_is_new else f"$(cat {self._shown.token_file})"
            if self._shown.token_is_new:
                out.print(f"token     kept in {self._shown.token_file}, shown only now", soft_wrap=True)
        else:
            out.print(f"token     {_command()} token create NAME makes one", markup=False, soft_wrap=True)
        out.print("try", style="bold")
        for line in (
            f'curl -H "Authorization: Bearer {token}" \\',
            f"  '{self._url}/api/v1/meters/{asset_id}/load-curve?{query}&format=csv'",
            f"{_command()} read {asset_id}",
            f"{_command()} events --follow",
        ):
            out.print(f"  {line}", markup=False, soft_wrap=True)


def _command() -> str:
    """This command as it was called: the bare name is not found where its environment is not active."""
    return sys.argv[0] if Path(sys.argv[0]).name == "headend" else "headend"


async def _some_meter(pool: Pool) -> str | None:
    async with pool.connection() as connection:
        return next((meter.asset_id for meter in await meters.page(connection, limit=1)), None)


async def _curve(pool: Pool, asset_id: str) -> None:
    """The last whole day of a meter as one line of bars."""
    end = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - timedelta(days=1)
    amounts = await _amounts(pool, asset_id, start, end)
    hours = [sum(amounts[n : n + 4]) for n in range(0, len(amounts), 4)]
    if len(hours) > 1:
        top = max(*hours, 1)
        bars = "".join(2 * _BARS[1 + (len(_BARS) - 2) * amount // top] for amount in hours)
        out.print(f"{asset_id} on {start:%F} (UTC), active import by hours:", markup=False)
        out.print(f"  {bars}")


async def _amounts(pool: Pool, asset_id: str, start: datetime, end: datetime) -> list[int]:
    async with pool.connection() as connection, curves.snapshot(connection):
        meter = await meters.by_asset(connection, asset_id)
        state = await curves.meter_state(connection, meter.meter_id, 1, start, end)
        before, rows = await curves.rows(connection, state)
    readings = [row.values[0] for row in ([before] if before else []) + rows]
    return [
        max(later - earlier, 0)
        for earlier, later in pairwise(readings)
        if earlier is not None and later is not None
    ]
