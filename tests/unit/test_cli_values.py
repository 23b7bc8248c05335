"""Exact values of the command line: plain decimals only, each register once."""

from decimal import Decimal

import pytest

from headend.cli.terminal import CommandError
from headend.cli.values import fraction, registers


def test_registers_and_ratios_are_exact() -> None:
    assert registers(["1.8.0=12345.60", "2.8.0= -0"]) == {
        "1-0:1.8.0*255": Decimal("12345.60"), "1-0:2.8.0*255": Decimal(0),
    }  # fmt: skip
    assert fraction("200/5", option="--ct") == (Decimal(200), Decimal(5))
    assert fraction("0.5", option="--ct") == (Decimal("0.5"), Decimal(1))


@pytest.mark.parametrize("value", ["1e999999999", "1_0", "NaN", "Infinity", "", "1,5", "\u0661", "9" * 41])
def test_what_is_no_plain_decimal_is_refused(value: str) -> None:
    with pytest.raises(CommandError, match="is no decimal number"):
        registers([f"1.8.0={value}"])
    with pytest.raises(CommandError, match="is no decimal number"):
        fraction(f"{value}/5", option="--ct")


def test_a_register_is_given_once() -> None:
    with pytest.raises(CommandError, match="each register once"):
        registers(["1.8.0=1", "1-0:1.8.0*255=1"])
    for bad in ("0", "-1/5", "5/0"):
        with pytest.raises(CommandError, match="greater than 0"):
            fraction(bad, option="--vt")
