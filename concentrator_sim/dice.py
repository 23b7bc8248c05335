"""Chance that repeats: streams of numbers drawn by name and seed, the same on every machine and for ever."""

from hashlib import blake2b
from typing import Final

_MASK: Final = 2**64 - 1
_STEP: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


def seed_of(*parts: object) -> int:
    """64 bits of what names a stream, as the field's seed and the meter's serial number."""
    text = "/".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def numbers_of(seed: int, count: int) -> list[int]:
    """The first ``count`` numbers of `shapes.scattered` for ``seed``: cheaper where they are few."""
    return [_mixed((seed + n) * _STEP & _MASK) for n in range(1, count + 1)]


def _mixed(state: int) -> int:
    mixed = ((state ^ state >> 30) * _MIX_1) & _MASK
    mixed = ((mixed ^ mixed >> 27) * _MIX_2) & _MASK
    return mixed ^ mixed >> 31


class Dice:
    """A stream of numbers (SplitMix64). Small, since every link of a field has its own."""

    __slots__ = ("_state",)

    def __init__(self, *parts: object) -> None:
        self._state = seed_of(*parts)

    def bits(self) -> int:
        """64 random bits."""
        self._state = (self._state + _STEP) & _MASK
        return _mixed(self._state)

    def chance(self) -> float:
        """A number from 0 to 1, 1 excluded."""
        return (self.bits() >> 11) * 2.0**-53

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens now. Draws nothing for what never or always does."""
        return probability >= 1 or (probability > 0 and self.chance() < probability)

    def between(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""
        return low + (high - low) * self.chance()

    def below(self, bound: int) -> int:
        """An integer from 0 to ``bound`` - 1."""
        return self.bits() % bound
