"""headend switch: customers switched off and on, limits of load, critical customers, the emergency stop."""

import re
from datetime import UTC
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.campaign_options import Course, Follow
from headend.cli.campaign_submit import submit
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.shell import base, reported
from headend.cli.switch_state import read_breakers, tell_state
from headend.cli.terminal import CommandError, counted, err, moment, out, print_json
from headend.clock import utc_now
from headend.people.identity import cli_principal
from headend.store import meters, switching
from headend.store.errors import UnknownError
from headend.switching import critical, stopping
from schemas.meter import Meter
from schemas.programs.switch import LimitProgram, SwitchAction, SwitchProgram, SwitchReason

app = typer.Typer(
    help="Switch customers off and on, limit their load, stop all switching at once.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
flags = typer.Typer(
    help="Critical customers: who must not be switched off or limited.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(flags, name="critical")

Named = Annotated[list[str] | None, typer.Argument(help="Asset ids of meters.", metavar="METER...")]
Reason = Annotated[SwitchReason, typer.Option(help="Why: each switching has a reason.")]
Note = Annotated[str, typer.Option(help="What the reason does not say.")]
Why = Annotated[str, typer.Option("--reason", help="Why: it goes into the audit trail.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_HISTORY: Final = 20


async def _switch(
    action: SwitchAction,
    named: list[str] | None,
    reason: SwitchReason,
    note: str,
    which: Which,
    course: Course,
    follow: bool,
    as_json: bool,
) -> int:
    program = SwitchProgram(action=action, reason=reason, note=note)
    title = f"{action} for {reason.replace('_', ' ')}"
    return await submit(program, course.plan(which, named=named), title=title, follow=follow, as_json=as_json)


@app.command()
@reported
@expanded
async def disconnect(
    named: Named = None,
    *,
    reason: Reason,
    note: Note = "",
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Switch customers off. Refused: critical customers, and more in an hour than the settings allow.

    [bold]headend switch disconnect SIM000010000001 --reason arrears[/bold]
    """
    return await _switch(SwitchAction.DISCONNECT, named, reason, note, which, course, follow, as_json)


@app.command()
@reported
@expanded
async def reconnect(
    named: Named = None,
    *,
    reason: Reason,
    note: Note = "",
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Switch customers on: at once where the meter's mode does that, else ready for the customer's button."""
    return await _switch(SwitchAction.RECONNECT, named, reason, note, which, course, follow, as_json)


@app.command()
@reported
@expanded
async def arm(
    named: Named = None,
    *,
    reason: Reason,
    note: Note = "",
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Make meters ready for reconnection: the customer pushes the button."""
    return await _switch(SwitchAction.ARM, named, reason, note, which, course, follow, as_json)


@app.command()
@reported
@expanded
async def limit(
    named: Named = None,
    *,
    reason: Reason,
    watts: Annotated[int, typer.Option(min=1, max=10_000_000, help="So much load is allowed.")],
    lasts: Annotated[
        str | None, typer.Option("--for", help="For so long: 2h, 90m, 3d. Default: until another is set.")
    ] = None,
    over: Annotated[
        str | None, typer.Option("--over", help="The load may be above for so long: 30s. Default: unchanged.")
    ] = None,
    note: Note = "",
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Limit the load of customers, for a time or until another limit is set.

    [bold]headend switch limit SIM000010000001 --watts 2000 --for 2h --reason prepay[/bold]
    """
    program = LimitProgram(
        reason=reason,
        note=note,
        watts=watts,
        for_s=None if lasts is None else _seconds(lasts, "--for", least=60),
        over_s=None if over is None else _seconds(over, "--over", least=0),
    )
    title = f"limit of {watts} W for {reason.replace('_', ' ')}"
    return await submit(program, course.plan(which, named=named), title=title, follow=follow, as_json=as_json)


@app.command()
@reported
async def state(
    named: Annotated[list[str], typer.Argument(help="Asset ids of meters.", metavar="METER...")],
    stored: Annotated[
        bool, typer.Option("--stored", help="Do not ask the meters: what was read of them before.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Read where breakers stand now, and show what was switched, by and approved by whom.

    Nothing is switched. Exit status 1 where one was not read; what was read of it before is shown then.
    """
    failed: dict[str, str] = {}
    known: dict[str, Meter] = {}
    shown: list[dict[str, Any]] = []
    async with base() as opened:
        async with opened.pool.connection() as connection:
            for name in dict.fromkeys(named):
                try:
                    known[name] = await meters.by_asset(connection, name)
                except UnknownError as error:
                    failed[name] = str(error)
        if not stored:
            failed |= await read_breakers(opened, known)
        async with opened.pool.connection() as connection:
            for name, meter in known.items():
                found = await switching.state(connection, meter.meter_id)
                history = await switching.history(connection, meter.meter_id, limit=_HISTORY)
                flagged = await switching.critical(connection, [meter.meter_id], utc_now())
                shown.append(
                    {
                        "meter": name,
                        "state": None if found is None else found._asdict(),
                        "failure": failed.get(name),
                        "critical": flagged.get(meter.meter_id),
                        "history": [one._asdict() for one in history],
                    }
                )
    if as_json:
        print_json(shown)
    else:
        for one in shown:
            tell_state(one)
    for name, why in failed.items():
        err.print(f"{name}: {why}", style="red", markup=False, soft_wrap=True)
    return int(bool(failed))


@app.command()
@reported
async def stop(why: Why) -> None:
    """Emergency stop: nothing is switched or limited from now on, until another person allows it again."""
    async with base() as opened:
        async with opened.pool.connection() as connection:
            principal = await cli_principal(connection, opened.settings)
        try:
            halted = await stopping.stop(opened.pool.connection, principal, why)
        except stopping.MayNot as error:
            raise CommandError(f"{error}; you are {principal.actor}") from error
    out.print(f"all switching is stopped, and with it {counted(len(halted), 'campaign')} that were under way")
    for number in halted:
        out.print(f"  campaign {number}: headend campaign resume {number}, once switching is allowed again")


@app.command()
@reported
async def allow(why: Why) -> None:
    """End an emergency stop: by another person than who stopped. Campaigns are resumed one by one."""
    async with base() as opened:
        async with opened.pool.connection() as connection:
            principal = await cli_principal(connection, opened.settings)
        try:
            held = await stopping.allow(opened.pool.connection, principal, why)
        except stopping.MayNot as error:
            raise CommandError(f"{error}; you are {principal.actor}") from error
    out.print(f"switching is allowed again; it was stopped by {held.actor}: {held.reason}")


@flags.command("add")
@reported
async def add_critical(
    why: Annotated[str, typer.Option("--why", help="Why: dialysis at home, hospital, pump station.")],
    meter: Annotated[str | None, typer.Option(help="This meter.")] = None,
    point: Annotated[str | None, typer.Option(help="Whatever meter is at this metering point.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339; default: until it is removed.")] = None,
) -> None:
    """Flag a customer: he is not switched off or limited from now on, by campaigns that run too."""
    if (meter is None) == (point is None):
        raise CommandError("name a --meter or a --point, and one of them")
    async with base() as opened, opened.pool.connection() as connection:
        about = f"meter:{meter}" if point is None else f"point:{point}"
        principal = await acting(connection, opened, "critical.add", about)
        number = await critical.add(
            connection,
            asset_id=meter,
            point=point,
            why=why,
            until=None if until is None else moment(until, option="--until"),
            actor=principal.actor,
        )
    out.print(f"critical customer {number}: {meter or point}")


@flags.command("remove")
@reported
async def remove_critical(
    number: Annotated[int, typer.Argument(help="Its number, as `list` shows it.")],
) -> None:
    """Take a flag away."""
    async with base() as opened, opened.pool.connection() as connection:
        about = f"critical:{number}"
        principal = await acting(connection, opened, "critical.remove", about)
        await critical.remove(connection, number, actor=principal.actor)
    out.print(f"critical customer {number} is none any longer")


@flags.command("list")
@reported
async def list_critical(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List critical customers."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await switching.list_critical(connection, limit=limit)
    if as_json:
        print_json([one._asdict() for one in found])
        return
    if not found:
        out.print("no critical customers; headend switch critical add flags one")
        return
    table = Table("number", "meter", "metering point", "why", "until", "by")
    for one in found:
        until = "" if one.until is None else f"{one.until.astimezone(UTC):%F %R}Z"
        table.add_row(str(one.critical_id), one.asset_id or "", one.point or "", one.why, until, one.actor)
    out.print(table)


def _seconds(text: str, option: str, *, least: int) -> int:
    found = _SPAN.fullmatch(text)
    seconds = -1 if found is None else int(found[1]) * _UNITS[found[2]]
    if not least <= seconds <= 366 * 86_400:
        raise CommandError(f"{option}: {text!r} is no time, as in 90m, 2h or 3d ({least} s to 366 days)")
    return seconds
