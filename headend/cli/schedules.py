"""headend schedules: what is read when."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer
from pydantic import ValidationError
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.documents import mistakes
from headend.cli.meter_options import WHICH, Which
from headend.cli.option_sets import expanded
from headend.cli.schedule_options import Reads, Retries, Runs, body
from headend.cli.schedule_view import card, local, meant, rhythm, shown
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, moment, out, print_json
from headend.schedules import calendar, changes
from headend.schedules.check import ScheduleError
from headend.schedules.planner import run_now
from headend.store import schedules
from headend.store.schedules import StoredSchedule
from schemas.config import load_settings
from schemas.schedule import Schedule

app = typer.Typer(
    help="Schedules: which meters are asked for what, and when.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

Name = Annotated[str, typer.Argument(help="The schedule's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("list")
@reported
async def list_command(
    search: Annotated[str | None, typer.Argument(help="A part of the name.")] = None,
    group: Annotated[str | None, typer.Option(help="Only those that select this group.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Only paused ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List schedules with their next run."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await schedules.page(
            connection, limit=limit, q=search, group=group, enabled=False if paused else None
        )
    if as_json:
        print_json([shown(one) for one in found])
        return
    if not found:
        out.print("no schedules; headend schedules add --help shows how one is made")
        return
    table = Table("name", "runs", "reads", "meters", "next", "deadline", "last run")
    for one in found:
        plan = one.plan
        table.add_row(
            plan.name,
            rhythm(plan),
            ", ".join(work.kind for work in plan.works),
            meant(plan.selection),
            "paused" if one.next_at is None else local(one.next_at, plan.zone),
            plan.deadline,
            "" if one.last_at is None else local(one.last_at, plan.zone),
        )
    out.print(table)


@app.command("show")
@reported
async def show(name: Name, as_json: AsJson = False) -> None:
    """Show one schedule and its next runs."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await schedules.get(connection, name)
    if as_json:
        print_json(shown(found))
        return
    out.print(card(found))


