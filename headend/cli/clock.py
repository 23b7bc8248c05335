"""headend clock: what meters' clocks show, how far the fleet's are off, and putting them right."""

from contextlib import AsyncExitStack
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final
from uuid import uuid4

import typer
from rich.console import Group as Rows
from rich.console import RenderableType
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.campaign_options import Course, Follow
from headend.cli.campaign_submit import submit
from headend.cli.follow import follow, is_served, worked_at
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, out, print_json
from headend.clock import utc_now
from headend.moment.reads import Ask, begin
from headend.programs.clocks.drift import Bin, Drift, drift
from headend.store import clocks, on_demand, results
from headend.store.clocks import Change, Kept, Newest
from headend.store.results import Result
from schemas.job import Clock, RequestState, Retry
from schemas.programs.clock import ClockProgram

app = typer.Typer(
    help="Meters' clocks: read, compared, put right.", no_args_is_help=True, add_completion=False
)
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
_MS: Final = timedelta(milliseconds=1)
_BAR: Final = 50
_WITHIN: Final = timedelta(minutes=10)


@app.callback()
def group() -> None:
    """Meters' clocks: read, compared, put right."""


@app.command("read")
@reported
async def read(
    asset_ids: Annotated[list[str], typer.Argument(help="The meters' asset ids.")],
    history: Annotated[int, typer.Option(min=1, max=1000, help="Tell so many readings.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Read the clock of meters now; nothing is changed. Offsets are the meter's time less ours.

    headend clock read SIM00000001 --history 10
    """
    async with base() as opened:
        async with opened.pool.connection() as connection:
            found = await on_demand.named(connection, asset_ids)
            for name, meter in zip(asset_ids, found, strict=True):
                if meter is None or meter.address is None:
                    why = (
                        "no meter has this asset id" if meter is None else "it has no address: it only pushes"
                    )
                    raise CommandError(f"{name}: {why}")
            numbers = {
                meter.meter_id: name
                for name, meter in zip(asset_ids, found, strict=True)
                if meter is not None
            }
            about = f"meter:{asset_ids[0]}"
            who = await acting(connection, opened, "clock.read", about, on=numbers)
            ask = Ask(
                tuple(numbers), (Clock(),), f"clock of {len(numbers)} meters", about,
                who.actor, uuid4().hex, _WITHIN, retry=Retry(attempts=1),
            )  # fmt: skip
            begun = await begin(connection, ask, now=utc_now())
        ended: list[Result] = []
        async with AsyncExitStack() as stack:
            served = await is_served(opened.pool)
            if not served:
                due = partial(results.due_lanes, job_id=begun.job_id)
                await stack.enter_async_context(worked_at(opened, due))
            await follow(opened, begun.job_id, ended.append, quiet=True, may_leave=False)
        told: dict[str, list[Kept]] = {}
        changed: dict[str, list[Change]] = {}
        now = utc_now()
        async with opened.pool.connection() as connection:
            for number, name in numbers.items():
                since = now - timedelta(days=366)
                told[name] = await clocks.series(connection, number, since, now, limit=history)
                changed[name] = await clocks.changes(connection, number, since, now, limit=history)
    failed = [one for one in ended if one.state is not RequestState.DONE]
    told = {name: kept for name, kept in told.items() if name not in {one.meter for one in failed}}
    if as_json:
        print_json({name: [_kept(one) for one in kept] for name, kept in told.items()})
    elif told:
        out.print(_series(told))
        if any(changed[name] for name in told):
            out.print(_changes({name: changed[name] for name in told}))
    for one in failed:
        err.print(f"{one.meter}: {one.state}: {one.reason or 'its turn did not come'}", markup=False)
    for name in [name for name, kept in told.items() if not kept]:
        err.print(f"{name}: its model has no clock that can be read")
    return 1 if failed or not all(told.values()) else 0


@app.command("drift")
@reported
async def drift_command(
    days: Annotated[int, typer.Option(min=1, max=366, help="By readings of so many days.")] = 30,
    beyond: Annotated[int, typer.Option(min=0, max=86_400, help="Seconds: list who is further off.")] = 60,
    limit: Annotated[int, typer.Option(min=0, max=200_000, help="List so many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show how far the fleet's clocks are off, by their newest readings, and how fast they go by model.

    A schedule measures them: headend schedules add clocks --cron "30 3 * * *" --zone Europe/Berlin --clock
    --deadline 06:00
    """
    async with base() as opened, opened.pool.connection() as connection:
        newest = await clocks.fleet(connection, utc_now() - timedelta(days=days))
    told = drift(newest, beyond=timedelta(seconds=beyond), most=limit)
    if as_json:
        print_json(_drift_json(told, beyond))
    elif not told.clocks:
        out.print(f"no clock was read in the last {days} days: headend schedules add NAME --clock ...")
    else:
        out.print(_picture(told, beyond))


@app.command("sync")
@reported
@expanded
async def sync(
    *,
    leave: Annotated[int, typer.Option(min=0, max=900, help="Seconds off that are left alone.")] = 5,
    shift: Annotated[int, typer.Option(min=0, max=900, help="Up to so many it is shifted.")] = 60,
    may_set: Annotated[
        bool, typer.Option("--set/--no-set", help="Whether it is set where it is further off.")
    ] = True,
    summer_time: Annotated[
        bool, typer.Option("--summer-time/--no-summer-time", help="Whether its own rules are corrected.")
    ] = True,
    concentrators: Annotated[
        bool, typer.Option("--concentrators", help="Those of concentrators, not of meters.")
    ] = False,
    which: Which,
    course: Course,
    follow_it: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Put clocks right by a campaign: left, shifted or set, away from the ends of intervals, after what they
    measured was read.

        headend clock sync --group residential --leave 5 --shift 60
    """
    if leave > shift:
        raise CommandError("--leave is at most --shift")
    plan = course.plan(which)
    program = ClockProgram(
        leave_s=leave, shift_s=shift, may_set=may_set, summer_time=summer_time,
        of="concentrators" if concentrators else "meters",
    )  # fmt: skip
    return await submit(program, plan, title="clocks are put right", follow=follow_it, as_json=as_json)


# ---- pictures ---------------------------------------------------------------------------------------


def _seconds(span: timedelta) -> Decimal:
    return Decimal(round(span / _MS)).scaleb(-3)


def _kept(one: Kept) -> dict[str, Any]:
    return {
        "at": one.reading.at,
        "offset_s": str(_seconds(one.reading.offset)),
        "uncertainty_s": str(_seconds(one.reading.uncertainty)),
        "deviation_min": one.reading.deviation_min,
        "status": one.reading.status,
        "source": one.source,
    }


def _series(told: dict[str, list[Kept]]) -> Table:
    table = Table("meter", "read at", "it showed", "off, s", "give or take, s", "UTC - local, min", "by")
    for name, kept in told.items():
        for one in kept:
            reading = one.reading
            table.add_row(
                name,
                f"{reading.at:%F %T}Z",
                f"{reading.shown:%F %T}Z",
                f"{_seconds(reading.offset):+}",
                f"{_seconds(reading.uncertainty)}",
                "-" if reading.deviation_min is None else f"{reading.deviation_min}",
                one.source,
            )
    return table


def _changes(changed: dict[str, list[Change]]) -> Table:
    table = Table("meter", "changed at", "how", "intervals marked from", "to", "took it", "campaign")
    took = {True: "yes", False: "no: not marked", None: "not verified"}
    for name, changes in changed.items():
        for one in changes:
            table.add_row(
                name, f"{one.at:%F %T}Z", one.change, f"{one.since:%F %T}Z", f"{one.until:%F %T}Z",
                took[one.took_effect], str(one.campaign_id),
            )  # fmt: skip
    return table


def _picture(told: Drift, beyond: int) -> RenderableType:
    parts: list[RenderableType] = [
        f"{told.clocks:,} clocks, seconds ahead (+) or behind (-)",
        _bars(told.bins),
    ]
    models = Table("model", "clocks", "rate known of", "median ppm", "slowest", "fastest")
    for one in told.models:
        rates = [_ppm(rate) for rate in (one.ppm, one.slowest_ppm, one.fastest_ppm)]
        models.add_row(one.model, f"{one.clocks:,}", f"{one.rated:,}", *rates)
    parts.append(models)
    if told.beyond:
        parts.append(f"{told.beyond:,} are more than {beyond} s off")
        table = Table("meter", "model", "read at", "off, s", "give or take, s", "ppm")
        for far in told.outliers:
            table.add_row(
                far.asset_id, far.model, f"{far.at:%F %T}Z", f"{_seconds(far.offset):+}",
                f"{_seconds(far.uncertainty)}", _ppm(far.ppm),
            )  # fmt: skip
        parts.append(table)
    return Rows(*parts)


def _bars(bins: tuple[Bin, ...]) -> Table:
    table = Table.grid(padding=(0, 1))
    for column in range(3):
        table.add_column(justify="left" if column == 1 else "right")
    most = max(one.clocks for one in bins)
    for one in bins:
        if one.low_s is None:
            name = f"below {one.high_s:+}"
        elif one.high_s is None:
            name = f"from {one.low_s:+}"
        else:
            name = f"{one.low_s:+} to {one.high_s:+}"
        length = -(-one.clocks * _BAR // most)
        table.add_row(name, "█" * length, f"{one.clocks:,}")
    return table


def _ppm(rate: Decimal | None) -> str:
    return "-" if rate is None else f"{rate:+f}"


def _drift_json(told: Drift, beyond: int) -> dict[str, Any]:
    return {
        "meters": told.clocks,
        "bins": [{"low_s": one.low_s, "high_s": one.high_s, "meters": one.clocks} for one in told.bins],
        "models": [
            {
                "model": one.model,
                "meters": one.clocks,
                "rated": one.rated,
                "ppm": _rate(one.ppm),
                "fastest_ppm": _rate(one.fastest_ppm),
                "slowest_ppm": _rate(one.slowest_ppm),
            }
            for one in told.models
        ],
        "beyond_s": beyond,
        "beyond": told.beyond,
        "outliers": [_outlier(one) for one in told.outliers],
    }


def _rate(ppm: Decimal | None) -> str | None:
    return None if ppm is None else f"{ppm:f}"


def _outlier(one: Newest) -> dict[str, Any]:
    return {
        "meter": one.asset_id,
        "model": one.model,
        "at": one.at,
        "offset_s": str(_seconds(one.offset)),
        "uncertainty_s": str(_seconds(one.uncertainty)),
        "ppm": _rate(one.ppm),
    }
