"""Exact values as they are written on the command line."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from headend.cli.terminal import CommandError
from protocols.dlms.obis import Obis

#: Written out, so without an exponent: 1e999999999 in full would be a gigabyte.
_DECIMAL: Final = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?", re.ASCII)


def registers(texts: Sequence[str] | None) -> dict[str, Decimal]:
    """Readings such as ``1.8.0=12345.6``, by full OBIS code. Raises CommandError."""
    found: dict[str, Decimal] = {}
    for text in texts or ():
        code, equals, value = text.partition("=")
        try:
            obis = str(Obis.parse(code))
        except ValueError as error:
            raise CommandError(f"--reading {text!r}: {error}") from error
        if not equals or obis in found:
            raise CommandError(f"--reading {text!r}: write each register once, as 1.8.0=12345.6")
        found[obis] = _decimal(value, f"--reading {text!r}")
    return found


def fraction(text: str, *, option: str) -> tuple[Decimal, Decimal]:
    """A ratio such as ``200/5`` or ``40``: numerator and denominator, greater than 0. Raises CommandError."""
    above, _, below = text.partition("/")
    parts = _decimal(above, f"{option} {text!r}"), _decimal(below or "1", f"{option} {text!r}")
    if min(parts) <= 0:
        raise CommandError(f"{option} {text!r}: both parts must be greater than 0")
    return parts


def _decimal(text: str, where: str) -> Decimal:
    if _DECIMAL.fullmatch(text.strip()) is None:
        raise CommandError(f"{where}: {text!r} is no decimal number, as in 12345.6")
    return Decimal(text.strip())
