"""The registers of one simulated meter: a pure function of (seed, meter number, time), exact and monotone.

A test that knows seed and number knows every register at every second. On the grid of 15 minutes whole arrays
are computed at once; between two quarters a register grows in proportion to the seconds gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from concentrator_sim.shapes import (
    EPOCH_S,
    I8,
    LAST_QUARTER,
    NOISE_LENGTH,
    QUARTER_S,
    UNITS_PER_YEAR,
    noise,
    scattered,
    shape_range,
    sun_shape,
)

#: Registers are double-long-unsigned and roll over.
MODULUS: Final = 2**32
#: 1.8.0 and 2.8.0 in Wh, 3.8.0 and 4.8.0 in varh.
QUANTITIES: Final = ("1.8.0", "2.8.0", "3.8.0", "4.8.0")

_DENOMINATOR: Final = UNITS_PER_YEAR // 1000  # factors are kWh a year, registers Wh
_SHARE: Final = 100


class Source(NamedTuple):
    """Part of a register: ``factor`` times a shared shape, ``shape`` None being the noise from ``offset``."""

    shape: str | None
    factor: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Register:
    base: int  # what it showed at the epoch
    denominator: int
    sources: tuple[Source, ...]

    def scaled(self, first: int, count: int) -> I8:
        """Energy since the epoch times the denominator, at ``count`` quarters from ``first``."""
        total = np.zeros(count, np.int64)
        for shape, factor, offset in self.sources:
            if shape is None:
                total += noise().stretch(first + offset, count) * factor
            else:
                total += shape_range(shape, first, count) * factor
        return total


class Consumption:
    """What one meter has metered. ``seed`` is the field's, ``number`` the meter's in it."""

    __slots__ = ("_registers", "_reset_s", "kind", "yearly_kwh")

    def __init__(self, seed: int, number: int) -> None:
        self._reset_s: int | None = None
        numbers = [int(n) for n in scattered(seed << 32 | number, 12)]
        kind, least, spread = _KINDS[numbers[0] % len(_KINDS)]
        self.kind = kind
        self.yearly_kwh = least + numbers[1] % spread
        own = self.yearly_kwh * (25 + numbers[2] % 30) // _SHARE  # what is not the common shape
        offset = numbers[3] % NOISE_LENGTH
        common = self.yearly_kwh - own
        # about every fourth has photovoltaics; the others' export stays zero for ever, which is a value too
        sun = 1 + numbers[4] % 9_000 if numbers[5] % 4 == 0 else 0
        reactive = self.yearly_kwh * (10 + numbers[6] % 25) // _SHARE
        capacitive = self.yearly_kwh * (numbers[7] % 8) // _SHARE
        bases = [numbers[8] % 20_000_000, 0, numbers[9] % 4_000_000, numbers[10] % 1_000_000]
        if sun:
            bases[1] = numbers[11] % 9_000_000
        self._registers = (
            _Register(bases[0], _DENOMINATOR, (Source(kind, common), Source(None, own, offset))),
            _Register(bases[1], sun_shape().units_per_year // 1000, (Source("sun", sun),) if sun else ()),
            _Register(
                bases[2],
                _DENOMINATOR,
                (Source(kind, reactive // 2), Source(None, reactive - reactive // 2, offset + 7)),
            ),
            _Register(bases[3], _DENOMINATOR, (Source(None, capacitive, offset + 4_000),)),
        )

    def series(self, quantity: int, first: int, count: int) -> I8:
        """Register ``quantity`` (place in QUANTITIES) at the beginning of ``count`` quarters from ``first``.

        Raises ValueError outside of the years 2020 to 2069.
        """
        if first < 0 or count < 0 or first + count > LAST_QUARTER + 1:
            raise ValueError(f"quarters {first} to {first + count} are not within the years 2020 to 2069")
        register = self._registers[quantity]
        values: I8 = (register.base + register.scaled(first, count) // register.denominator) % MODULUS
        if self._reset_s is not None:
            after = max(0, min(count, -((EPOCH_S - self._reset_s) // QUARTER_S) - first))
            values[after:] = (values[after:] - self._metered(quantity, self._reset_s)) % MODULUS
        return values

    def at(self, quantity: int, moment_s: int) -> int:
        """Register ``quantity`` at ``moment_s`` (Unix seconds). Raises ValueError as `series`."""
        if self._reset_s is not None and moment_s >= self._reset_s:
            lost = self._metered(quantity, self._reset_s)
            return (self._metered(quantity, moment_s) - lost) % MODULUS
        return self._metered(quantity, moment_s)

    def reset_at(self, moment_s: int) -> None:
        """All registers begin at zero again at ``moment_s`` (Unix seconds), as if it lost its memory."""
        self._reset_s = moment_s

    def _metered(self, quantity: int, moment_s: int) -> int:
        """`at`, as if no reset had been."""
        quarter, second = divmod(moment_s - EPOCH_S, QUARTER_S)
        if not 0 <= quarter < LAST_QUARTER + (second == 0):
            raise ValueError(f"{moment_s} is not within the years 2020 to 2069")
        register = self._registers[quantity]
        if second == 0:
            return (register.base + int(register.scaled(quarter, 1)[0]) // register.denominator) % MODULUS
        before, after = (int(n) for n in register.scaled(quarter, 2))
        # integers of Python: the product does not fit 64 bits
        scaled = before * QUARTER_S + (after - before) * second
        return (register.base + scaled // (register.denominator * QUARTER_S)) % MODULUS

    def mean_power(self, start_s: int, end_s: int) -> int:
        """Mean active power drawn between two moments, in W, rounded down; 0 for no time at all."""
        if end_s <= start_s:
            return 0
        energy = (self.at(0, end_s) - self.at(0, start_s)) % MODULUS
        return energy * 3600 // (end_s - start_s)

    def quarters(self, quantities: Sequence[int], first: int, count: int) -> list[I8]:
        """`series` for several quantities."""
        return [self.series(quantity, first, count) for quantity in quantities]


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
