"""headend read and headend collect: meters read on demand."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress
from rich.table import Table

from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, moment, out, print_json
from headend.clock import utc_now
from headend.collect.outcome import Outcome
from headend.drivers.read_now import CurveRange, ReadOutcome, UnknownProfileError, read_now
from headend.house import open_house
from headend.links.failures import stage_of
from headend.store import audit, meters
from protocols.dlms.obis import Obis
from protocols.errors import CommunicationError, Fault
from schemas.meter import Meter
from schemas.reading import INTERVAL_QUANTITIES, Quality, ReadingBatch, RegisterRead

ACTOR: Final = "cli"
#: Invocation counters that one command takes per key: it asks for little.
_COUNTERS: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TO_DO: Final = {
    Fault.LINK: "is it reachable at its address?",
    Fault.PEER: "the meter or its settings (keys, model) are to be looked at",
    Fault.OURS: "its model, keys or settings in this head-end are to be looked at",
}
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
From = Annotated[str | None, typer.Option("--from", help="First start of an interval (RFC 3339).")]
To = Annotated[str | None, typer.Option("--to", help="End of the range, not included; default now.")]


@reported
async def read(
    asset_id: Annotated[str, typer.Argument(help="The meter's asset id.")],
    obis: Annotated[
        list[str] | None,
        typer.Option(help="A register's OBIS code; may be repeated. Default: those of the meter's model."),
    ] = None,
    since: From = None,
    until: To = None,
    profile: Annotated[int, typer.Option(min=0, help="Load profile of --from and --to.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Read a meter now: registers, a range of its load curve (--from, --to), or both. Stores what it gives.

    Exit status 1 when the exchange failed or the meter refused something.
    """
    curve = None
    if since is not None:
        end = utc_now() if until is None else moment(until, option="--to")
        curve = CurveRange(profile, moment(since, option="--from"), end)
        if curve.start >= curve.end:
            raise CommandError("--to must be later than --from")
    elif until is not None:
        raise CommandError("--to needs --from")
    for code in obis or ():
        try:
            Obis.parse(code)
        except ValueError as error:
            raise CommandError(f"--obis: {error}") from error
    async with base() as opened, open_house(opened, counter_block=_COUNTERS) as house:
        async with opened.pool.connection() as connection:
            meter = await meters.by_asset(connection, asset_id)
            await audit.record(
                connection,
                actor=ACTOR,
                action="meter.read",
                object_=f"meter:{asset_id}",
                detail={"obis": obis or [], "from": since, "to": until},
            )
        try:
            done = await read_now(
                house.drivers,
                house.links,
                house.write,
                await house.target(meter),
                obis=tuple(obis or ()),
                curve=curve,
            )
        except UnknownProfileError as error:
            raise CommandError(f"--profile: {error}") from error
        except CommunicationError as error:
            raise CommandError(
                f"{asset_id} at {meter.address}: {stage_of(error)}: {error} "
                f"(fault: {error.fault}; {_TO_DO[error.fault]})"
            ) from error
    if as_json:
        print_json(_as_json(meter, done))
    else:
        _tell(meter, done)
    return 1 if done.refused else 0


@reported
async def collect(
    asset_ids: Annotated[
        list[str] | None, typer.Argument(help="Asset ids; default: all commissioned meters.")
    ] = None,
    since: From = None,
    until: To = None,
    days: Annotated[int | None, typer.Option(min=1, max=366, help="Without --from: days back.")] = None,
    as_json: AsJson = False,
) -> int:
    """Collect what is missing of load curves, once. Exit status 1 when a meter could not be read."""
    async with base() as opened, open_house(opened, counter_block=_COUNTERS) as house:
        end = utc_now() if until is None else moment(until, option="--to")
        back = timedelta(days=opened.settings.read_days if days is None else days)
        start = end - back if since is None else moment(since, option="--from")
        if start >= end:
            raise CommandError("--to must be later than --from")
        only = None
        if asset_ids:
            async with opened.pool.connection() as connection:
                only = [(await meters.by_asset(connection, one)).meter_id for one in asset_ids]
        with Progress(console=err, transient=True, disable=as_json) as progress:
            bar = progress.add_task("collecting", total=None)

            def on_progress(outcome: Outcome) -> None:
                progress.update(bar, total=outcome.due, completed=outcome.heard)

            outcome = await house.collector.collect(start, end, meter_ids=only, on_progress=on_progress)
    if as_json:
        print_json(outcome_as_json(outcome))
    else:
        tell_outcome(outcome)
    return 1 if outcome.failed else 0


# ---- what a collection came to --------------------------------------------------------------------------

#: Kinds of failures that are told one by one.
_SHOWN: Final = 8


