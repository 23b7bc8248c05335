"""Which of several pending keys a meter may have taken."""

from collections.abc import Iterable
from itertools import combinations

from schemas.meter import KeyPurpose


def subsets(pending: Iterable[KeyPurpose]) -> list[frozenset[KeyPurpose]]:
    """Every choice of some of them, all of them first."""
    named = sorted(pending)
    return [frozenset(some) for size in range(len(named), 0, -1) for some in combinations(named, size)]
