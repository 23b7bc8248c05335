"""Coverage read back: which ranges of which load profiles were asked for with success, and which are due.

Only commissioned meters with an address count. Times are aware UTC, ranges half-open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("coverage")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of every meter of ``model``: the intervals of load profile ``profile`` that start in [since, until)."""

    model: str
    profile: int
    since: datetime
    until: datetime


class Due(NamedTuple):
    """A wanted range [since, until) of one meter's profile that is not covered."""

    meter_id: int
    profile: int
    since: datetime
    until: datetime


async def models_in_use(connection: Connection, meter_ids: Sequence[int] | None = None) -> list[str]:
    """Names of the models of all meters that can be read, or of those among ``meter_ids``."""
    cursor = await connection.execute(
        _QUERIES["models_in_use"], {"meters": None if meter_ids is None else list(meter_ids)}
    )
    return [model for (model,) in await cursor.fetchall()]


async def due(
    connection: Connection, wanted: Sequence[Wanted], meter_ids: Sequence[int] | None = None
) -> list[Due]:
    """What is due of all meters that can be read, or of those among ``meter_ids``, in one query: by meter,
    profile and time."""
    cursor = await connection.execute(
        _QUERIES["due"],
        {
            "models": [one.model for one in wanted],
            "profiles": [one.profile for one in wanted],
            "since": [sql.aware(one.since) for one in wanted],
            "until": [sql.aware(one.until) for one in wanted],
            "meters": None if meter_ids is None else list(meter_ids),
        },
    )
    return [
        Due(meter, profile, since.astimezone(UTC), until.astimezone(UTC))
        for meter, profile, since, until in await cursor.fetchall()
    ]


async def covered(
    connection: Connection, meter_ids: Sequence[int]
) -> dict[tuple[int, int], list[tuple[datetime, datetime]]]:
    """The ranges [since, until) that are covered, in order, by meter and profile, whatever their state."""
    cursor = await connection.execute(_QUERIES["covered"], {"meters": list(meter_ids)})
    found: dict[tuple[int, int], list[tuple[datetime, datetime]]] = {}
    for meter, profile, since, until in await cursor.fetchall():
        found.setdefault((meter, profile), []).append((since.astimezone(UTC), until.astimezone(UTC)))
    return found
