"""headend gaps, headend reports: the ledger of missing intervals, and what came of each night."""

from typing import Annotated, Any

import typer
from rich.table import Table

from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.store import gaps as ledger
from headend.store import meters
from headend.store import reports as kept
from headend.store.gaps import Gap, GapState
from headend.store.reports import Report


@reported
async def gaps(
    meter: Annotated[str | None, typer.Argument(help="Asset id; none: all meters.")] = None,
    state: Annotated[GapState | None, typer.Option(help="Only in this state.")] = None,
    cause: Annotated[str | None, typer.Option(help="Only of this cause, as timeout or not_asked.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200_000, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show the gap ledger: ranges that should be there and are not, and what became of them."""
    async with base() as opened, opened.pool.connection() as connection:
        number = None if meter is None else (await meters.by_asset(connection, meter)).meter_id
        found = await ledger.page(connection, limit=limit, state=state, cause=cause, meter_id=number)
    if as_json:
        print_json([_gap(one) for one in found])
    elif not found:
        out.print("no gap of that kind")
    else:
        table = Table(
            "gap", "meter", "profile", "from", "to", "state", "cause", "tries", "next try", box=None
        )
        for one in found:
            since, until = one.during
            table.add_row(
                str(one.gap_id),
                one.asset_id,
                str(one.profile),
                f"{since:%F %R}Z",
                f"{until:%F %R}Z",
                one.state.value,
                one.cause or "",
                str(one.tries),
                "" if one.next_try_at is None or one.closed_at is not None else f"{one.next_try_at:%F %R}Z",
            )
        out.print(table)


@reported
async def reports(
    report: Annotated[int | None, typer.Argument(help="Its number; none: the newest of all.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show reports of the runs of schedules, or one with the stations and meters that lacked something."""
    async with base() as opened, opened.pool.connection() as connection:
        if report is None:
            found = await kept.page(connection, limit=limit)
        else:
            one = await kept.find(connection, report)
            if one is None:
                raise CommandError(f"no report {report}; headend reports lists them")
            found = [one]
    if as_json:
        print_json([_report(one) for one in found])
    elif not found:
        out.print("no run of a schedule was reported yet")
    else:
        out.print(_table(found))
        if report is not None:
            for one in found[0].body.get("missing", []):
                station = "" if one["station"] is None else f" behind {one['station']}"
                out.print(
                    f"  {one['meter']}{station}: {one['open']} open, {one['lost']} lost: {one['cause']}"
                )


def _table(found: list[Report]) -> Table:
    table = Table("report", "run", "at its", "from", "to", "complete", "lacking", "done", "failed", box=None)
    for one in found:
        numbers, requests = one.body.get("completeness"), one.body["requests"]
        table.add_row(
            str(one.report_id),
            one.title,
            one.occasion,
            f"{one.since:%F %R}Z",
            f"{one.until:%F %R}Z",
            "" if numbers is None else f"{numbers['ratio']:.1%}",
            "" if numbers is None else f"{numbers['incomplete']:,}",
            f"{requests['done']:,}",
            f"{requests['failed'] + requests['expired']:,}",
        )
    return table


def _gap(gap: Gap) -> dict[str, Any]:
    since, until = gap.during
    return {
        "gap_id": gap.gap_id,
        "asset_id": gap.asset_id,
        "profile": gap.profile,
        "from": since,
        "to": until,
        "missing": [{"from": one, "to": other} for one, other in gap.missing],
        "lost": [{"from": one, "to": other} for one, other in gap.lost],
        "state": gap.state.value,
        "cause": gap.cause,
        "reason": gap.reason,
        "tries": gap.tries,
        "next_try_at": gap.next_try_at,
        "wraps_at": gap.wraps_at,
        "found_at": gap.found_at,
        "closed_at": gap.closed_at,
        "job_id": gap.job_id,
    }


def _report(report: Report) -> dict[str, Any]:
    return {
        "report_id": report.report_id,
        "job_id": report.job_id,
        "schedule_id": report.schedule_id,
        "title": report.title,
        "occasion": report.occasion,
        "made_at": report.made_at,
        "from": report.since,
        "to": report.until,
        "body": report.body,
    }
