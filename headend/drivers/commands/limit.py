"""Limits of the load: what holds at a meter, and how another is set."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol, runtime_checkable


class LoadLimit(NamedTuple):
    """Thresholds in W: the one that holds now, the normal one, and that of emergencies, which holds for
    ``for_s`` seconds from ``begins`` (aware UTC; None: it never did); ``over_s``: how long the load may be
    above. ``groups``: of emergency profiles, that the meter takes."""

    active: Decimal
    normal: Decimal
    emergency: Decimal
    over_s: int
    begins: datetime | None
    for_s: int
    group: int
    groups: tuple[int, ...]


@runtime_checkable
class Limitable(Protocol):
    """A conversation with a meter that limits the load."""

    async def read_limit(self) -> LoadLimit:
        """What holds. Raises the tree of `protocols.errors`."""

    async def limit(self, watts: int, over_s: int | None) -> None:
        """Set the normal threshold, and how long it may be exceeded (None: as it is). Raises the tree of
        `protocols.errors`; LocalProtocolError where the meter cannot hold the value."""

    async def limit_for(
        self, watts: int, over_s: int | None, group: int, begins: datetime, for_s: int
    ) -> None:
        """The same of the emergency threshold, for ``for_s`` seconds from ``begins`` (aware)."""
