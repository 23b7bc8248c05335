"""Figures of the fleet's keys: how old they are, how far their counters have come, who is due. No key."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from headend.store import sql
from headend.store.sql import Connection
from schemas.campaign import CampaignState
from schemas.config import Settings

_QUERIES: Final = sql.load("key_status")


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """When keys are due: older than ``after_days`` (0: age is no reason), or with a ``counter`` so high."""

    after_days: int = 0
    counter: int = 2_000_000_000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(settings.keys_rotate_after_days, settings.keys_rotate_at_counter)

    def before(self, now: datetime) -> datetime | None:
        """Keys made before this are due; None: none by age."""
        return now - timedelta(days=self.after_days) if self.after_days else None


@dataclass(frozen=True, slots=True)
class KeyTotals:
    """Meters with an encryption key. ``counter`` is the highest that either side has used under any of them;
    ``in_doubt`` were told new keys and have used none yet, ``unsent`` have new ones that they were not told.
    """

    meters: int
    oldest: datetime | None
    due_by_age: int
    due_by_counter: int
    counter: int | None
    without_master: int
    in_doubt: int
    unsent: int
    with_former: int


@dataclass(frozen=True, slots=True)
class KeyDue:
    """A commissioned meter whose keys are due, or in doubt since its pending ones were sent."""

    meter_id: int
    asset_id: str
    model: str
    made_at: datetime
    counter: int
    has_master: bool
    in_doubt_since: datetime | None


async def totals(connection: Connection, policy: KeyPolicy, now: datetime) -> KeyTotals:
    """The whole fleet in figures."""
    cursor = await connection.execute(_QUERIES["totals"], _bounds(policy, now))
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError("figures of nothing are a row too")
    return KeyTotals(*row)


async def due(connection: Connection, policy: KeyPolicy, now: datetime, *, limit: int) -> list[KeyDue]:
    """Whose keys are due, the most urgent first."""
    cursor = await connection.execute(_QUERIES["due"], {**_bounds(policy, now), "limit": limit})
    return [KeyDue(*row) for row in await cursor.fetchall()]


async def rotation_turn(connection: Connection) -> bool:
    """Whether it is for this transaction to decide on a rotation."""
    cursor = await connection.execute(_QUERIES["rotation_turn"])
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def last_rotation(connection: Connection) -> tuple[CampaignState, datetime | None] | None:
    """The newest campaign of keys: its state, and when it ended (None: it is open)."""
    cursor = await connection.execute(_QUERIES["last_rotation"])
    row = await cursor.fetchone()
    return None if row is None else (CampaignState(row[0]), row[1])


def _bounds(policy: KeyPolicy, now: datetime) -> dict[str, object]:
    return {"before": policy.before(now) or "-infinity", "counter": policy.counter}