@app.command("add")
@reported
@expanded
async def add(
    name: Name,
    *,
    runs: Runs,
    reads: Reads,
    which: Which,
    retries: Retries,
    paused: Annotated[bool, typer.Option("--paused", help="Make it, and do not run it yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a schedule; all that is wrong with it is told at once, and nothing is made. No condition: all
    meters.

    [bold]headend schedules add nightly --cron "0 1 * * *" --zone Europe/Berlin --group residential --curves
    --deadline 06:00[/bold]

    [bold]headend schedules add billing --cron "10 0 1 * *" --zone Europe/Berlin --billing --deadline 12h
    --priority 9[/bold]

    [bold]headend schedules add busbars --every 15 --tag "voltage=medium" --registers --deadline 10m[/bold]
    """
    told = body(runs, reads, which, retries, name=name, enabled=not paused)
    if "works" not in told:
        raise CommandError(
            "nothing to read: give --curves, --registers, --events, --billing, --clock or --forwarded"
        )
    settings = load_settings()
    with _refusals():
        plan = Schedule.model_validate(told)
        async with base(settings) as opened, opened.pool.connection() as connection:
            who = await acting(connection, opened, "schedule.added", f"schedule:{name}")
            made = await changes.add(
                connection, plan, now=datetime.now(UTC), actor=who.actor, folders=settings.profile_folders
            )
    _tell(made, as_json=as_json)


@app.command("edit")
@reported
@expanded
async def edit(
    name: Name,
    rename: Annotated[str | None, typer.Option(help="A new name.")] = None,
    *,
    runs: Runs,
    reads: Reads,
    which: Which,
    all_meters: Annotated[
        bool, typer.Option("--all-meters", help="No condition any more.", rich_help_panel=WHICH)
    ] = False,
    retries: Retries,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays. What to read and which meters are each given as a whole; an empty
    --opens or --closes takes that bound away.

    [bold]headend schedules edit nightly --deadline 05:00 --closes 04:30[/bold]

    [bold]headend schedules edit nightly --group residential --group shops[/bold]
    """
    told = body(runs, reads, which, retries, name=rename)
    settings = load_settings()
    with _refusals():
        async with base(settings) as opened, opened.pool.connection() as connection:
            who = await acting(connection, opened, "schedule.changed", f"schedule:{name}")
            before = await schedules.get(connection, name)
            stored = before.plan.model_dump(mode="json")
            if runs.cron is not None or runs.every is not None:
                stored |= {"cron": None, "every_min": None}
            if all_meters:
                stored["selection"] = {}
            for part in ("window", "retry"):
                told[part] = stored[part] | told.get(part, {})
            told["window"] = {bound: at or None for bound, at in told["window"].items()}
            changed = await changes.change(
                connection,
                name,
                Schedule.model_validate(stored | told),
                now=datetime.now(UTC),
                actor=who.actor,
                version=before.version,
                folders=settings.profile_folders,
            )
    _tell(changed, as_json=as_json)


@app.command("pause")
@reported
async def pause(name: Name) -> None:
    """Let it not run until it is resumed."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "schedule.paused", f"schedule:{name}")
        await changes.enable(connection, name, enabled=False, now=datetime.now(UTC), actor=who.actor)
    out.print(f"{name} is paused")


@app.command("resume")
@reported
async def resume(name: Name) -> None:
    """Let it run again; runs of the pause are not made up for."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "schedule.resumed", f"schedule:{name}")
        changed = await changes.enable(connection, name, enabled=True, now=datetime.now(UTC), actor=who.actor)
    _tell(changed, as_json=False)


@app.command("remove")
@reported
async def remove(name: Name) -> None:
    """Forget it. Jobs that it has become stay, and go on."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "schedule.removed", f"schedule:{name}")
        await changes.remove(connection, name, actor=who.actor)
    out.print(f"{name} is removed")


@app.command("run")
@reported
async def run(name: Name, as_json: AsJson = False) -> None:
    """Run it now, besides its times, paused or not."""
    settings = load_settings()
    async with base(settings) as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "schedule.run", f"schedule:{name}")
        made = await run_now(
            connection,
            name,
            datetime.now(UTC),
            actor=who.actor,
            correlation_id=str(uuid4()),
            folders=settings.profile_folders,
        )
    if as_json:
        print_json(
            {"job": made.job_id, "requests": made.requests, "lanes": made.lanes, **made.times._asdict()}
        )
    else:
        out.print(f"job {made.job_id}: {made.requests:,} requests in {made.lanes:,} lanes")


@app.command("next")
@reported
async def next_command(
    name: Name,
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="So many runs.")] = 10,
    after: Annotated[str | None, typer.Option(help="Later than this (RFC 3339); default now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show when it runs next, on the clocks of its zone and in UTC.

    [bold]headend schedules next nightly -n 3 --after 2026-03-28T00:00:00Z[/bold]
    """
    begin = datetime.now(UTC) if after is None else moment(after, option="--after")
    async with base() as opened, opened.pool.connection() as connection:
        found = await schedules.get(connection, name)
    plan = found.plan
    told = [calendar.times(plan, one) for one in calendar.next_runs(plan, begin, n)]
    if as_json:
        print_json([one._asdict() for one in told])
        return
    table = Table(f"run ({plan.zone})", "run (UTC)", "window opens", "deadline", "drop-dead")
    for one in told:
        table.add_row(
            local(one.run, plan.zone),
            f"{one.run:%F %R}Z",
            local(one.opens, plan.zone),
            local(one.deadline, plan.zone),
            local(one.drop_dead, plan.zone),
        )
    out.print(table)
    if found.next_at is None:
        out.print(f"{name} is paused: these would be its runs", style="yellow")


@contextmanager
def _refusals() -> Iterator[None]:
    """What is wrong with a schedule, each on a line of its own."""
    try:
        yield
    except ValidationError as error:
        wrong = mistakes(error, whole="schedule")
        raise CommandError("\n  ".join(["the schedule cannot be used:", *wrong])) from error
    except ScheduleError as error:
        wrong = [f"{one.pointer.lstrip('/').replace('/', '.')}: {one.reason}" for one in error.wrong]
        raise CommandError("\n  ".join(["the schedule cannot be used:", *wrong])) from error
    except changes.ChangedError as error:
        raise CommandError(str(error)) from error


def _tell(one: StoredSchedule, *, as_json: bool) -> None:
    if as_json:
        print_json(shown(one))
    elif one.next_at is None:
        out.print(f"{one.plan.name} is paused")
    else:
        out.print(f"{one.plan.name} runs next at {local(one.next_at, one.plan.zone)} ({one.next_at:%F %R}Z)")
