"""Options of a campaign on the command line, and the plan that they say."""

import re
from datetime import time
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from headend.cli.terminal import CommandError, moment
from schemas.campaign import Plan

_WHEN: Final = "When, and in which waves"
Canaries = Annotated[int | None, typer.Option(min=0, help="So many meters go first.", rich_help_panel=_WHEN)]
CanaryMeters = Annotated[
    list[str] | None, typer.Option("--canary", help="This meter goes first.", rich_help_panel=_WHEN)
]
Waves = Annotated[
    str | None, typer.Option(help="Shares of the rest in percent: 10,30,60.", rich_help_panel=_WHEN)
]
Soak = Annotated[int | None, typer.Option(min=0, help="Seconds between two waves.", rich_help_panel=_WHEN)]
Starts = Annotated[
    str | None, typer.Option("--starts", help="Not before (RFC 3339); default now.", rich_help_panel=_WHEN)
]
WindowText = Annotated[
    str | None,
    typer.Option("--window", help="Local times: 22:00-05:00@Europe/Berlin.", rich_help_panel=_WHEN),
]
PerStation = Annotated[
    int | None,
    typer.Option("--per-station", min=1, help="Meters at once behind a concentrator.", rich_help_panel=_WHEN),
]
StopPercent = Annotated[
    float | None,
    typer.Option("--stop-percent", min=0, max=100, help="It stops when more fail.", rich_help_panel=_WHEN),
]
StopFrom = Annotated[
    int | None,
    typer.Option("--stop-from", min=1, help="... counted from so many meters on.", rich_help_panel=_WHEN),
]
Attempts = Annotated[int | None, typer.Option(min=1, help="Attempts at a meter.", rich_help_panel=_WHEN)]
Expires = Annotated[
    int | None, typer.Option(min=1, help="Seconds that each wave may take.", rich_help_panel=_WHEN)
]
AllMeters = Annotated[
    bool, typer.Option("--all-meters", help="All commissioned meters are meant.", rich_help_panel=_WHEN)
]

_WINDOW: Final = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)@(\S+)", re.ASCII)


def plan(
    selection: dict[str, Any],
    *,
    all_meters: bool = False,
    canaries: int | None = None,
    canary: list[str] | None = None,
    waves: str | None = None,
    soak: int | None = None,
    starts: str | None = None,
    window: str | None = None,
    per_station: int | None = None,
    stop_percent: float | None = None,
    stop_from: int | None = None,
    attempts: int | None = None,
    expires: int | None = None,
    urgent: bool = False,
    document: dict[str, Any] | None = None,
) -> Plan:
    """What was said, over a ``document`` of a file. Raises CommandError, also where no meters are named:
    all of them are meant by ``all_meters`` alone."""
    told = dict(document or {})
    if selection:
        told["selection"] = selection
    elif all_meters:
        told["selection"] = {}
    elif not told.get("selection"):
        raise CommandError("which meters? name them (--meter, --group, ...) or say --all-meters")
    said: dict[str, Any] = {
        "canaries": canaries,
        "canary_meters": canary or None,
        "waves": None if waves is None else _shares(waves),
        "soak_s": soak,
        "starts_at": None if starts is None else moment(starts, option="--starts"),
        "window": None if window is None else _window(window),
        "per_station": per_station,
        "stop_percent": stop_percent,
        "stop_from": stop_from,
        "expires_s": expires,
        "urgent": urgent or None,
    }
    told |= {name: value for name, value in said.items() if value is not None}
    if attempts is not None:
        told["retry"] = {**told.get("retry", {}), "attempts": attempts}
    try:
        return Plan.model_validate(told)
    except ValidationError as error:
        raise CommandError("\n  ".join(["the plan cannot be used:", *wrong(error)])) from error


def wrong(error: ValidationError) -> list[str]:
    """Each mistake with its place."""
    return [
        f"{'.'.join(str(part) for part in item['loc']) or 'it'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    ]


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise CommandError(f"--waves: {text!r} are no shares in percent, as in 10,30,60") from error


def _window(text: str) -> dict[str, Any]:
    found = _WINDOW.fullmatch(text)
    try:
        if found is None:
            raise ValueError("no window")
        return {
            "opens": time.fromisoformat(found[1]),
            "closes": time.fromisoformat(found[2]),
            "zone": found[3],
        }
    except ValueError as error:
        raise CommandError(f"--window: {text!r} is none, as in 22:00-05:00@Europe/Berlin") from error
