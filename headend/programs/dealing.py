"""Meters are dealt to canaries and waves. Pure functions of the campaign's content: the same again gives the
same again, and whoever approves sees which meter goes when.

Canaries are drawn over models first and over stations within each, so that what breaks one model, or behind
one kind of concentrator, shows before the first wave. Waves are whole meters, without loss: the ends of waves
are what is rounded. Neighbours are spread over waves. Only those that one step reaches stay together,
whatever becomes of the shares.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import zip_longest
from typing import Final, NamedTuple, TypeVar

#: The wave of the canaries.
CANARIES: Final = 0

T = TypeVar("T")


class Fit(NamedTuple):
    """A meter that can have the program, and where it stands; ``station`` None: it answers directly."""

    meter_id: int
    model: str
    station: int | None
    together: str | None = None  # a step at one of these reaches all of them


def deal(
    fit: Sequence[Fit], *, canaries: int, named: frozenset[int], shares: Sequence[float], seed: bytes
) -> dict[int, int]:
    """The wave of each meter. ``named`` are the canaries where they are named, else so many are drawn;
    ``shares`` of waves 1, 2, ... in percent."""
    mixed = sorted(fit, key=lambda one: _place(seed, one.meter_id))
    first = named or frozenset(one.meter_id for one in _spread(mixed)[:canaries])
    rest = [one.meter_id for one in mixed if one.meter_id not in first]
    waves = dict.fromkeys(sorted(first), CANARIES)
    begin = 0
    for wave, end in enumerate(_ends(len(rest), shares), start=1):
        waves |= dict.fromkeys(rest[begin:end], wave)
        begin = end
    return _together(fit, waves)


def _together(fit: Sequence[Fit], waves: dict[int, int]) -> dict[int, int]:
    """Who is reached at the turn of another is in the wave of the first of them."""
    first: dict[str, int] = {}
    for one in fit:
        if one.together is not None:
            wave = waves[one.meter_id]
            first[one.together] = min(first.get(one.together, wave), wave)
    return waves | {one.meter_id: first[one.together] for one in fit if one.together is not None}


def _spread(mixed: Sequence[Fit]) -> list[Fit]:
    """A meter of each model in turn, each of another station than the model's last ones."""
    by_model: dict[str, dict[int | None, list[Fit]]] = defaultdict(lambda: defaultdict(list))
    for one in mixed:
        by_model[one.model][one.station].append(one)
    return _in_turn([_in_turn(list(stations.values())) for _, stations in sorted(by_model.items())])


def _in_turn(lists: Iterable[Sequence[T]]) -> list[T]:
    return [one for turn in zip_longest(*lists) for one in turn if one is not None]


def _ends(number: int, shares: Sequence[float]) -> list[int]:
    """Where each wave ends among ``number`` meters; the last one takes what is left."""
    total = sum(map(Fraction, shares))
    upto = Fraction(0)
    ends = []
    for share in shares:
        upto += Fraction(share)
        ends.append(round(number * upto / total))
    return ends


def _place(seed: bytes, meter_id: int) -> bytes:
    return hashlib.blake2b(meter_id.to_bytes(4, "big", signed=True), key=seed[:32], digest_size=8).digest()
