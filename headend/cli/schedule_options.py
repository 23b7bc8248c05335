"""Options of a schedule on the command line, and the body that they say."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from headend.cli.meter_options import Which
from headend.cli.terminal import CommandError
from schemas.schedule import Missed

_WHEN: Final = "When"
_WHAT: Final = "What to read"
_RETRY: Final = "Retries"


@dataclass(frozen=True, slots=True)
class Runs:
    """When it runs, and until when."""

    cron: Annotated[
        str | None,
        typer.Option(help="Minute, hour, day, month, weekday, as '0 1 * * *'.", rich_help_panel=_WHEN),
    ] = None
    every: Annotated[int | None, typer.Option(help="Every so many minutes.", rich_help_panel=_WHEN)] = None
    zone: Annotated[
        str | None, typer.Option(help="IANA time zone of cron and times.", rich_help_panel=_WHEN)
    ] = None
    opens: Annotated[
        str | None,
        typer.Option(help="No attempt before: 02:00, or 30m after the run.", rich_help_panel=_WHEN),
    ] = None
    closes: Annotated[
        str | None, typer.Option(help="No attempt begins after: 05:30, or 4h.", rich_help_panel=_WHEN)
    ] = None
    deadline: Annotated[str | None, typer.Option(help="Done by: 06:00, or 5h30m.", rich_help_panel=_WHEN)] = (
        None
    )
    priority: Annotated[
        int | None,
        typer.Option(min=0, max=9, help="Each step is worth an hour of deadline.", rich_help_panel=_WHEN),
    ] = None
    missed: Annotated[
        Missed | None,
        typer.Option(help="What becomes of runs while the service was down.", rich_help_panel=_WHEN),
    ] = None


@dataclass(frozen=True, slots=True)
class Reads:
    """What it reads."""

    curves: Annotated[
        bool, typer.Option("--curves", help="Load curves since their last coverage.", rich_help_panel=_WHAT)
    ] = False
    days: Annotated[
        int | None, typer.Option(min=1, max=366, help="So many days back at most.", rich_help_panel=_WHAT)
    ] = None
    profiles: Annotated[
        list[int] | None, typer.Option("--profile", help="Only this load profile.", rich_help_panel=_WHAT)
    ] = None
    registers: Annotated[
        bool, typer.Option("--registers", help="The registers of the meter's model.", rich_help_panel=_WHAT)
    ] = False
    obis: Annotated[
        list[str] | None, typer.Option("--obis", help="This register, as 1.8.0.", rich_help_panel=_WHAT)
    ] = None
    events: Annotated[
        bool, typer.Option("--events", help="Event logs and alarm registers.", rich_help_panel=_WHAT)
    ] = False
    billing: Annotated[
        bool, typer.Option("--billing", help="The billing profile.", rich_help_panel=_WHAT)
    ] = False
    clock: Annotated[
        bool, typer.Option("--clock", help="How far the clock is off.", rich_help_panel=_WHAT)
    ] = False
    forwarded: Annotated[
        bool,
        typer.Option("--forwarded", help="What concentrators keep of their meters.", rich_help_panel=_WHAT),
    ] = False

    def works(self) -> list[dict[str, Any]]:
        """As `schemas.job.Work` takes them. Raises CommandError where options do not go together."""
        if not self.curves and (self.days is not None or self.profiles):
            raise CommandError("--days and --profile are for --curves: give that too")
        found: list[dict[str, Any]] = []
        if self.curves:
            found.append(_given({"kind": "curves", "days": self.days, "profiles": self.profiles}))
        if self.registers or self.obis:
            found.append(_given({"kind": "registers", "obis": self.obis}))
        others = {
            "events": self.events, "billing": self.billing, "clock": self.clock, "forwarded": self.forwarded,
        }  # fmt: skip
        return found + [{"kind": kind} for kind, wanted in others.items() if wanted]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often it tries, and until when."""

    attempts: Annotated[
        int | None, typer.Option(min=1, help="Attempts at a meter.", rich_help_panel=_RETRY)
    ] = None
    first_pause: Annotated[
        float | None, typer.Option(help="Seconds: bound of the first pause.", rich_help_panel=_RETRY)
    ] = None
    longest_pause: Annotated[
        float | None, typer.Option(help="Seconds: bound of every pause.", rich_help_panel=_RETRY)
    ] = None
    drop_dead: Annotated[
        int | None,
        typer.Option(help="Seconds after the run; default the deadline.", rich_help_panel=_RETRY),
    ] = None


def body(runs: Runs, reads: Reads, which: Which, retries: Retries, **own: Any) -> dict[str, Any]:
    """What was said, as `schemas.schedule.Schedule` takes it; what was not said is not in it. Raises
    CommandError."""
    told = _given(
        {
            "cron": runs.cron,
            "every_min": runs.every,
            "zone": runs.zone,
            "deadline": runs.deadline,
            "priority": runs.priority,
            "missed": runs.missed,
        }
        | own
    )
    parts = {
        "window": _given({"opens": runs.opens, "closes": runs.closes}),
        "retry": _given(
            {
                "attempts": retries.attempts,
                "first_s": retries.first_pause,
                "longest_s": retries.longest_pause,
                "drop_dead_s": retries.drop_dead,
            }
        ),
        "works": reads.works(),
        "selection": which.selection(),
    }
    return told | {name: part for name, part in parts.items() if part}


def _given(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}
