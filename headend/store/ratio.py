"""Transformer ratios on readings: exact where the ratio is a finite decimal, flagged where it is not."""

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import Final, NamedTuple

from headend.store.consumption import plain
from schemas.meter import Ratio

#: Digits kept behind the channel's own when a ratio such as 1/3 has no end.
GUARD_DIGITS: Final = 6


class Primary(NamedTuple):
    """A value on the primary side, in plain notation; ``exact`` is False where digits had to be cut."""

    text: str
    exact: bool


def ratio_during(ratios: Sequence[Ratio], start: datetime, end: datetime) -> Fraction | None:
    """The ratio valid throughout [start, end): 1 where none is recorded, None where it changes within."""
    for ratio in ratios:
        if ratio.since <= start and (ratio.until is None or end <= ratio.until):
            return Fraction(ratio.numerator) / Fraction(ratio.denominator)
        if ratio.since < end and (ratio.until is None or start < ratio.until):
            return None
    return Fraction(1)


def primary(raw: int, scaler: int, ratio: Fraction) -> Primary:
    """raw x 10**scaler x ratio: as many decimals as the value needs, never fewer than the channel has.

    A ratio whose denominator has other primes than 2 and 5 gives an endless decimal: that is rounded half to
    even, ``GUARD_DIGITS`` behind the channel's last digit, and not exact.
    """
    value = raw * ratio
    twos = fives = 0
    rest = value.denominator
    while rest % 2 == 0:
        rest //= 2
        twos += 1
    while rest % 5 == 0:
        rest //= 5
        fives += 1
    more = max(twos, fives) if rest == 1 else GUARD_DIGITS
    return Primary(plain(round(value * 10**more), scaler - more), rest == 1)
