"""headend campaign: programs that are applied to meters, wave by wave."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError
from rich.table import Table

from headend.approvals.campaigns import subject_of
from headend.approvals.steering import MayNot, Steer, Steering
from headend.approvals.steering import steer as steered
from headend.cli.campaign_options import Course, Follow
from headend.cli.campaign_submit import follow_to_end, submit
from headend.cli.campaign_view import (
    BAD,
    campaign_json,
    meter_json,
    meter_table,
    state_of,
    tell_meter,
    waves_table,
)
from headend.cli.documents import document, mistakes
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, out, print_json
from headend.moment.campaign_feed import look
from headend.people.identity import cli_principal
from headend.programs.report import report
from headend.store import approvals, campaign_meters, campaign_views, campaigns, programs
from headend.store.approvals import ApprovalState
from schemas.campaign import CampaignState
from schemas.program import PROGRAM, Program, ProgramKind

app = typer.Typer(
    help="Campaigns: which program is applied to which meters, and how far that is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

Number = Annotated[int, typer.Argument(min=1, help="The campaign's number.")]
Reason = Annotated[str, typer.Option(help="Why: it goes into the audit trail.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
#: Meters that are told one by one.
_SHOWN: Final = 40


@app.command("list")
@reported
async def list_command(
    state: Annotated[
        list[CampaignState] | None, typer.Option(help="Only in this state; may be repeated.")
    ] = None,
    kind: Annotated[ProgramKind | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List campaigns, newest first."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await campaigns.page(connection, limit=limit, states=state, kind=kind)
        told = [await look(connection, one.campaign_id) for one in found]
    if as_json:
        print_json([campaign_json(one) for one in told])
        return
    if not told:
        out.print("no campaigns; headend campaign propose --help shows how one is made")
        return
    table = Table("campaign", "title", "state", "wave", "ended", "failed", "by", "made")
    for one in told:
        totals = one.totals
        open_ = totals.get("waiting", 0) + totals.get("open", 0)  # type: ignore[call-overload]
        campaign = one.campaign
        table.add_row(
            str(campaign.campaign_id),
            campaign.title,
            state_of(campaign),
            "" if campaign.wave is None else str(campaign.wave),
            f"{one.total - open_:,} of {one.total:,}",
            f"{sum(totals.get(bad, 0) for bad in BAD):,}",
            campaign.actor,
            f"{campaign.created_at:%F %R}Z",
        )
    out.print(table)


@app.command("show")
@reported
async def show(
    number: Number,
    proofs: Annotated[bool, typer.Option("--proofs", help="Each meter with its proof.")] = False,
    meter: Annotated[
        str | None, typer.Option(help="This meter: its proof, and each step that was taken.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one campaign: waves and states, and the meters that failed."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await look(connection, number)
        program = await programs.find(connection, found.campaign.program_id)
        if meter is not None:
            await _show_meter(connection, number, meter, as_json=as_json)
            return
        approval = await approvals.newest(connection, subject_of(number))
        states = None if proofs else BAD
        listed = await campaign_views.named(connection, number, limit=_SHOWN, states=states)
    if as_json:
        content = PROGRAM.dump_python(program.content, mode="json")
        print_json(campaign_json(found) | {"content": content, "meters": [meter_json(one) for one in listed]})
        return
    campaign = found.campaign
    out.print(f"campaign {number}, {program.kind} by {campaign.actor}: {campaign.title}")
    out.print(state_of(campaign))
    if approval is not None:
        waits = approval.state is ApprovalState.WAITING
        todo = (
            f": headend approvals approve {approval.approval_id}" if waits else f" by {approval.decided_by}"
        )
        out.print(f"approval {approval.approval_id} {approval.state}{todo}")
    out.print(waves_table(found))
    for one in listed:
        if proofs:
            out.print(meter_table(one))
        else:
            tell_meter(one)
    if len(listed) == _SHOWN:
        err.print(f"and perhaps more: headend campaign report {number} --out FILE.csv has all")


async def _show_meter(connection: Any, number: int, name: str, *, as_json: bool) -> None:
    meter_id = await campaign_views.number(connection, name)
    meter = None if meter_id is None else await campaign_meters.of_meter(connection, number, meter_id)
    if meter is None:
        raise CommandError(f"{name!r} has no part in campaign {number}")
    one = campaign_views.Named(name, meter)
    steps = await campaign_meters.steps(connection, number, meter.meter_id)
    if as_json:
        print_json(meter_json(one) | {"steps": [step._asdict() for step in steps]})
        return
    out.print(meter_table(one))
    table = Table("at", "step", "", "detail")
    for step in steps:
        table.add_row(f"{step.at:%F %T}Z", step.step, step.phase, json.dumps(step.detail, ensure_ascii=False))
    out.print(table)


@app.command("follow")
@reported
async def follow(number: Number, as_json: AsJson = False) -> int:
    """Follow a campaign until it ends or is stopped; exit status 1 where a meter failed.

    Where no service runs, it is taken on and its meters are worked at here. Ctrl-C leaves it as it is.
    """
    async with base() as opened:
        return await follow_to_end(opened, number, as_json=as_json)


@app.command("pause")
@reported
async def pause(number: Number, reason: Reason) -> None:
    """Begin nothing further at its meters until it is resumed."""
    await _steer(number, Steering.PAUSE, reason)


@app.command("resume")
@reported
async def resume(number: Number, reason: Reason) -> None:
    """Let it go on where it stood."""
    await _steer(number, Steering.RESUME, reason)


@app.command("abort")
@reported
async def abort(number: Number, reason: Reason) -> None:
    """End it: what has not begun never does."""
    await _steer(number, Steering.ABORT, reason)


async def _steer(number: int, what: Steering, reason: str) -> None:
    async with base() as opened:
        async with opened.pool.connection() as connection:
            principal = await cli_principal(connection, opened.settings)
        try:
            done = await steered(opened.pool.connection, Steer(number, what, reason), principal)
        except MayNot as error:
            raise CommandError(f"{error}; you are {principal.actor}") from error
    out.print(f"campaign {number} is {state_of(done)}")


@app.command("report")
@reported
async def report_command(
    number: Number,
    file: Annotated[Path, typer.Option("--out", help="The CSV file; - is standard output.", dir_okay=False)],
) -> None:
    """Write what came of each meter, with its proof, as CSV."""
    async with base() as opened:
        async with opened.pool.connection() as connection:
            await campaigns.find(connection, number)
        if str(file) == "-":
            async for piece in report(opened.pool.connection, number):
                typer.echo(piece, nl=False)
            return
        with file.open("w", encoding="utf-8", newline="") as writing:
            async for piece in report(opened.pool.connection, number):
                writing.write(piece)
    err.print(f"{file} has campaign {number}")


@app.command("propose")
@reported
@expanded
async def propose(
    program: Annotated[
        Path,
        typer.Option(help="The program: a TOML or JSON file with its kind.", exists=True, dir_okay=False),
    ],
    plan: Annotated[
        Path | None,
        typer.Option(help="A plan: a TOML or JSON file; options go before it.", exists=True, dir_okay=False),
    ] = None,
    title: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    *,
    which: Which,
    course: Course,
    follow: Follow = False,
    as_json: AsJson = False,
) -> int:
    """Put a program forward for meters. Exit status 3: another person has to approve, and nothing was sent.

    [bold]headend campaign propose --program summer.toml --group residential --canaries 20 --waves 10,30,60
    --window 22:00-05:00@Europe/Berlin[/bold]
    """
    content = _program(program)
    asked = course.plan(which, document=None if plan is None else document(plan))
    name = program.stem
    return await submit(
        content,
        asked,
        title=title or f"{content.kind} {name}",
        name=name,
        follow=follow,
        as_json=as_json,
    )


def _program(file: Path) -> Program:
    told = document(file)
    if told.get("kind") not in tuple(ProgramKind):
        raise CommandError(
            f"{file} is no program: it begins with its kind, one of {', '.join(ProgramKind)}, as in "
            'kind = "clock"; tariff documents and lists of parameters are put forward by '
            "`headend tariff apply` and `headend parameters apply`"
        )
    try:
        return PROGRAM.validate_python(told)
    except ValidationError as error:
        raise CommandError("\n  ".join([f"{file} is no program:", *mistakes(error)])) from error
