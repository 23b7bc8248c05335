"""What goes with a batch of readings in one transaction: the leases that it was read under, and what became
of the requests that it answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headend.store import attempts, clocks, events, lanes, requests, switching
from headend.store.attempts import Attempt
from headend.store.lanes import Lease
from headend.store.requests import Settled
from headend.store.sql import Connection
from headend.store.switching import BreakerState
from schemas.clock import MeterClockReading


@dataclass(frozen=True, slots=True)
class Settlement:
    """``leases`` are held through the transaction, or nothing of it is stored; ``urgent``: beside another one
    under the same lease, not behind it. ``cursors``: meters whose event logs were read up to a moment;
    ``clocks``: what clocks showed; ``breakers``: where those of meters stood."""

    leases: frozenset[Lease] = frozenset()
    settled: tuple[Settled, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    cursors: tuple[tuple[int, datetime], ...] = ()
    lease_s: float = 15.0
    urgent: bool = False
    clocks: tuple[MeterClockReading, ...] = ()
    breakers: tuple[tuple[int, BreakerState], ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.leases or self.settled or self.attempts or self.cursors or self.clocks or self.breakers
        )

    async def begin(self, connection: Connection) -> None:
        """Before anything is written. Raises LaneLost."""
        if self.urgent:
            await lanes.share(connection, sorted(self.leases))
        elif self.leases:
            await lanes.hold(connection, sorted(self.leases), lease_s=self.lease_s)

    async def end(self, connection: Connection) -> None:
        """After everything is written."""
        if self.cursors:
            # of a meter that is there twice the later moment; a statement may move a row but once
            await events.move_cursors(connection, list(dict(sorted(self.cursors)).items()))
        if self.attempts:
            await attempts.insert(connection, self.attempts)
        await clocks.insert(connection, self.clocks)
        for meter_id, state in sorted(self.breakers):  # in order: two settlements do not wait for each other
            await switching.was_read(connection, meter_id, state)
        if self.settled:
            await requests.settle(connection, self.settled)


#: Nothing.
NOTHING: Final = Settlement()


def together(several: Iterable[Settlement]) -> Settlement:
    """All of them as one."""
    found = [one for one in several if one]
    if len(found) <= 1:
        return found[0] if found else NOTHING
    return Settlement(
        frozenset().union(*(one.leases for one in found)),
        tuple(settled for one in found for settled in one.settled),
        tuple(attempt for one in found for attempt in one.attempts),
        tuple(cursor for one in found for cursor in one.cursors),
        min(one.lease_s for one in found),
        all(one.urgent for one in found),
        tuple(clock for one in found for clock in one.clocks),
        tuple(breaker for one in found for breaker in one.breakers),
    )
