"""Options of a schedule on the command line, and the body that they say."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headend.cli.meter_list import meter_list
from headend.cli.terminal import CommandError
from schemas.schedule import Missed

_WHEN: Final = "When"
Cron = Annotated[
    str | None,
    typer.Option(help="Minute, hour, day, month, weekday, as '0 1 * * *'.", rich_help_panel=_WHEN),
]
Every = Annotated[int | None, typer.Option(help="Every so many minutes.", rich_help_panel=_WHEN)]
Zone = Annotated[str | None, typer.Option(help="IANA time zone of cron and times.", rich_help_panel=_WHEN)]
Opens = Annotated[
    str | None, typer.Option(help="No attempt before: 02:00, or 30m after the run.", rich_help_panel=_WHEN)
]
Closes = Annotated[
    str | None, typer.Option(help="No attempt begins after: 05:30, or 4h.", rich_help_panel=_WHEN)
]
Deadline = Annotated[str | None, typer.Option(help="Done by: 06:00, or 5h30m.", rich_help_panel=_WHEN)]
Priority = Annotated[
    int | None,
    typer.Option(min=0, max=9, help="Each step is worth an hour of deadline.", rich_help_panel=_WHEN),
]
MissedRule = Annotated[
    Missed | None,
    typer.Option("--missed", help="What becomes of runs while the service was down.", rich_help_panel=_WHEN),
]

_WHAT: Final = "What to read"
Curves = Annotated[
    bool, typer.Option("--curves", help="Load curves since their last coverage.", rich_help_panel=_WHAT)
]
Days = Annotated[
    int | None, typer.Option(min=1, max=366, help="So many days back at most.", rich_help_panel=_WHAT)
]
Profiles = Annotated[
    list[int] | None, typer.Option("--profile", help="Only this load profile.", rich_help_panel=_WHAT)
]
Registers = Annotated[
    bool, typer.Option("--registers", help="The registers of the meter's model.", rich_help_panel=_WHAT)
]
Obis = Annotated[
    list[str] | None, typer.Option("--obis", help="This register, as 1.8.0.", rich_help_panel=_WHAT)
]
Events = Annotated[
    bool, typer.Option("--events", help="Event logs and alarm registers.", rich_help_panel=_WHAT)
]
Billing = Annotated[bool, typer.Option("--billing", help="The billing profile.", rich_help_panel=_WHAT)]
Clock = Annotated[bool, typer.Option("--clock", help="How far the clock is off.", rich_help_panel=_WHAT)]
Forwarded = Annotated[
    bool, typer.Option("--forwarded", help="What concentrators keep of their meters.", rich_help_panel=_WHAT)
]

WHICH: Final = "Which meters (all conditions must hold; none: all meters)"
Groups = Annotated[list[str] | None, typer.Option("--group", help="In this group.", rich_help_panel=WHICH)]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="With key or key=value.", rich_help_panel=WHICH)
]
Feeders = Annotated[list[str] | None, typer.Option("--feeder", help="On this feeder.", rich_help_panel=WHICH)]
Transformers = Annotated[
    list[str] | None, typer.Option("--transformer", help="At this transformer.", rich_help_panel=WHICH)
]
Stations = Annotated[
    list[str] | None,
    typer.Option("--station", help="Below this concentrator or substation.", rich_help_panel=WHICH),
]
Models = Annotated[list[str] | None, typer.Option("--model", help="Of this model.", rich_help_panel=WHICH)]
Query = Annotated[str | None, typer.Option(help="Asset ids like this, with * and ?.", rich_help_panel=WHICH)]
Meters = Annotated[list[str] | None, typer.Option("--meter", help="This meter.", rich_help_panel=WHICH)]
MetersFile = Annotated[
    Path | None,
    typer.Option(
        help="The meters of a CSV file with asset_id.", exists=True, dir_okay=False, rich_help_panel=WHICH
    ),
]

_RETRY: Final = "Retries"
Attempts = Annotated[int | None, typer.Option(min=1, help="Attempts at a meter.", rich_help_panel=_RETRY)]
FirstPause = Annotated[
    float | None, typer.Option(help="Seconds: bound of the first pause.", rich_help_panel=_RETRY)
]
LongestPause = Annotated[
    float | None, typer.Option(help="Seconds: bound of every pause.", rich_help_panel=_RETRY)
]
DropDead = Annotated[
    int | None,
    typer.Option(help="Seconds after the run; default the deadline.", rich_help_panel=_RETRY),
]


def works(
    curves: bool,
    days: int | None,
    profiles: list[int] | None,
    registers: bool,
    obis: list[str] | None,
    events: bool,
    billing: bool,
    clock: bool,
    forwarded: bool,
) -> list[dict[str, Any]]:
    if not curves and (days is not None or profiles):
        raise CommandError("--days and --profile are for --curves: give that too")
    found: list[dict[str, Any]] = []
    if curves:
        found.append(given({"kind": "curves", "days": days, "profiles": profiles}))
    if registers or obis:
        found.append(given({"kind": "registers", "obis": obis}))
    told = {"events": events, "billing": billing, "clock": clock, "forwarded": forwarded}
    return found + [{"kind": kind} for kind, wanted in told.items() if wanted]


def selected(
    groups: list[str] | None,
    tags: list[str] | None,
    feeders: list[str] | None,
    transformers: list[str] | None,
    stations: list[str] | None,
    models: list[str] | None,
    query: str | None,
    meters: list[str] | None,
    file: Path | None,
) -> dict[str, Any]:
    named = [*(meters or ()), *(() if file is None else meter_list(file))]
    return given(
        {"groups": groups, "tags": tags, "feeders": feeders, "transformers": transformers,
         "stations": stations, "models": models, "query": query, "meters": named or None},
    )  # fmt: skip


def given(told: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """What was said; empty parts were not."""
    said = {name: value for name, value in told.items() if value is not None}
    for name, part in parts.items():
        if isinstance(part, dict):
            part = {key: value for key, value in part.items() if value is not None}
        if part:
            said[name] = part
    return said
