"""headend events: what meters, concentrators and brokers report."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, moment, out, print_json
from headend.foundation import Base
from headend.house import open_house
from headend.store import events, meters
from headend.store.events import EventFilter, StoredEvent
from schemas.event import EventLog, EventMeaning
from schemas.job import Events

Word = TypeVar("Word", EventMeaning, EventLog)

#: Invocation counters that one command may use of a key.
_COUNTERS: Final = 16
#: Following, it is asked for what is new so often, and again for what came so shortly before: a transaction
#: that took its time shows late.
_ASKED_S: Final = 2.0
_OVERLAP: Final = timedelta(minutes=2)
_MOST_NEW: Final = 10_000


@reported
async def list_events(
    meter: Annotated[str | None, typer.Argument(help="Asset id; none: all meters and nodes.")] = None,
    since: Annotated[str | None, typer.Option(help="Happened from then on; RFC 3339 with an offset.")] = None,
    until: Annotated[str | None, typer.Option(help="Happened before then.")] = None,
    meaning: Annotated[list[str] | None, typer.Option(help="As power_down; may be repeated.")] = None,
    log: Annotated[list[str] | None, typer.Option(help="As fraud; may be repeated.")] = None,
    below: Annotated[
        list[str] | None, typer.Option(help="Code of a feeder, transformer or station above it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    read: Annotated[bool, typer.Option("--read", help="Ask the meter for its event logs first.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Show events, the newest last, each with its time in UTC and here. Exit status 1 when a meter that was
    asked could not be read."""
    if follow and (as_json or until is not None):
        raise CommandError("--follow goes on and on: neither --until nor --json goes with it")
    if read and meter is None:
        raise CommandError("--read asks one meter: name it")
    status = 0
    async with base() as opened:
        async with opened.pool.connection() as connection:
            number = None if meter is None else (await meters.by_asset(connection, meter)).meter_id
            only = EventFilter(
                None if since is None else moment(since, option="--since"),
                None if until is None else moment(until, option="--until"),
                number,
                below=tuple(below or ()),
                meanings=tuple(_one_of(EventMeaning, text, "--meaning") for text in meaning or ()),
                logs=tuple(_one_of(EventLog, text, "--log") for text in log or ()),
            )
        if number is not None and read:
            status = await _read(opened, number)
        began = datetime.now(UTC)
        async with opened.pool.connection() as connection:
            found = await events.page(connection, only, limit=limit)
        if as_json:
            print_json([_as_json(one) for one in reversed(found)])
            return status
        out.print(_table(found[::-1]) if found or follow else "no event of that kind is stored")
        seen = {(one.at, one.identity) for one in found}
        while follow:
            await asyncio.sleep(_ASKED_S)
            asked = datetime.now(UTC)
            async with opened.pool.connection() as connection:
                came = await events.arrived(connection, only, since=began - _OVERLAP, limit=_MOST_NEW)
            new = [one for one in came if (one.at, one.identity) not in seen]
            # what lies before the overlap is not asked for again
            seen = {(one.at, one.identity) for one in came}
            began = asked
            if new:
                out.print(_table(new, head=False))
    return status


async def _read(opened: Base, meter_id: int) -> int:
    """Read one meter's event logs; the exit status."""
    async with opened.pool.connection() as connection:
        who = await acting(connection, opened, "events.read", "meter", on=[meter_id])
    async with (
        open_house(opened, counter_block=_COUNTERS) as house,
        house.by_hand(who.actor) as hand,
    ):
        outcome = await hand.read([meter_id], Events())
    if outcome.away:
        err.print("not read: it dials in, and is not connected", style="yellow")
    for failure in outcome.failures:
        err.print(
            f"not read ({failure.stage or 'no conversation'}): {failure.reason}",
            style="yellow",
            soft_wrap=True,
        )
    return 0 if outcome.read else 1


def _one_of(words: type[Word], text: str, option: str) -> Word:
    try:
        return words(text)
    except ValueError:
        raise CommandError(f"{option}: {text!r} is none of {', '.join(words)}") from None


def _as_json(one: StoredEvent) -> dict[str, Any]:
    return {
        "at": one.at,
        "meter": one.asset_id,
        "node": one.node,
        "log": one.log.value,
        "meaning": one.meaning.value,
        "code": one.code,
        "duration_s": one.duration_s,
        "text": one.text,
        "occurred_at": one.occurred_at,
        "received_at": one.received_at,
        "source": one.source,
        "standing": one.standing,
    }


def _table(found: Sequence[StoredEvent], *, head: bool = True) -> Table:
    table = Table("UTC", "here", "meter", "log", "meaning", "code", "lasted", "text", show_header=head)
    for one in found:
        # a time of ours, where the meter told none, is marked
        mark = "" if one.occurred_at is not None else "~"
        who = one.asset_id if one.node is None else f"{one.asset_id or ''} ({one.node})".strip()
        table.add_row(
            f"{mark}{one.at:%F %T}Z",
            f"{one.at.astimezone():%F %T}",
            who,
            one.log.value,
            one.meaning.value,
            "" if one.code is None else str(one.code),
            "" if one.duration_s is None else str(timedelta(seconds=one.duration_s)),
            one.text or "",
        )
    return table
