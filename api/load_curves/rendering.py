"""A load curve as JSON or CSV, written row by row. Numbers are decimal strings: every digit, no more."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

from api.times import rfc3339
from headend.store.consumption import Amount, CurveRow, Installed, Reason, derive, plain
from headend.store.curves import ClockChanged, clock_changed
from headend.store.ratio import primary, ratio_during
from schemas.meter import Ratio
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout, Quality

#: Rows between two pauses in which the event loop serves others: a few milliseconds.
_CHUNK: Final = 100

_QUALITY: Final = {quality.value: quality.name.lower() for quality in Quality}


@dataclass(frozen=True, slots=True)
class Curve:
    """All that an answer holds: ``head`` are the members before the rows.

    ``meters`` (meter id -> asset id) and ``ratios`` are None for a meter's own curve, which stays as
    metered; ``installed`` says who was at the point.
    """

    head: Mapping[str, Any]
    before: CurveRow | None
    rows: Sequence[CurveRow]
    layouts: Mapping[int, ChannelLayout]
    meters: Mapping[int, str] | None = None
    ratios: Sequence[Ratio] | None = None
    installed: Sequence[Installed] = ()
    clock_changes: Sequence[ClockChanged] = ()


class Cell(NamedTuple):
    """One quantity of one interval, as text; None with a reason where there is nothing to tell."""

    value: str | None
    consumption: str | None
    reason: Reason | None
    exact: bool = True


def channels(layout: ChannelLayout) -> dict[str, dict[str, Any]]:
    """What a layout's quantities mean, for people and programs."""
    return {
        name: {"obis": c.obis, "unit": c.unit, "scaler": c.scaler, "kind": c.kind.value, "modulus": c.modulus}
        for name, c in zip(INTERVAL_QUANTITIES, layout.channels, strict=True)
        if c is not None
    }


def _metered(channel: Channel, raw: int | None, amount: Amount) -> Cell:
    return Cell(
        None if raw is None else plain(raw, channel.scaler),
        None if amount.raw is None else plain(amount.raw, channel.scaler),
        amount.reason,
    )


def _at_point(channel: Channel, raw: int | None, amount: Amount, ratio: Fraction | None) -> Cell:
    if ratio is None:
        return Cell(None, None, Reason.RATIO_CHANGE)
    value = None if raw is None else primary(raw, channel.scaler, ratio)
    used = None if amount.raw is None else primary(amount.raw, channel.scaler, ratio)
    return Cell(
        None if value is None else value.text,
        None if used is None else used.text,
        amount.reason,
        (value is None or value.exact) and (used is None or used.exact),
    )


def _cells(curve: Curve) -> Iterator[tuple[CurveRow, Fraction | None, tuple[Cell, ...]]]:
    for row, amounts in derive(curve.rows, curve.before, curve.layouts, curve.installed):
        layout = curve.layouts[row.layout_id].channels
        ratio = None if curve.ratios is None else ratio_during(curve.ratios, row.start, row.end)
        yield (
            row,
            ratio,
            tuple(
                Cell(None, None, amount.reason)
                if channel is None
                else _metered(channel, raw, amount)
                if curve.ratios is None
                else _at_point(channel, raw, amount, ratio)
                for channel, raw, amount in zip(layout, row.values, amounts, strict=True)
            ),
        )


def _json_row(curve: Curve, row: CurveRow, ratio: Fraction | None, cells: Sequence[Cell]) -> dict[str, Any]:
    told = list(zip(INTERVAL_QUANTITIES, curve.layouts[row.layout_id].channels, cells, strict=True))
    out: dict[str, Any] = {
        "start": rfc3339(row.start),
        "end": rfc3339(row.end),
        "stamp": rfc3339(row.stamp),
        "layout": str(row.layout_id),
        "values": {name: cell.value for name, channel, cell in told if channel is not None},
        "consumption": {name: cell.consumption for name, channel, cell in told if channel is not None},
        "quality": _QUALITY[row.quality],
        "amr_status": row.amr_status,
        "clock_status": row.clock_status,
    }
    reasons = {name: cell.reason for name, channel, cell in told if channel is not None and cell.reason}
    if reasons:
        out["reasons"] = reasons
    if clock_changed(row, curve.clock_changes):
        out["clock_changed"] = True
    if curve.meters is not None:
        out["meter"] = curve.meters[row.meter_id]
        out["ratio"] = None if ratio is None else str(ratio)
        if not all(cell.exact for cell in cells):
            out["rounded"] = True
    return out


async def as_json(curve: Curve) -> AsyncIterator[bytes]:
    """One JSON object: the head's members, then ``rows``."""
    head = json.dumps(curve.head, ensure_ascii=False, separators=(",", ":"))
    pending = [head[:-1], ',"rows":[']
    for n, (row, ratio, cells) in enumerate(_cells(curve)):
        if n:
            pending.append(",\n")
        pending.append(json.dumps(_json_row(curve, row, ratio, cells), separators=(",", ":")))
        if n % _CHUNK == _CHUNK - 1:
            yield "".join(pending).encode()
            pending.clear()
            await asyncio.sleep(0)
    pending.append("]}\n")
    yield "".join(pending).encode()


def _header(curve: Curve) -> list[str]:
    at_point = [] if curve.meters is None else ["meter", "ratio", "rounded"]
    quantities = [
        f"{name}{suffix}"
        for name in INTERVAL_QUANTITIES
        for suffix in ("", "_unit", "_consumption", "_reason")
    ]
    return [
        "start",
        "end",
        "stamp",
        *at_point,
        *quantities,
        "quality",
        "amr_status",
        "clock_status",
        "clock_changed",
    ]


def _csv_row(curve: Curve, row: CurveRow, ratio: Fraction | None, cells: Sequence[Cell]) -> list[Any]:
    out: list[Any] = [rfc3339(row.start), rfc3339(row.end), rfc3339(row.stamp)]
    if curve.meters is not None:
        rounded = not all(cell.exact for cell in cells)
        out += [curve.meters[row.meter_id], ratio, "true" if rounded else "false"]
    for channel, cell in zip(curve.layouts[row.layout_id].channels, cells, strict=True):
        out += [cell.value, None if channel is None else channel.unit, cell.consumption, cell.reason]
    changed = "true" if clock_changed(row, curve.clock_changes) else "false"
    return [*out, _QUALITY[row.quality], row.amr_status, row.clock_status, changed]


async def as_csv(curve: Curve) -> AsyncIterator[bytes]:
    """RFC 4180 with a header line; an empty field is missing."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_header(curve))
    for n, (row, ratio, cells) in enumerate(_cells(curve)):
        writer.writerow(_csv_row(curve, row, ratio, cells))
        if n % _CHUNK == _CHUNK - 1:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
            await asyncio.sleep(0)
    yield text.getvalue().encode()
