"""headend tariff: time-of-use programs, from the document to the meter and its history."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.campaign_options import Course, Follow
from headend.cli.campaign_submit import submit
from headend.cli.conversation import conversation
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.shell import base, reported
from headend.cli.tariff_picture import svg, terminal
from headend.cli.terminal import CommandError, counted, err, moment, out, print_json
from headend.drivers.commands.tariff import TariffConversation, limits_of
from headend.house import open_house
from headend.store import meters as store_meters
from headend.store import tariffs
from schemas.config import load_settings
from schemas.model.tariff import TariffLimits
from schemas.models import load_any
from schemas.programs.tariff import TariffProgram
from schemas.tariff.calendar import Compiled
from schemas.tariff.document import TariffDocument
from schemas.tariff.explain import Explanation, explain
from schemas.tariff.finding import Finding, Severity, errors_in
from schemas.tariff.reading import Checked, read

app = typer.Typer(
    help="Time-of-use programs: check, explain, picture, apply, read, history.",
    no_args_is_help=True,
    add_completion=False,
)

File = Annotated[
    Path, typer.Argument(help="The document: TOML or JSON; see README.", exists=True, dir_okay=False)
]
MeterName = Annotated[str, typer.Argument(metavar="METER", help="Asset id.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
_COUNTERS: Final = 64
_WEEKDAYS: Final = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


@app.command("check")
@reported
async def check_command(
    file: File,
    model: Annotated[str | None, typer.Option(help="Whether meters of this model take it.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say all that is wrong with a document, each with its line. Exit status 1 where anything is; warnings
    alone are none."""
    found = _checked(file, None if model is None else _limits(model))
    if as_json:
        print_json({"is_right": found.is_right, "findings": [finding_json(one) for one in found.findings]})
        return 0 if found.is_right else 1
    _tell(file, found.findings)
    document = found.document
    if document is not None and found.is_right:
        for_model = "" if model is None else f", and meters of model {model} take it"
        counts = ", ".join(
            counted(len(getattr(document, kind)), kind.removesuffix("s").replace("_", " "))
            for kind in ("seasons", "weeks", "days", "special_days", "periods")
        )
        out.print(f"{document.name} is right{for_model}: {counts}")
    return 0 if found.is_right else 1


