"""headend collect: what is missing of load curves, once."""

from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.read import AsJson, From, To
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, moment, out, print_json
from headend.clock import utc_now
from headend.house import open_house
from headend.jobs.by_hand import Outcome
from headend.store import meters

#: Invocation counters that one command takes per key.
_COUNTERS = 64


@reported
async def collect(
    asset_ids: Annotated[
        list[str] | None, typer.Argument(help="Asset ids; default: all commissioned meters.")
    ] = None,
    since: From = None,
    until: To = None,
    days: Annotated[int | None, typer.Option(min=1, max=366, help="Without --from: days back.")] = None,
    as_json: AsJson = False,
) -> int:
    """Collect what is missing of load curves, once, as a job: by the service where it runs, else here.

    Exit status 1 when a meter could not be read.
    """
    async with base() as opened, open_house(opened, counter_block=_COUNTERS) as house:
        end = utc_now() if until is None else moment(until, option="--to")
        back = timedelta(days=opened.settings.read_days if days is None else days)
        start = end - back if since is None else moment(since, option="--from")
        if start >= end:
            raise CommandError("--to must be later than --from")
        only = None
        async with opened.pool.connection() as connection:
            if asset_ids:
                only = [(await meters.by_asset(connection, one)).meter_id for one in asset_ids]
            who = await acting(connection, opened, "collect", "meters", on=only)
        with Progress(console=err, transient=True, disable=as_json) as progress:
            bar = progress.add_task("collecting", total=None)

            def on_progress(outcome: Outcome) -> None:
                progress.update(bar, total=outcome.due, completed=outcome.done)

            async with house.by_hand(who.actor) as hand:
                outcome = await hand.collect(start, end, meter_ids=only, on_progress=on_progress)
    if as_json:
        print_json(outcome_as_json(outcome))
    else:
        tell_outcome(outcome)
    return 1 if outcome.failed else 0


def tell_outcome(outcome: Outcome) -> None:
    """A collection for people: totals, then failures by stage with an example of each."""
    if not outcome.due:
        out.print("nothing was missing")
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("meters", f"{outcome.read:,} read, {outcome.failed:,} failed of {outcome.due:,} due")
    if outcome.away:
        table.add_row("", f"{outcome.away:,} that dial in are not connected")
    table.add_row("intervals", f"{outcome.intervals:,} read")
    table.add_row("time", f"{outcome.seconds:.1f} s")
    out.print(table)
    for stage, count in outcome.stages.items():
        first = next((one for one in outcome.failures if one.stage is stage), None)
        example = "" if first is None else f", as {first.name}: {first.reason}"
        out.print(
            f"failed {count} x {stage or 'not by a conversation'}{example}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """A collection for scripts."""
    return {
        "job": outcome.job_id,
        "due": outcome.due,
        "read": outcome.read,
        "failed": outcome.failed,
        "away": outcome.away,
        "retries": outcome.retries,
        "intervals": outcome.intervals,
        "seconds": round(outcome.seconds, 3),
        "failures": [
            {"meter": one.name, "stage": one.stage, "reason": one.reason, "attempts": one.attempts}
            for one in outcome.failures
        ],
    }
