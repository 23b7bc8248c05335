"""headend completeness: how complete it is, how complete it will be, and who is missing."""

import asyncio
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from time import monotonic
from typing import Annotated, Any, Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import typer
from rich.console import Group as Rows
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.clock import utc_now
from headend.completeness.standing import Standing, local_day, standing
from headend.store import completeness as store
from headend.store.completeness import By, Group
from headend.store.pool import Pool

#: Watching, it is asked again after so many seconds, and never for more than a tenth of the time.
_AGAIN_S: Final = 5.0
_REST: Final = 9
_MOST: Final = 40


@reported
async def completeness(
    day: Annotated[str | None, typer.Option(help="As 2026-03-01; yesterday where left out.")] = None,
    zone: Annotated[str, typer.Option(help="Whose midnights the day has.")] = "UTC",
    by: Annotated[By, typer.Option(help="What meters are grouped by.")] = By.CONCENTRATOR,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many groups.")] = _MOST,
    missing: Annotated[int, typer.Option(min=0, max=100_000, help="List so many meters that lack some.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show how complete a day's load curves are, the forecast, why intervals are missing, and by groups."""
    if watch and as_json:
        raise CommandError("--watch goes on and on: --json does not go with it")
    since, until = _day(day, zone)
    async with base() as opened:
        if not watch:
            told = await _ask(opened.pool, since, until, by, limit, missing)
            if as_json:
                print_json(_as_json(since, until, by, told))
            else:
                out.print(_picture(since, until, by, told))
            return
        with Live(console=out, auto_refresh=False) as live:
            while True:
                began = monotonic()
                told = await _ask(opened.pool, since, until, by, limit, missing)
                live.update(_picture(since, until, by, told), refresh=True)
                await asyncio.sleep(max(_AGAIN_S, _REST * (monotonic() - began)))


def _day(text: str | None, zone: str) -> tuple[datetime, datetime]:
    if zone not in available_timezones():
        raise CommandError(f"--zone: {zone!r} is no time zone; one is Europe/Berlin")
    place = ZoneInfo(zone)
    try:
        day = (
            utc_now().astimezone(place).date() - timedelta(days=1)
            if text is None
            else date.fromisoformat(text)
        )
        return local_day(day, place)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--day: {text!r} is no day, as in 2026-03-01") from error


class _Told(NamedTuple):
    """All that is shown: how it stands, by causes, and who lacks some."""

    standing: Standing
    causes: list[Group]
    missing: list[store.Missing]


async def _ask(pool: Pool, since: datetime, until: datetime, by: By, limit: int, missing: int) -> _Told:
    async with pool.connection() as connection:
        told = await standing(connection, since, until, now=utc_now(), by=by, limit=limit)
        causes = told.groups if by is By.CAUSE else (await store.groups(connection, By.CAUSE))[1]
        return _Told(told, causes, await store.missing(connection, limit=missing))


def _picture(since: datetime, until: datetime, by: By, told: _Told) -> RenderableType:
    now, then = told.standing.now, told.standing.forecast
    if not now.expected:
        return Text(
            f"nothing is expected of {since:%F %R}Z to {until:%F %R}Z: no meter was commissioned then"
        )
    head = Text(f"{now.ratio:.1%} now", style="green" if now.present == now.expected else "yellow")
    if then.ratio is not None and then.at is not None:
        head.append(f", forecast {then.ratio:.1%} by {then.at.astimezone():%R}")
    elif then.reason is not None and now.open:
        head.append(f" (no forecast: {then.reason})")
    head.append(
        f"\n{now.present:,} of {now.expected:,} intervals of {now.meters:,} meters, "
        f"{since:%F %R}Z to {until:%F %R}Z; {now.open:,} open, {now.lost:,} lost; "
        f"{now.incomplete:,} meters lack some",
        style="default",
    )
    parts: list[RenderableType] = [head]
    lacking = [one for one in told.causes if one.name is not None]
    if lacking:
        table = Table("cause", box=None)
        for name in ("curves' meters", "open", "lost"):
            table.add_column(name, justify="right")
        for one in sorted(lacking, key=lambda one: -one.incomplete):
            table.add_row(str(one.name), f"{one.incomplete:,}", f"{one.open:,}", f"{one.lost:,}")
        parts.append(table)
    if by not in (By.NETWORK, By.CAUSE):
        parts.append(_bars(by, told.standing.groups))
    if told.missing:
        parts.append(_list(told.missing))
    return Rows(*parts)


def _bars(by: By, groups: Sequence[Group]) -> Table:
    table = Table(by.value, "", box=None)
    for name in ("complete", "meters", "lacking", "open", "lost"):
        table.add_column(name, justify="right")
    for one in groups:
        table.add_row(
            one.name or "(none)",
            ProgressBar(total=max(1, one.expected), completed=one.present, width=30),
            f"{one.ratio:.1%}",
            f"{one.meters:,}",
            f"{one.incomplete:,}",
            f"{one.open:,}",
            f"{one.lost:,}",
        )
    return table


def _list(lacking: Sequence[store.Missing]) -> Table:
    table = Table(
        "meter", "profile", "concentrator", "feeder", "cause", "open", "lost", "first open", box=None
    )
    for one in lacking:
        table.add_row(
            one.asset_id,
            str(one.profile),
            one.station or "",
            one.feeder or "",
            one.cause,
            str(one.open),
            str(one.lost),
            "" if one.first_open is None else f"{one.first_open:%F %R}Z",
        )
    return table


def _as_json(since: datetime, until: datetime, by: By, told: _Told) -> dict[str, Any]:
    found = told.standing
    return {
        "from": since,
        "to": until,
        "now": _numbers(found.now),
        "forecast": {
            "at": found.forecast.at,
            "intervals": found.forecast.intervals,
            "ratio": found.forecast.ratio,
            "reason": found.forecast.reason,
        },
        "by": by.value,
        "groups": [_numbers(one) for one in found.groups],
        "causes": [_numbers(one) for one in told.causes if one.name is not None],
        "missing": [one._asdict() for one in told.missing],
    }


def _numbers(group: Group) -> dict[str, Any]:
    return {**group._asdict(), "ratio": round(group.ratio, 6)}
