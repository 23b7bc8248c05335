"""What meters gave, for people and for scripts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from rich.table import Table

from headend.cli.terminal import out
from headend.store import curves
from headend.store.consumption import CurveRow
from headend.store.curves import CurveState
from headend.store.pool import Pool
from headend.store.results import Result
from protocols.errors import Fault
from schemas.failure import Stage
from schemas.job import CurveRange, RequestState
from schemas.read_result import ReadResult
from schemas.reading import INTERVAL_QUANTITIES, Quality

_TO_DO: Final = {
    Fault.LINK: "is it reachable at its address?",
    Fault.PEER: "the meter or its settings (keys, model) are to be looked at",
    Fault.OURS: "its model, keys or settings in this head-end are to be looked at",
}
#: Where nobody noted whose fault it is.
_FAULT: Final = {Stage.SETTINGS: Fault.OURS, Stage.ACCESS: Fault.PEER, Stage.DECODE: Fault.PEER}


def gave(one: Result) -> ReadResult:
    """What came of a request; nothing, where it failed."""
    return ReadResult.model_validate(one.result or {})


def failure(one: Result, address: str | None, fault: str | None) -> str:
    """Why one meter was not read, and what to do."""
    at = "" if address is None else f" at {address}"
    if one.state is RequestState.FAILED:
        whose = Fault(fault) if fault is not None else _FAULT.get(one.stage or Stage.TIMEOUT, Fault.LINK)
        return (
            f"{one.meter}{at}: {one.stage or 'not by a conversation'}: {one.reason} "
            f"(fault: {whose}; {_TO_DO[whose]})"
        )
    return f"{one.meter}{at}: {one.state}: {one.reason or 'its turn did not come'}"


def tell_one(one: Result) -> None:
    """A line for one of many."""
    result = gave(one)
    if one.state is RequestState.DONE:
        told = [f"{len(result.registers)} registers"] if result.registers else []
        told += [f"{result.intervals} intervals"] if result.intervals else []
        told += [f"{result.events} events"] if result.events else []
        told += [f"refused {refused.obis}: {refused.reason}" for refused in result.refused]
        out.print(f"{one.meter}  {', '.join(told) or 'nothing new'}", markup=False)
    else:
        stage = "" if one.stage is None else f" {one.stage}"
        out.print(
            f"{one.meter}  {one.state}{stage}: {one.reason or ''}",
            markup=False,
            style="yellow",
            soft_wrap=True,
        )


def tell_meter(one: Result, rows: Sequence[dict[str, Any]], units: Sequence[str]) -> None:
    """All that a single meter gave, as tables."""
    result = gave(one)
    if result.registers:
        table = Table("register", "value", "unit", "meter's time", title=one.meter)
        for read in result.registers:
            name = read.obis if read.attribute == 2 else f"{read.obis} attribute {read.attribute}"
            value = read.text if read.value is None else read.value
            float_ = " (float)" if read.from_float else ""
            table.add_row(name, f"{value or ''}{float_}", read.unit or "", read.meter_time or "")
        out.print(table)
    if rows:
        # readings stand at the end of their interval, so that is the first column and the start is not told
        table = Table("end of interval", title=one.meter)
        for quantity, unit in zip(INTERVAL_QUANTITIES, units, strict=True):
            table.add_column(f"{quantity.replace('_', ' ')}\n{unit}", justify="right")
        table.add_column("quality")
        for row in rows:
            values = (row[name] or "" for name in INTERVAL_QUANTITIES)
            changed = ", clock_changed" if row.get("clock_changed") else ""
            table.add_row(row["end"], *values, f"{row['quality']}{changed}")
        out.print(table)
    for refused in result.refused:
        out.print(f"{refused.obis}: {refused.reason}", style="yellow", markup=False)
    events = f", {result.events} events" if result.events else ""
    out.print(f"{result.intervals} intervals, {len(result.registers)} register values{events} stored")


def as_json(one: Result, rows: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """One meter for scripts; ``rows`` in place of the number of intervals."""
    result = gave(one).model_dump(mode="json")
    if rows is not None:
        result["intervals"] = list(rows)
    return {
        "meter": one.meter,
        "state": one.state.value,
        "attempts": one.attempts,
        "stage": None if one.stage is None else one.stage.value,
        "reason": one.reason,
        **result,
    }


async def curve(
    pool: Pool, meter_id: int, works: Sequence[CurveRange]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Stored intervals of these ranges, exact and marked as the API marks them, and the units of their
    quantities."""
    rows: list[dict[str, Any]] = []
    units: list[set[str]] = [set() for _ in INTERVAL_QUANTITIES]
    async with pool.connection() as connection, curves.snapshot(connection):
        for work in works:
            state = await curves.meter_state(connection, meter_id, work.profile, work.since, work.until)
            _, found = await curves.rows(connection, state)
            rows += [_row(one, state) for one in found]
            for layout_id in {one.layout_id for one in found}:
                for seen, channel in zip(units, state.layouts[layout_id].channels, strict=True):
                    if channel is not None and channel.unit:
                        seen.add(channel.unit)
    return rows, [", ".join(sorted(seen)) for seen in units]


def _row(one: CurveRow, state: CurveState) -> dict[str, Any]:
    row: dict[str, Any] = {"start": _written(one.start), "end": _written(one.end)}
    channels = state.layouts[one.layout_id].channels
    for name, raw, channel in zip(INTERVAL_QUANTITIES, one.values, channels, strict=True):
        row[name] = None if raw is None or channel is None else format(channel.exact(raw), "f")
    row["quality"] = Quality(one.quality).name.lower()
    if curves.clock_changed(one, state.clock_changes):
        row["clock_changed"] = True
    return row


def _written(moment: datetime) -> str:
    return f"{moment:%FT%TZ}"
