"""headend read: a meter read on demand."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, moment, out, print_json
from headend.clock import utc_now
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
