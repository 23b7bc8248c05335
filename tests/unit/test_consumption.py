"""Consumption between cumulative readings: the plain cases, and each reason for having none."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from headend.store.consumption import (
    Amount,
    CurveRow,
    Installed,
    Reason,
    amounts,
    derive,
    difference,
    plain,
)
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


OLD, NEW = 7, 8
IN_BETWEEN = T0 + timedelta(minutes=20)  # within row 1
REMOVAL = {IMPORT.obis: Decimal("1.200"), EXPORT.obis: Decimal(40)}
START = {IMPORT.obis: Decimal("0.005"), EXPORT.obis: Decimal(0)}


def at_point(when: datetime = IN_BETWEEN, *, removal=REMOVAL, start=START, back=None) -> list[Installed]:
    return [
        Installed(OLD, "OLD", T0 - timedelta(days=9), when, {}, removal),
        Installed(NEW, "NEW", back or when, None, start),
    ]


def test_the_readings_at_an_exchange_join_both_meters() -> None:
    found = amounts(row(1, 25, 3, 4, meter=NEW), row(0, 1000, 38), LAYOUTS, at_point())
    assert found[0] == Amount(1200 - 1000 + 25 - 5, None)
    assert found[1] == Amount(40 - 38 + 3 - 0, None)
    assert found[2] == Amount(None, Reason.METER_EXCHANGE)  # an amount of the new meter's part alone
    after = amounts(row(2, 30, 3, meter=NEW), row(1, 25, 3, meter=NEW), LAYOUTS, at_point())
    assert after[0] == Amount(5, None)
    until = amounts(row(0, 1000, 38), row(-1, 990, 38), LAYOUTS, at_point())
    assert until[0] == Amount(10, None)


def test_an_exchange_on_the_grid_needs_the_start_register_alone() -> None:
    there = at_point(T0 + timedelta(minutes=15), removal={})
    found = amounts(row(1, 25, 3, 4, meter=NEW), row(0, 1000, 38), LAYOUTS, there)
    assert found[:3] == (Amount(20, None), Amount(3, None), Amount(4, None))
    there = at_point(T0 + timedelta(minutes=30))  # at the end: the interval is the old meter's
    assert amounts(row(1, 1100, 40), row(0, 1000, 38), LAYOUTS, there)[0] == Amount(100, None)


def test_the_first_meter_of_a_point_begins_with_its_start_register() -> None:
    there = at_point()[1:]
    assert amounts(row(1, 25, 3, 4, meter=NEW), None, LAYOUTS, there)[:3] == (
        Amount(20, None),
        Amount(3, None),
        Amount(4, None),
    )
    there = [Installed(NEW, "NEW", IN_BETWEEN, None)]
    assert amounts(row(1, 25, 3, meter=NEW), None, LAYOUTS, there)[0] == Amount(None, Reason.GAP)


def test_other_scalers_are_joined_where_that_is_exact() -> None:
    coarse = row(1, 25, 3, meter=NEW, layout=2)  # 1 Wh a step, where the old meter had 0.001
    start = {IMPORT.obis: Decimal(5)}
    whole = at_point(removal={IMPORT.obis: Decimal("3.000")}, start=start)
    assert amounts(coarse, row(0, 1000, 38), LAYOUTS, whole)[0] == Amount(2 + 20, None)
    broken = at_point(removal={IMPORT.obis: Decimal("3.001")}, start=start)
    assert amounts(coarse, row(0, 1000, 38), LAYOUTS, broken)[0] == Amount(None, Reason.METER_EXCHANGE)


@pytest.mark.parametrize(
    ("there", "before", "reason"),
    [
        (at_point(removal={}), row(0, 1000), Reason.METER_EXCHANGE),
        (at_point(start={}), row(0, 1000), Reason.METER_EXCHANGE),
        (at_point(start={IMPORT.obis: Decimal("0.0005")}), row(0, 1000), Reason.METER_EXCHANGE),
        (at_point(), None, Reason.GAP),
        (at_point(), row(0, None), Reason.GAP),
        (at_point(), row(-1, 1000), Reason.GAP),
        (at_point(removal={IMPORT.obis: Decimal("0.9")}), row(0, 1000), Reason.DECREASED),
        (at_point(start={IMPORT.obis: Decimal("0.026")}), row(0, 1000), Reason.DECREASED),
        (
            [
                at_point()[0],
                Installed(9, "X", IN_BETWEEN, IN_BETWEEN + timedelta(minutes=1), START, START),
                at_point(back=IN_BETWEEN + timedelta(minutes=1))[1],
            ],
            row(0, 1000),
            Reason.METER_EXCHANGE,
        ),
    ],
)
def test_an_exchange_without_all_its_readings(there, before, reason) -> None:
    assert amounts(row(1, 25, 3, meter=NEW), before, LAYOUTS, there)[0] == Amount(None, reason)


def test_a_meter_taken_away_and_put_back_used_nothing_of_the_point_meanwhile() -> None:
    there = [at_point()[0], Installed(OLD, "OLD", IN_BETWEEN, None, {IMPORT.obis: Decimal("5.000")})]
    assert amounts(row(1, 5100, 40), row(0, 1000, 38), LAYOUTS, there)[0] == Amount(200 + 100, None)
