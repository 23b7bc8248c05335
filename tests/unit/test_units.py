from decimal import Decimal

import pytest

from protocols.dlms import units


@pytest.mark.parametrize(
    ("code", "symbol"),
    [(27, "W"), (28, "VA"), (29, "var"), (30, "Wh"),
     (31, "VAh"), (32, "varh"), (33, "A"), (35, "V"), (44, "Hz"), (13, "m3"), (7, "s"), (1, "a"), (72, "dB")],
)  # fmt: skip
def test_codes_and_symbols(code, symbol):
    assert units.symbol(code) == symbol
    assert units.code(symbol) == code


def test_no_symbol():
    assert (
        units.symbol(units.COUNT) is units.symbol(units.OTHER) is units.symbol(0) is units.symbol(58) is None
    )
    with pytest.raises(ValueError, match="no DLMS unit"):
        units.code("kWh")


@pytest.mark.parametrize(
    ("raw", "scaler", "text"),
    [
        (1204895, 1, "12048950"),
        (0, 0, "0"),
        (0, 3, "0"),
        (0, -2, "0.00"),
        (2302, -1, "230.2"),
        (-5, -3, "-0.005"),
        (7, 0, "7"),
        (2**64 - 1, 3, "18446744073709551615000"),
        (Decimal("0.1"), 2, "10"),
        (Decimal("1.50"), 1, "15.0"),
        (2**63, -127, "0." + "0" * 108 + "9223372036854775808"),
    ],
)
def test_scaling_is_exact_and_plain(raw, scaler, text):
    assert str(format(units.scale(raw, scaler), "f")) == text
    assert "E" not in str(units.scale(raw, scaler)) or scaler < -6


def test_what_is_no_number_stays_so():
    assert units.scale(Decimal("NaN"), 3).is_nan()
    assert units.scale(Decimal("-Infinity"), 3) == Decimal("-Infinity")
