"""Options of a campaign's plan, and the plan that they say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from headend.cli.documents import mistakes
from headend.cli.meter_options import WHICH, Which
from headend.cli.terminal import CommandError, moment
from schemas.campaign import Plan

_WHEN: Final = "When, and in which waves"
_WINDOW: Final = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)@(\S+)", re.ASCII)
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for its end.")]


@dataclass(frozen=True, slots=True)
class Course:
    """Everything of a plan but its meters."""

    all_meters: Annotated[
        bool, typer.Option("--all-meters", help="All commissioned meters.", rich_help_panel=WHICH)
    ] = False
    canaries: Annotated[
        int | None,
        typer.Option("--canaries", min=0, help="So many meters go first.", rich_help_panel=_WHEN),
    ] = None
    canary: Annotated[
        list[str] | None, typer.Option("--canary", help="This meter goes first.", rich_help_panel=_WHEN)
    ] = None
    waves: Annotated[
        str | None,
        typer.Option("--waves", help="Shares of the rest in percent: 10,30,60.", rich_help_panel=_WHEN),
    ] = None
    soak: Annotated[
        int | None, typer.Option("--soak", min=0, help="Seconds between two waves.", rich_help_panel=_WHEN)
    ] = None
    starts: Annotated[
        str | None,
        typer.Option("--starts", help="Not before (RFC 3339); default now.", rich_help_panel=_WHEN),
    ] = None
    window: Annotated[
        str | None,
        typer.Option("--window", help="Local times: 22:00-05:00@Europe/Berlin.", rich_help_panel=_WHEN),
    ] = None
    per_station: Annotated[
        int | None,
        typer.Option(
            "--per-station", min=1, help="Meters at once behind a concentrator.", rich_help_panel=_WHEN
        ),
    ] = None
    stop_percent: Annotated[
        float | None,
        typer.Option(
            "--stop-percent", min=0, max=100, help="It stops when more fail.", rich_help_panel=_WHEN
        ),
    ] = None
    stop_from: Annotated[
        int | None,
        typer.Option("--stop-from", min=1, help="... counted from so many meters on.", rich_help_panel=_WHEN),
    ] = None
    attempts: Annotated[
        int | None, typer.Option("--attempts", min=1, help="Attempts at a meter.", rich_help_panel=_WHEN)
    ] = None
    expires: Annotated[
        int | None,
        typer.Option("--expires", min=1, help="Seconds that each wave may take.", rich_help_panel=_WHEN),
    ] = None

    def plan(
        self, which: Which, *, named: Sequence[str] | None = None, document: dict[str, Any] | None = None
    ) -> Plan:
        """What was said, over a ``document`` of a file. Meters that were ``named`` for something that begins
        at once have somebody who waits: that plan is urgent.

        Raises CommandError, also where no meters are named: all of them are meant by --all-meters alone.
        """
        told = dict(document or {})
        if selection := which.selection(named):
            told["selection"] = selection
        elif self.all_meters:
            told["selection"] = {}
        elif not told.get("selection"):
            raise CommandError("which meters? name them (--meter, --group, ...) or say --all-meters")
        said: dict[str, Any] = {
            "canaries": self.canaries,
            "canary_meters": self.canary or None,
            "waves": None if self.waves is None else _shares(self.waves),
            "soak_s": self.soak,
            "starts_at": None if self.starts is None else moment(self.starts, option="--starts"),
            "window": None if self.window is None else _window(self.window),
            "per_station": self.per_station,
            "stop_percent": self.stop_percent,
            "stop_from": self.stop_from,
            "expires_s": self.expires,
            "urgent": (bool(named) and self.starts is None) or None,
        }
        told |= {name: value for name, value in said.items() if value is not None}
        if self.attempts is not None:
            told["retry"] = {**told.get("retry", {}), "attempts": self.attempts}
        try:
            return Plan.model_validate(told)
        except ValidationError as error:
            raise CommandError("\n  ".join(["the plan cannot be used:", *mistakes(error)])) from error


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
