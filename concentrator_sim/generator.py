"""The registers of one simulated meter: a pure function of (seed, meter number, time), exact and monotone.

A test that knows seed and number knows every register at every second. On the grid of 15 minutes whole arrays
are computed at once; between two quarters a register grows in proportion to the seconds gone. While the
customer is cut off (`concentrator_sim.cuts`) registers stand still.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from concentrator_sim.cuts import Cuts
from concentrator_sim.dice import numbers_of
from concentrator_sim.shapes import (
    EPOCH_S,
    I8,
    LAST_QUARTER,
    NOISE_LENGTH,
    QUARTER_S,
    UNITS_PER_YEAR,
    noise,
    shape_range,
    sun_shape,
)

#: Registers are double-long-unsigned and roll over.
MODULUS: Final = 2**32
_MASK: Final = MODULUS - 1
#: 1.8.0 and 2.8.0 in Wh, 3.8.0 and 4.8.0 in varh.
QUANTITIES: Final = ("1.8.0", "2.8.0", "3.8.0", "4.8.0")

_DENOMINATOR: Final = UNITS_PER_YEAR // 1000  # factors are kWh a year, registers Wh
_SHARE: Final = 100


@lru_cache(maxsize=1)
def _denominators() -> I8:
    """By register, as a column; that of the sun is its own year."""
    sun = sun_shape().units_per_year // 1000
    return np.array([[_DENOMINATOR], [sun], [_DENOMINATOR], [_DENOMINATOR]])


class _Factors(NamedTuple):
    """How much of which shape a meter has, in kWh a year: of its kind's, of the noise, of the sun."""

    common: int
    own: int
    sun: int
    reactive_common: int
    reactive_own: int
    capacitive: int


