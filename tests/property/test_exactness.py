"""What a meter counted comes out with every digit: held against fractions, which round nothing."""

import asyncio
import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.load_curves.rendering import Curve, as_csv, as_json
from api.shapes import plain_decimal
from headend.store.consumption import CurveRow
from headend.store.ratio import primary
from protocols.dlms import units
from schemas.reading import Channel, ChannelLayout

T0 = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0, -1, 10**18, -(10**18)])
#: COSEM's scaler is an integer8.
SCALER = st.integers(-128, 127)
PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def check(text: str | None, raw: int, scaler: int) -> None:
    assert text is not None
    assert PLAIN.fullmatch(text), text
    assert Fraction(text) == Fraction(raw) * Fraction(10) ** scaler
    decimals = len(text.partition(".")[2])
    assert decimals == max(0, -scaler), "a digit that the meter counts is told, one that it does not is not"


@settings(max_examples=80, deadline=None)
@given(st.integers(-(2**63), 2**64 - 1), SCALER)
@example(2**64 - 1, 127)
@example(-(2**63), -128)
@example(0, 127)
@example(0, -128)
def test_a_register_is_told_as_counted(raw: int, scaler: int) -> None:
    check(plain_decimal(units.scale(raw, scaler)), raw, scaler)


@settings(max_examples=60, deadline=None)
@given(st.lists(INT64, min_size=2, max_size=5), SCALER)
def test_a_load_curve_is_told_as_counted_in_json_and_csv(readings: list[int], scaler: int) -> None:
    layouts = {1: ChannelLayout((Channel("active_import", "1-0:1.8.0*255", scaler, "Wh"), None, None, None))}
    rows = [
        CurveRow(start, start + QUARTER, 900, 7, 1, 0, None, None, (raw, None, None, None))
        for n, raw in enumerate(readings)
        for start in [T0 + n * QUARTER]
    ]
    curve = Curve(head={"meter": "M"}, before=None, rows=rows, layouts=layouts)

    async def both() -> tuple[bytes, bytes]:
        return (
            b"".join([part async for part in as_json(curve)]),
            b"".join([part async for part in as_csv(curve)]),
        )

    as_objects, as_lines = asyncio.run(both())

    def no_number(text: str) -> float:
        raise AssertionError(f"a binary float in the answer: {text}")

    told = json.loads(as_objects, parse_float=no_number)["rows"]
    lines = list(csv.DictReader(io.StringIO(as_lines.decode())))
    for n, (row, line, raw) in enumerate(zip(told, lines, readings, strict=True)):
        check(row["values"]["active_import"], raw, scaler)
        assert line["active_import"] == row["values"]["active_import"]
        used = row["consumption"]["active_import"]
        assert line["active_import_consumption"] == (used or "")
        if n and raw >= readings[n - 1]:
            check(used, raw - readings[n - 1], scaler)
        else:
            assert used is None


@settings(max_examples=80, deadline=None)
@given(INT64, SCALER, st.integers(1, 10**6), st.integers(1, 10**6))
@example(2**63 - 1, 127, 999_983, 64)
def test_a_ratio_is_exact_or_says_that_it_is_not(raw: int, scaler: int, above: int, below: int) -> None:
    ratio = Fraction(above, below)
    told = primary(raw, scaler, ratio)
    assert PLAIN.fullmatch(told.text), told
    true = raw * ratio * Fraction(10) ** scaler
    if told.exact:
        assert Fraction(told.text) == true
    else:
        assert abs(Fraction(told.text) - true) <= Fraction(10) ** (scaler - 6) / 2