@app.command("explain")
@reported
async def explain_command(
    file: File,
    at: Annotated[
        str | None, typer.Option(help="A time, of the document's zone where it has no offset; default now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what counts at a moment, why, and what it switches to next."""
    document = _right(file)
    try:
        when = datetime.now(UTC) if at is None else datetime.fromisoformat(at)
    except ValueError as error:
        raise CommandError(f"--at: {at!r} is no time, as in 2026-12-31T18:30") from error
    told = explain(document, when)
    if as_json:
        print_json(_explained(told))
        return
    out.print(f"{told.at:%F %T %z}: {told.period} (tariff {told.tariff})", style="bold")
    for line in told.why:
        out.print(f"  {line}")
    if told.next_at is None:
        out.print("nothing is ever switched")
    else:
        out.print(f"next: {told.next_period} from {told.next_at:%F %T %z} on")


@app.command("picture")
@reported
async def picture(
    file: File,
    year: Annotated[int | None, typer.Option(min=1971, max=9998, help="Default: this one.")] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write an SVG there instead.", dir_okay=False)
    ] = None,
) -> None:
    """Draw a year: each date by its kind of day, and the periods of each kind as a bar."""
    document = _right(file)
    chosen = year or datetime.now(document.tz).year
    if out_file is None:
        out.print(terminal(document, chosen), soft_wrap=True)
    else:
        out_file.write_text(svg(document, chosen), encoding="utf-8")
        out.print(f"{out_file}: {document.name} in {chosen}")


@app.command("apply")
@reported
@expanded
async def apply(
    file: File,
    *,
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Have meters store, prove and activate the program: a campaign.

    Exit status 3 where a second person has to approve first, 1 where a meter has it not.
    """
    document = _right(file)
    program = TariffProgram(document=document)
    plan = course.plan(which)
    title = f"tariff {document.name}"
    return await submit(program, plan, title=title, name=document.name, follow=follow, as_json=as_json)


@app.command("read")
@reported
async def read_command(meter: MeterName, as_json: AsJson = False) -> None:
    """Read what a meter has now: both calendars, special days, the time of activation."""
    async with base() as opened, open_house(opened, counter_block=_COUNTERS) as house:
        async with opened.pool.connection() as connection:
            found = await store_meters.by_asset(connection, meter)
            await acting(connection, opened, "tariff.read", f"meter:{meter}", on=[found.meter_id])
        async with conversation(house, found) as talk:
            if not isinstance(talk, TariffConversation):
                raise CommandError(f"{meter}: meters of model {found.model} are not asked for tariffs")
            has = await talk.read_tariff()
        async with opened.pool.connection() as connection, connection.transaction():
            await tariffs.found(connection, found.meter_id, has.stored, at=datetime.now(UTC))
    if as_json:
        print_json(
            {
                "meter": meter,
                "active": has.active.as_json(),
                "passive": None if has.passive is None else has.passive.as_json(),
                **{key: value for key, value in has.stored.as_json().items() if key != "calendar"},
                "activates_at": has.activates_at,
            }
        )
        return
    _calendar("active", has.stored)
    if has.passive is not None and (has.passive.name or has.passive.days):
        own = has.specials if has.passive_specials is None else has.passive_specials
        _calendar("passive", Compiled(has.passive, own, has.rest))
    out.print(f"the passive calendar {awaited(has.activates_at, datetime.now(UTC))}")


@app.command("history")
@reported
async def history(
    meter: MeterName,
    at: Annotated[str | None, typer.Option(help="What it had then (RFC 3339).")] = None,
    as_json: AsJson = False,
) -> int:
    """Show which program a meter had from when to when. With --at exit status 1 where that is not known."""
    when = None if at is None else moment(at, option="--at")
    async with base() as opened, opened.pool.connection() as connection:
        found = await store_meters.by_asset(connection, meter)
        rows = await tariffs.history(connection, found.meter_id, at=when)
    if as_json:
        print_json([history_json(one) for one in rows])
    elif rows:
        table = Table("program", "calendar", "from", "to", "campaign", title=meter)
        for one in rows:
            since = f"{one.since:%F %T}Z" if one.is_exact else f"found {one.since:%F %T}Z"
            until = "" if one.until is None else f"{one.until:%F %T}Z"
            number = "" if one.campaign_id is None else str(one.campaign_id)
            table.add_row(one.title, one.calendar, since, until, number)
        out.print(table)
    else:
        asked = "" if when is None else f" for {when:%F %T}Z"
        out.print(f"nothing is known{asked}: headend tariff read {meter} looks at what it has")
    return 1 if when is not None and not rows else 0


def awaited(at: datetime | None, now: datetime) -> str:
    """What will become of a passive calendar. Some meters keep the time at which it was activated."""
    return "is not activated by itself" if at is None or at <= now else f"is activated at {at:%F %T}Z"


def finding_json(one: Finding) -> dict[str, Any]:
    """A finding for scripts."""
    return {"line": one.line, "place": one.place, "severity": one.severity, "message": one.message}


def history_json(one: tariffs.MeterProgram) -> dict[str, Any]:
    """A row of a meter's history for scripts."""
    return {
        "program": one.program, "program_id": one.program_id, "campaign": one.campaign_id,
        "calendar": one.calendar, "content": one.content, "from": one.since, "to": one.until,
        "is_exact": one.is_exact,
    }  # fmt: skip


def _limits(model: str) -> TariffLimits:
    found = limits_of(load_any(model, load_settings().profile_folders))
    if found is None:
        raise CommandError(f"meter model {model} says nothing of tariffs: it needs a section [tariff]")
    return found


def _checked(file: Path, limits: TariffLimits | None = None) -> Checked:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not UTF-8 at byte {error.start}") from error
    return read(text, limits=limits, now=datetime.now(UTC))


def _right(file: Path) -> TariffDocument:
    """The document, warnings told. Raises CommandError where it is wrong."""
    found = _checked(file)
    if found.document is None or errors_in(found.findings):
        _tell(file, found.findings)
        raise CommandError(f"{file} is not used: {len(errors_in(found.findings))} errors")
    return found.document


def _tell(file: Path, findings: tuple[Finding, ...]) -> None:
    for one in findings:
        where = f"{file}:{one.line}" if one.line is not None else str(file)
        is_error = one.severity is Severity.ERROR
        mark = "" if is_error else "warning: "
        place = f"{one.place}: " if one.place else ""
        err.print(
            f"{where}: {mark}{place}{one.message}", style="red" if is_error else "yellow", soft_wrap=True
        )


def _explained(told: Explanation) -> dict[str, Any]:
    return {
        "at": told.at.isoformat(),
        "period": told.period,
        "tariff": told.tariff,
        "season": told.rule.season.name,
        "week": told.rule.week,
        "day": told.rule.day.name,
        "special_day": None if told.rule.special is None else told.rule.special.date,
        "since": told.since.from_,
        "why": told.why,
        "next_at": None if told.next_at is None else told.next_at.isoformat(),
        "next_period": told.next_period,
    }


def _calendar(which: str, stored: Compiled) -> None:
    calendar = stored.calendar
    out.print(f"{which} calendar {calendar.name!r}", style="bold")
    for season in calendar.seasons:
        year = "" if season.year is None else f"{season.year}-"
        out.print(
            f"  season {season.name} from {year}{season.month:02d}-{season.day:02d}: week {season.week}"
        )
    for week in calendar.weeks:
        days = " ".join(f"{name} {number}" for name, number in zip(_WEEKDAYS, week.days, strict=False))
        out.print(f"  week {week.name}: {days}")
    if stored.rest is not None:
        days = " ".join(_WEEKDAYS[n] for n in stored.rest.weekdays)
        out.print(f"  rest days {days}: day {stored.rest.number}")
    for day in calendar.days:
        switches = ", ".join(
            f"{one.minute // 60:02d}:{one.minute % 60:02d} script {one.selector}" for one in day.switches
        )
        out.print(f"  day {day.number}: {switches}")
    for special in stored.specials:
        if special.number in calendar.numbers:
            date = f"{special.year or 'each year'}-{special.month:02d}-{special.day:02d}"
            out.print(f"  special day {date}: day {special.number}")