class Consumption:
    """What one meter has metered. ``seed`` is the field's, ``number`` the meter's in it."""

    __slots__ = ("_bases", "_cuts", "_factors", "_offset", "_reset_s", "kind", "yearly_kwh")

    def __init__(self, seed: int, number: int) -> None:
        self._reset_s: int | None = None
        self._cuts: Cuts | None = None
        numbers = numbers_of(seed << 32 | number, 12)
        kind, least, spread = _KINDS[numbers[0] % len(_KINDS)]
        self.kind = kind
        self.yearly_kwh = least + numbers[1] % spread
        own = self.yearly_kwh * (25 + numbers[2] % 30) // _SHARE  # what is not the common shape
        self._offset = numbers[3] % NOISE_LENGTH
        # about every fourth has photovoltaics; the others' export stays zero for ever, which is a value too
        sun = 1 + numbers[4] % 9_000 if numbers[5] % 4 == 0 else 0
        reactive = self.yearly_kwh * (10 + numbers[6] % 25) // _SHARE
        capacitive = self.yearly_kwh * (numbers[7] % 8) // _SHARE
        self._factors = _Factors(
            self.yearly_kwh - own, own, sun, reactive // 2, reactive - reactive // 2, capacitive
        )
        exported = numbers[11] % 9_000_000 if sun else 0
        self._bases = np.array(
            [[numbers[8] % 20_000_000], [exported], [numbers[9] % 4_000_000], [numbers[10] % 1_000_000]]
        )

    def registers(self, first: int, count: int) -> I8:
        """All of them at the beginning of ``count`` quarters from ``first``: a row for each of QUANTITIES.

        Raises ValueError outside of the years 2020 to 2069.
        """
        if first < 0 or count < 0 or first + count > LAST_QUARTER + 1:
            raise ValueError(f"quarters {first} to {first + count} are not within the years 2020 to 2069")
        values = self._scaled(first, count)
        values //= _denominators()
        values += self._bases
        values &= _MASK
        if self._cuts is None and self._reset_s is None:
            return values
        return self._after_all(moment_of(first) + np.arange(count) * QUARTER_S, values)

    def registers_at(self, moments: I8) -> I8:
        """`registers` at any rising Unix seconds, as `at` gives them. Raises as `registers`."""
        if not len(moments):
            return np.empty((len(QUANTITIES), 0), np.int64)
        quarters, seconds = np.divmod(moments - EPOCH_S, QUARTER_S)
        first, last = int(quarters[0]), int(quarters[-1]) + (int(seconds[-1]) > 0)
        if first < 0 or last > LAST_QUARTER:
            raise ValueError(f"{moments[0]} to {moments[-1]} are not within the years 2020 to 2069")
        scaled = self._scaled(first, last - first + 1)
        before = scaled[:, quarters - first]
        after = scaled[:, np.minimum(quarters - first + 1, last - first)]
        values: I8 = (before + (after - before) * seconds // QUARTER_S) // _denominators()
        values = (values + self._bases) & _MASK
        if self._cuts is None and self._reset_s is None:
            return values
        return self._after_all(moments, values)

    def _after_all(self, moments: I8, values: I8) -> I8:
        """What is left of ``values`` at rising ``moments`` after cuts and a reset."""
        if self._cuts is not None:
            values = (values - self._cuts.missing_at(moments, values)) & _MASK
        if self._reset_s is not None:
            after = int(np.searchsorted(moments, self._reset_s))
            lost = [[self._counted(quantity, self._reset_s)] for quantity in range(len(QUANTITIES))]
            values[:, after:] = (values[:, after:] - lost) & _MASK
        return values

    def _scaled(self, first: int, count: int) -> I8:
        """Energy since the epoch times the denominators, by register and quarter."""
        factors, offset = self._factors, first + self._offset
        common, stretch = shape_range(self.kind, first, count), noise().stretch
        scaled = np.empty((len(QUANTITIES), count), np.int64)
        scaled[0] = common * factors.common + stretch(offset, count) * factors.own
        scaled[1] = shape_range("sun", first, count) * factors.sun if factors.sun else 0
        scaled[2] = common * factors.reactive_common + stretch(offset + 7, count) * factors.reactive_own
        scaled[3] = stretch(offset + 4_000, count) * factors.capacitive
        return scaled

    def series(self, quantity: int, first: int, count: int) -> I8:
        """One of `registers`, by its place in QUANTITIES."""
        values: I8 = self.registers(first, count)[quantity]
        return values

    def quarters(self, quantities: Sequence[int], first: int, count: int) -> list[I8]:
        """`series` for several quantities."""
        values = self.registers(first, count)
        return [values[quantity] for quantity in quantities]

    def at(self, quantity: int, moment_s: int) -> int:
        """Register ``quantity`` at ``moment_s`` (Unix seconds). Raises ValueError as `registers`."""
        if self._reset_s is not None and moment_s >= self._reset_s:
            lost = self._counted(quantity, self._reset_s)
            return (self._counted(quantity, moment_s) - lost) % MODULUS
        return self._counted(quantity, moment_s)

    def reset_at(self, moment_s: int) -> None:
        """All registers begin at zero again at ``moment_s`` (Unix seconds), as if it lost its memory."""
        self._reset_s = moment_s

    def cut_off(self, moment_s: int) -> None:
        """Nothing flows from ``moment_s`` (Unix seconds) on, in no direction. Raises as `registers`."""
        if self._cuts is None:
            self._cuts = Cuts(lambda at_s: [self._metered(n, at_s) for n in range(len(QUANTITIES))])
        self._cuts.begin(moment_s)

    def connect(self, moment_s: int) -> None:
        """Cut off no longer. Raises as `registers`."""
        if self._cuts is not None:
            self._cuts.end(moment_s)

    def is_cut_off(self, moment_s: int) -> bool:
        """Whether nothing flows at a moment."""
        return self._cuts is not None and self._cuts.lasts(moment_s)

    def demand(self, moment_s: int) -> int:
        """Active power in W that is drawn at a moment, or would be were he connected: that of its whole
        quarter. Raises as `registers`."""
        begin_s = moment_of(quarter_of(moment_s))
        energy = self._metered(0, begin_s + QUARTER_S) - self._metered(0, begin_s)
        return energy % MODULUS * 3600 // QUARTER_S

    def _counted(self, quantity: int, moment_s: int) -> int:
        """`at`, as if no reset had been."""
        metered = self._metered(quantity, moment_s)
        if self._cuts is None:
            return metered
        return (metered - self._cuts.missing(quantity, moment_s, metered)) % MODULUS

    def _metered(self, quantity: int, moment_s: int) -> int:
        """`at`, as if neither cut nor reset had been."""
        quarter, second = divmod(moment_s - EPOCH_S, QUARTER_S)
        if not 0 <= quarter < LAST_QUARTER + (second == 0):
            raise ValueError(f"{moment_s} is not within the years 2020 to 2069")
        # integers of Python: the product does not fit 64 bits
        values = self._scaled(quarter, 1 + (second > 0))[quantity]
        before, after = int(values[0]), int(values[-1])
        scaled = before * QUARTER_S + (after - before) * second
        base, denominator = int(self._bases[quantity, 0]), int(_denominators()[quantity, 0])
        return (base + scaled // (denominator * QUARTER_S)) % MODULUS

    def mean_power(self, start_s: int, end_s: int) -> int:
        """Mean active power drawn between two moments, in W, rounded down; 0 for no time at all."""
        if end_s <= start_s:
            return 0
        energy = (self.at(0, end_s) - self.at(0, start_s)) % MODULUS
        return energy * 3600 // (end_s - start_s)


#: (shape, least kWh a year, spread): two of three are households.
_KINDS: Final = (
    ("h25", 1_200, 4_800),
    ("h25", 1_200, 4_800),
    ("h25", 2_500, 9_000),
    ("h25", 900, 2_500),
    ("g25", 4_000, 90_000),
    ("l25", 6_000, 60_000),
)


def quarter_of(moment_s: int) -> int:
    """The last quarter that has begun at ``moment_s`` (Unix seconds): the newest row a profile can have."""
    return (moment_s - EPOCH_S) // QUARTER_S


def moment_of(quarter: int) -> int:
    """Unix seconds at which a quarter begins."""
    return EPOCH_S + quarter * QUARTER_S