def tell_outcome(outcome: Outcome) -> None:
    """A collection for people: totals, then failures by kind with an example of each."""
    if not outcome.due:
        out.print("nothing was missing")
        return
    per_second = outcome.values / outcome.seconds if outcome.seconds else 0
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("meters", f"{outcome.read:,} read, {outcome.failed:,} failed of {outcome.due:,} due")
    if outcome.away:
        table.add_row("", f"{outcome.away:,} that dial in are not connected")
    table.add_row("intervals", f"{outcome.intervals:,} read, {outcome.written.new:,} new")
    table.add_row("values", f"{outcome.values:,}")
    table.add_row("time", f"{outcome.seconds:.1f} s, {per_second:,.0f} values/s")
    out.print(table)
    for sort, count in outcome.kinds.most_common(_SHOWN):
        first = next((one for one in outcome.failures if one.sort == sort), None)
        example = "" if first is None else f", as {first.asset_id}: {first.reason}"
        stage, fault, kind = sort
        out.print(
            f"failed {count} x {stage or 'not by a conversation'}: {kind} (fault: {fault}){example}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """A collection for scripts."""
    written = outcome.written
    return {
        "due": outcome.due,
        "read": outcome.read,
        "failed": outcome.failed,
        "away": outcome.away,
        "retries": outcome.retries,
        "intervals": outcome.intervals,
        "values": outcome.values,
        "seconds": round(outcome.seconds, 3),
        "stored": {
            name: getattr(written, name)
            for name in ("new", "completed", "corrected", "repeated", "fragments", "registers")
        },
        "failures": [
            {
                "meter": one.asset_id,
                "stage": one.stage,
                "fault": one.fault,
                "kind": one.kind,
                "reason": one.reason,
                "attempts": one.attempts,
            }
            for one in outcome.failures
        ],
    }


# ---- what a meter gave ----------------------------------------------------------------------------------


def _when(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _written(moment_: datetime) -> str:
    return f"{moment_:%FT%TZ}"


def _tell(meter: Meter, done: ReadOutcome) -> None:
    if done.registers:
        table = Table("register", "value", "unit", "meter's time", title=meter.asset_id)
        for one in done.registers:
            meter_time = "" if one.meter_us is None else _written(_when(one.meter_us))
            table.add_row(
                _name(one),
                f"{_text(one) or ''}{' (float)' if one.from_float else ''}",
                one.unit or "",
                meter_time,
            )
        out.print(table)
    if done.intervals:
        _tell_curve(meter, done.batch)
    for refused in done.refused:
        out.print(f"{refused.obis}: {refused.reason}", style="yellow", markup=False)
    stored = done.stored
    out.print(
        f"{done.intervals} intervals ({stored.new} new, {stored.corrected} corrected), "
        f"{stored.registers} register values stored"
    )


def _tell_curve(meter: Meter, batch: ReadingBatch) -> None:
    """Readings stand at the end of their interval, so that is the first column and the start is not told."""
    units: list[set[str]] = [set() for _ in INTERVAL_QUANTITIES]
    for layout in batch.layouts:
        for seen, channel in zip(units, layout.channels, strict=True):
            if channel is not None and channel.unit:
                seen.add(channel.unit)
    table = Table("end of interval", title=meter.asset_id)
    for name, seen in zip(INTERVAL_QUANTITIES, units, strict=True):
        table.add_column(f"{name.replace('_', ' ')}\n{', '.join(sorted(seen))}", justify="right")
    table.add_column("quality")
    for row in _intervals(batch):
        table.add_row(row["end"], *(row[name] or "" for name in INTERVAL_QUANTITIES), row["quality"])
    out.print(table)


def _as_json(meter: Meter, done: ReadOutcome) -> dict[str, Any]:
    return {
        "meter": meter.asset_id,
        "registers": [
            {
                "obis": one.obis,
                "attribute": one.attribute,
                "value": None if one.value is None else format(one.value, "f"),
                "text": one.text,
                "unit": one.unit,
                "from_float": one.from_float,
                "read_at": _written(_when(one.read_us)),
                "meter_time": None if one.meter_us is None else _written(_when(one.meter_us)),
            }
            for one in done.registers
        ],
        "refused": [{"obis": one.obis, "reason": one.reason} for one in done.refused],
        "intervals": _intervals(done.batch),
        "stored": {"new": done.stored.new, "corrected": done.stored.corrected,
                   "repeated": done.stored.repeated, "registers": done.stored.registers},
    }  # fmt: skip


def _name(one: RegisterRead) -> str:
    return one.obis if one.attribute == 2 else f"{one.obis} attribute {one.attribute}"


def _text(one: RegisterRead) -> str | None:
    return one.text if one.value is None else format(one.value, "f")


def _intervals(batch: ReadingBatch) -> list[dict[str, Any]]:
    """Rows with exact values as decimal strings, None where one is missing."""
    rows = []
    for n in range(len(batch)):
        start, period = int(batch.start_us[n]), int(batch.period_s[n])
        row: dict[str, Any] = {
            "start": _written(_when(start)),
            "end": _written(_when(start) + timedelta(seconds=period)),
        }
        channels = batch.layouts[int(batch.layout[n])].channels
        for k, (name, channel) in enumerate(zip(INTERVAL_QUANTITIES, channels, strict=True)):
            there = channel is not None and bool(batch.valid[n, k])
            row[name] = format(channel.exact(int(batch.values[n, k])), "f") if channel and there else None
        row["quality"] = Quality(int(batch.quality[n])).name.lower()
        rows.append(row)
    return rows
