"""headend read: meters read on demand."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from uuid import uuid4

import typer

from headend.cli.acting import acting
from headend.cli.follow import Ending, follow, is_served, stages, worked_at
from headend.cli.read_view import as_json as result_as_json
from headend.cli.read_view import curve, failure, gave, tell_meter, tell_one
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, moment, out, print_json
from headend.clock import utc_now
from headend.moment.feed import SMALL
from headend.moment.reads import Ask, begin
from headend.store import meters, on_demand, results, selection
from headend.store.pool import Pool
from headend.store.results import Result
from headend.store.sql import Connection
from protocols.dlms.obis import Obis
from schemas.job import (
    Billing,
    CurveRange,
    Curves,
    Events,
    Registers,
    RequestState,
    Retry,
    Selection,
    Work,
)

#: Results that are fetched at once.
_PAGE: Final = 1_000
#: Mistakes and failures that are told one by one.
_SHOWN: Final = 20
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
From = Annotated[str | None, typer.Option("--from", help="First start of an interval (RFC 3339).")]
To = Annotated[str | None, typer.Option("--to", help="End of the range, not included; default now.")]


@reported
async def read(
    asset_ids: Annotated[list[str] | None, typer.Argument(help="The meters' asset ids.")] = None,
    groups: Annotated[list[str] | None, typer.Option("--group", help="All meters of a group.")] = None,
    feeders: Annotated[list[str] | None, typer.Option("--feeder", help="All meters on a feeder.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="All meters with a tag.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Asset ids, one in a line; # begins a remark.", exists=True, dir_okay=False),
    ] = None,
    obis: Annotated[
        list[str] | None,
        typer.Option(help="A register's OBIS code; may be repeated. Default: those of the meter's model."),
    ] = None,
    since: From = None,
    until: To = None,
    profile: Annotated[int, typer.Option(min=0, help="Load profile of --from and --to.")] = 1,
    curves: Annotated[bool, typer.Option("--curves", help="What is missing of load curves.")] = False,
    events: Annotated[bool, typer.Option("--events", help="Event logs and alarm registers.")] = False,
    billing: Annotated[bool, typer.Option("--billing", help="The billing profile.")] = False,
    attempts: Annotated[
        int | None, typer.Option(min=1, max=20, help="At one meter. Default: 1 for one meter, 3 for several.")
    ] = None,
    within: Annotated[
        int, typer.Option(min=1, max=7 * 86_400, help="No attempt begins later, in seconds.")
    ] = 600,
    as_json: AsJson = False,
) -> int:
    """Read meters now: registers, a range of the load curve (--from, --to), or more. Stores what they give.

    It is a job in the lanes of the meters: a running service works at it, else this command does. Ctrl-C asks
    whether it shall be cancelled or go on without us.

    Exit status 1 when a meter was not read or refused something.

        headend read SIM00000001 --obis 1.8.0
        headend read --group residential --curves
    """
    works = _works(obis, since, until, profile, curves=curves, events=events, billing=billing)
    selected = Selection(groups=tuple(groups or ()), feeders=tuple(feeders or ()), tags=tuple(tags or ()))
    async with base() as opened:
        names = _places(asset_ids or (), file)
        async with opened.pool.connection() as connection:
            found = await _meters(connection, names, selected)
            is_single = len(found) == 1 and selected == Selection() and file is None
            about = f"meter:{names[0].name}" if names else "meters"
            who = await acting(connection, opened, "read", about, on=found)
            begun = await begin(
                connection,
                Ask(
                    meter_ids=tuple(found),
                    works=works,
                    title=f"read of {names[0].name}" if is_single else f"read of {len(found)} meters",
                    about=f"meter:{names[0].name}" if names else "",
                    actor=who.actor,
                    correlation_id=uuid4().hex,
                    within=timedelta(seconds=within),
                    retry=Retry(attempts=attempts or (1 if is_single else 3)),
                ),
                now=utc_now(),
            )
        seen: list[Result] = []

        def on_result(one: Result) -> None:
            seen.append(one)
            if not (as_json or is_single):
                tell_one(one)

        async with AsyncExitStack() as stack:
            served = await is_served(opened.pool)
            if not served:
                due = partial(results.due_lanes, job_id=begun.job_id)
                await stack.enter_async_context(worked_at(opened, due))
            ending, last = await follow(opened, begun.job_id, on_result, quiet=as_json, may_leave=served)
        if ending is Ending.LEFT or last is None:
            err.print(f"job {begun.job_id} goes on: headend jobs follow {begun.job_id}")
            return 0
        if last.tally.counts.total > SMALL:  # of so many nobody told results as they came
            seen = await _results(opened.pool, begun.job_id)
            for one in (
                [] if as_json else [one for one in seen if one.state is not RequestState.DONE][:_SHOWN]
            ):
                tell_one(one)
        if is_single:
            return await _tell_single(opened.pool, next(iter(found)), seen[0], works, as_json=as_json)
    if as_json:
        print_json({"job": begun.job_id, "results": [result_as_json(one) for one in seen]})
    counts = last.tally.counts
    if not as_json:
        out.print(f"job {begun.job_id}: {counts.done:,} of {counts.total:,} meters read  {stages(last)}")
    is_whole = counts.done == counts.total and not any(gave(one).refused for one in seen)
    return 0 if is_whole else 1


async def _results(pool: Pool, job_id: int) -> list[Result]:
    found: list[Result] = []
    while True:
        async with pool.connection() as connection:
            page = await results.page(
                connection, job_id, limit=_PAGE, after=found[-1].request_id if found else 0
            )
        found += page
        if len(page) < _PAGE:
            return found


async def _tell_single(
    pool: Pool, meter_id: int, one: Result, works: tuple[Work, ...], *, as_json: bool
) -> int:
    if one.state is not RequestState.DONE:
        async with pool.connection() as connection:
            meter = await meters.get(connection, meter_id)
            fault = await results.fault(connection, one.request_id, since=utc_now() - timedelta(days=7))
        raise CommandError(failure(one, meter.address, fault))
    rows, units = await curve(pool, meter_id, [work for work in works if isinstance(work, CurveRange)])
    if as_json:
        print_json(result_as_json(one, rows))
    else:
        tell_meter(one, rows, units)
    return 1 if gave(one).refused else 0


def _works(
    obis: list[str] | None,
    since: str | None,
    until: str | None,
    profile: int,
    *,
    curves: bool,
    events: bool,
    billing: bool,
) -> tuple[Work, ...]:
    works: list[Work] = []
    if since is not None:
        start, end = moment(since, option="--from"), utc_now()
        if until is not None:
            end = moment(until, option="--to")
        if start >= end:
            raise CommandError("--to must be later than --from")
        works.append(CurveRange(profile=profile, since=start, until=end))
    elif until is not None:
        raise CommandError("--to needs --from")
    works += [Curves()] * curves + [Events()] * events + [Billing()] * billing
    if obis or not works:
        works.append(Registers(obis=tuple(dict.fromkeys(map(_code, obis or ())))))
    return tuple(works)


def _code(text: str) -> str:
    try:
        return str(Obis.parse(text))
    except ValueError as error:
        raise CommandError(f"--obis: {error}") from error


class _Named(NamedTuple):
    name: str
    where: str


def _places(asset_ids: Sequence[str], file: Path | None) -> list[_Named]:
    named = [_Named(one, "") for one in asset_ids]
    if file is not None:
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            if name := line.partition("#")[0].strip():
                named.append(_Named(name, f"{file}:{number}: "))
    return named


async def _meters(connection: Connection, names: Sequence[_Named], selected: Selection) -> dict[int, None]:
    """Numbers of all meters that are meant, each once. Raises CommandError naming all that nobody has."""
    by_name = await on_demand.named(connection, [one.name for one in names])
    wrong = [
        f"{one.where}no meter has the asset id {one.name!r}"
        if meter is None
        else f"{one.where}meter {one.name!r} has no address; it only pushes"
        for one, meter in zip(names, by_name, strict=True)
        if meter is None or meter.address is None
    ]
    found = {meter.meter_id: None for meter in by_name if meter is not None}
    if selected != Selection():
        wrong += [one.reason for one in await selection.unknown(connection, selected)]
        found |= dict.fromkeys(await selection.meters(connection, selected, at=utc_now()))
    if wrong:
        more = f"\nand {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise CommandError("\n".join(wrong[:_SHOWN]) + more)
    if not found:
        raise CommandError("name meters, or choose them: METER..., --file, --group, --feeder, --tag")
    return found
