"""How far the clocks of a fleet are off, and how fast they go: counted from their newest readings."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from statistics import median
from typing import Final, NamedTuple

from headend.store.clocks import Newest

#: Edges of the histogram on either side of zero, in seconds.
EDGES_S: Final = (1, 2, 5, 10, 30, 60, 300, 900)


class Bin(NamedTuple):
    """Clocks that are off by [low, high) seconds; None: no bound."""

    low_s: int | None
    high_s: int | None
    clocks: int


class OfModel(NamedTuple):
    """The clocks of one model; ``ppm`` is the median of those whose readings tell, ``rated`` how many."""

    model: str
    clocks: int
    ppm: Decimal | None
    fastest_ppm: Decimal | None
    slowest_ppm: Decimal | None
    rated: int


class Drift(NamedTuple):
    """Of a fleet; ``outliers`` are further off than was asked for, the furthest first."""

    clocks: int
    bins: tuple[Bin, ...]
    models: tuple[OfModel, ...]
    outliers: tuple[Newest, ...]
    beyond: int


def drift(newest: Sequence[Newest], *, beyond: timedelta, most: int) -> Drift:
    """Count them; ``most`` outliers are told one by one."""
    far = [one for one in newest if abs(one.offset) > beyond]
    by_model: dict[str, list[Newest]] = defaultdict(list)
    for one in newest:
        by_model[one.model].append(one)
    return Drift(
        len(newest),
        _bins(newest),
        tuple(_of_model(name, found) for name, found in sorted(by_model.items())),
        tuple(sorted(far, key=lambda one: (-abs(one.offset), one.asset_id))[:most]),
        len(far),
    )


def _bins(newest: Sequence[Newest]) -> tuple[Bin, ...]:
    edges = [*(-edge for edge in reversed(EDGES_S)), *EDGES_S]
    counts = [0] * (len(edges) + 1)
    for one in newest:
        seconds = one.offset.total_seconds()
        counts[sum(seconds >= edge for edge in edges)] += 1
    return tuple(
        Bin(low, high, count) for low, high, count in zip([None, *edges], [*edges, None], counts, strict=True)
    )


def _of_model(name: str, found: Sequence[Newest]) -> OfModel:
    rates = [one.ppm for one in found if one.ppm is not None]
    if not rates:
        return OfModel(name, len(found), None, None, None, 0)
    middle = round(median(rates), 1)
    return OfModel(name, len(found), middle, max(rates), min(rates), len(rates))
