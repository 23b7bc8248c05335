"""A load curve's JSON and CSV: the same facts, handed over in pieces between which others get their turn."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.load_curves.rendering import Curve, as_csv, as_json
from headend.store.consumption import CurveRow
from schemas.meter import Ratio
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout, Kind

T0 = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
LAYOUTS = {
    1: ChannelLayout(
        (
            Channel("active_import", "1-0:1.8.0*255", -3, "Wh", modulus=10**9),
            Channel("active_export", "1-0:2.8.0*255", 1, "Wh"),
            Channel("reactive_import", "1-0:3.29.0*255", 0, "varh", Kind.INTERVAL),
            None,
        )
    )
}
INT8 = st.none() | st.integers(-(2**63), 2**63 - 1)


def curve(values: list[tuple[int | None, ...]], ratios: list[Ratio] | None = None) -> Curve:
    rows = [
        CurveRow(start, start + QUARTER, 900, 7, 1, 0, None, 0, (*four[:3], None))
        for n, four in enumerate(values)
        for start in [T0 + n * QUARTER]
    ]
    return Curve({"meter": "ä"}, None, rows, LAYOUTS, None if ratios is None else {7: "M-7"}, ratios)


async def collect(curve: Curve) -> tuple[list[bytes], list[bytes]]:
    return [p async for p in as_json(curve)], [p async for p in as_csv(curve)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(INT8, INT8, INT8), max_size=8), st.booleans())
def test_json_and_csv_tell_the_same(values: list[tuple[int | None, ...]], at_point: bool) -> None:
    ratios = [Ratio(T0, None, Decimal(200), Decimal(7))] if at_point else None
    pieces, lines = asyncio.run(collect(curve(values, ratios)))
    rows = json.loads(b"".join(pieces), parse_float=pytest.fail)["rows"]
    told = list(csv.DictReader(io.StringIO(b"".join(lines).decode(), newline="")))
    assert len(rows) == len(told) == len(values)
    for n, (row, line) in enumerate(zip(rows, told, strict=True)):
        for name in INTERVAL_QUANTITIES[:3]:
            assert (row["values"][name] or "") == line[name]
            assert (row["consumption"][name] or "") == line[f"{name}_consumption"]
            assert row.get("reasons", {}).get(name, "") == line[f"{name}_reason"]
            assert (row["consumption"][name] is None) == (name in row.get("reasons", {}))
        assert line["reactive_export_reason"] == "no_channel"
        assert (row["start"], row["end"], row["stamp"]) == (line["start"], line["end"], line["stamp"])
        if not at_point and values[n][0] is not None:
            assert Decimal(row["values"]["active_import"]) == Decimal(values[n][0] or 0).scaleb(-3)


async def test_others_get_their_turn_between_the_pieces() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other(), name="other")
    pieces, lines = await collect(curve([(n, n, n) for n in range(1000)]))
    task.cancel()
    assert len(pieces) == len(lines) == 11
    assert turns >= 20
    assert max(map(len, pieces)) < 64 * 1024


async def test_empty() -> None:
    pieces, lines = await collect(curve([]))
    assert json.loads(b"".join(pieces)) == {"meter": "ä", "rows": []}
    assert b"".join(lines).count(b"\r\n") == 1


async def test_whole_chunks() -> None:
    pieces, lines = await collect(curve([(n, n, n) for n in range(200)]))
    assert len(json.loads(b"".join(pieces))["rows"]) == 200
    assert b"".join(lines).count(b"\r\n") == 201
