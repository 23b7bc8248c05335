"""Consumption between cumulative readings: the plain cases, and each reason for having none."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from headend.store.consumption import Amount, CurveRow, Reason, amounts, derive, difference, plain
from schemas.reading import Channel, ChannelLayout, Kind

T0 = datetime(2026, 3, 1, tzinfo=UTC)
IMPORT = Channel("active_import", "1-0:1.8.0*255", -3, "Wh", modulus=10**9)
EXPORT = Channel("active_export", "1-0:2.8.0*255", 0, "Wh")
AMOUNT = Channel("reactive_import", "1-0:3.29.0*255", 0, "varh", Kind.INTERVAL)
LAYOUTS = {
    1: ChannelLayout((IMPORT, EXPORT, AMOUNT, None)),
    2: ChannelLayout((Channel("active_import", "1-0:1.8.0*255", 0, "Wh"), EXPORT, AMOUNT, None)),
}


def row(n: int, *values: int | None, meter: int = 7, layout: int = 1, period_s: int = 900) -> CurveRow:
    start = T0 + n * timedelta(minutes=15)
    four = (*values, None, None, None, None)[:4]
    return CurveRow(start, start + timedelta(seconds=period_s), period_s, meter, layout, 0, None, None, four)


def test_consumption_is_reading_at_end_minus_reading_at_start() -> None:
    assert amounts(row(1, 1500, 40, 12), row(0, 1000, 40, 99), LAYOUTS) == (
        Amount(500, None),
        Amount(0, None),
        Amount(12, None),
        Amount(None, Reason.NO_CHANNEL),
    )


def test_zero_is_a_reading() -> None:
    assert amounts(row(1, 5, 0, 0), row(0, 0, 0, None), LAYOUTS)[:3] == (
        Amount(5, None),
        Amount(0, None),
        Amount(0, None),
    )


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (None, Reason.GAP),
        (row(-1, 900, 0), Reason.GAP),
        (row(0, None, 0), Reason.GAP),
        (row(0, 900, 0, period_s=3600), Reason.GAP),
        (row(0, 900, 0, meter=8), Reason.METER_EXCHANGE),
        (row(0, 900, 0, layout=2), Reason.LAYOUT_CHANGE),
        (row(0, 1100, 0), Reason.DECREASED),
    ],
)
def test_reasons(before: CurveRow | None, reason: Reason) -> None:
    assert amounts(row(1, 1000, 0), before, LAYOUTS)[0] == Amount(None, reason)


def test_missing_reading_is_never_zero() -> None:
    assert amounts(row(1, None, 3), row(0, 5, 3), LAYOUTS)[:2] == (
        Amount(None, Reason.NO_READING),
        Amount(0, None),
    )


def test_layout_change_leaves_unchanged_channels_alone() -> None:
    assert amounts(row(1, 1000, 7), row(0, 900, 4, layout=2), LAYOUTS)[1] == Amount(3, None)


@pytest.mark.parametrize(
    ("end", "start", "modulus", "expected"),
    [
        (5, 95, 100, Amount(10, None)),
        (0, 99, 100, Amount(1, None)),
        (5, 95, None, Amount(None, Reason.DECREASED)),
        (45, 95, 100, Amount(None, Reason.DECREASED)),  # exactly half is no rollover
        (44, 95, 100, Amount(49, None)),
        (5, 100, 100, Amount(None, Reason.DECREASED)),  # a reading at the modulus cannot be
        (-5, 95, 100, Amount(None, Reason.DECREASED)),
        (95, 95, 100, Amount(0, None)),
    ],
)
def test_rollover(end: int, start: int, modulus: int | None, expected: Amount) -> None:
    assert difference(end, start, modulus) == expected


def test_derive_hands_each_row_its_predecessor() -> None:
    rows = [row(0, 10), row(1, 30), row(3, 60), row(4, 61)]
    raws = [a[0] for _, a in derive(rows, None, LAYOUTS)]
    assert raws == [Amount(None, Reason.GAP), Amount(20, None), Amount(None, Reason.GAP), Amount(1, None)]


@pytest.mark.parametrize(
    ("raw", "scaler", "text"),
    [
        (12048950, -3, "12048.950"), (0, -3, "0.000"), (5, -3, "0.005"), (-5, -3, "-0.005"),
        (-1234, -2, "-12.34"),
        (7, 0, "7"), (7, 2, "700"), (0, 2, "0"), (-7, 1, "-70"), (2**63 - 1, -1, "922337203685477580.7"),
    ],
)  # fmt: skip
def test_plain(raw: int, scaler: int, text: str) -> None:
    assert plain(raw, scaler) == text
    assert Decimal(text) == Decimal(raw).scaleb(scaler)
