"""headend why: why a meter is late, and what to do."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from headend.cli.shell import base, reported
from headend.cli.terminal import out, print_json
from headend.clock import utc_now
from headend.completeness.why import Verdict, why_late
from headend.store import meters
from headend.store.why import Facts


@reported
async def why(
    meter: Annotated[str, typer.Argument(help="Asset id.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Tell why a meter is late: last attempts, the stage that fails, what holds it now, the next try, what to
    do. Exit status 1 when it is late."""
    async with base() as opened, opened.pool.connection() as connection:
        found, told = await why_late(
            connection,
            await meters.by_asset(connection, meter),
            now=utc_now(),
            forwarded_s=opened.settings.forwarded_within_s,
            profile_folders=opened.settings.profile_folders,
        )
    if as_json:
        print_json(_as_json(found, told))
    else:
        _show(found, told)
    return 1 if told.late else 0


def _as_json(found: Facts, told: Verdict) -> dict[str, Any]:
    return {
        "asset_id": found.meter.asset_id,
        **asdict(told),
        "curves": [one._asdict() for one in found.curves],
        "attempts": [one._asdict() for one in found.attempts],
    }


def _show(found: Facts, told: Verdict) -> None:
    style = "red" if told.late else "green"
    out.print(f"{found.meter.asset_id}: {told.summary}", style=style, soft_wrap=True)
    for one in told.holds:
        until = "" if one.until is None else f" (until {one.until:%F %T}Z)"
        out.print(f"  held   {one.text}{until}", soft_wrap=True)
    if told.next_try_at is not None:
        out.print(f"  next   {told.next_try_at:%F %T}Z")
    elif told.late:
        out.print("  next   nobody will try")
    for text in told.advice:
        out.print(f"  do     {text}", soft_wrap=True)
    if found.attempts:
        table = Table("attempt", "took", "rows", "stage", "whose fault", "reason", "worker", box=None)
        for made in found.attempts:
            table.add_row(
                f"{made.began_at:%F %T}Z",
                f"{made.took_ms / 1000:.1f} s",
                str(made.rows),
                made.stage or "good",
                made.fault or "",
                made.reason or "",
                made.worker,
            )
        out.print(table)
