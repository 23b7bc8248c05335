"""Transformer ratios: valid when, and exact or said not to be."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.store.ratio import primary, ratio_during
from schemas.meter import Ratio

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
RATIOS = [
    Ratio(T0, T0 + HOUR, Decimal(100), Decimal(5)),
    Ratio(T0 + HOUR, None, Decimal(200), Decimal(5), Decimal(20000), Decimal(100)),
]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (T0, T0 + HOUR, Fraction(20)),
        (T0 + HOUR, T0 + 2 * HOUR, Fraction(8000)),
        (T0 + HOUR / 2, T0 + 3 * HOUR / 2, None),
        (T0 - HOUR, T0, Fraction(1)),
        (T0 - HOUR / 2, T0 + HOUR / 2, None),
    ],
)
def test_ratio_during(start: datetime, end: datetime, expected: Fraction | None) -> None:
    assert ratio_during(RATIOS, start, end) == expected


@pytest.mark.parametrize(
    ("raw", "scaler", "ratio", "text", "exact"),
    [
        (12345, -3, Fraction(20), "246.900", True),
        (12345, -3, Fraction(1, 8), "1.543125", True),
        (1, 0, Fraction(1, 3), "0.333333", False),
        (3, 0, Fraction(1, 3), "1", True),
        (0, -1, Fraction(20), "0.0", True),
        (-2, 0, Fraction(5, 2), "-5", True),
    ],
)
def test_primary(raw: int, scaler: int, ratio: Fraction, text: str, exact: bool) -> None:
    assert primary(raw, scaler, ratio) == (text, exact)


@given(
    st.integers(-(2**63), 2**63), st.integers(-9, 9), st.fractions(min_value=Fraction(1, 999), max_value=9999)
)
def test_exact_means_exact(raw: int, scaler: int, ratio: Fraction) -> None:
    text, exact = primary(raw, scaler, ratio)
    true = raw * ratio * Fraction(10) ** scaler
    assert (Fraction(text) == true) is exact
    assert abs(Fraction(text) - true) <= Fraction(10) ** (scaler - 6)
