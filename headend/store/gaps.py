"""The gap ledger: ranges of load curves that should be there and are not, and what became of them.

Gaps are opened and settled by set operations on what is expected, present and covered; a gap of which nothing
is missing any more is closed: *filled*, *lost* where the source was asked and has it not or its memory has
wrapped, *excused* where nobody expects it any longer. Times are aware, ranges half-open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from headend.store import areas, sql
from headend.store.areas import Within
from headend.store.sql import Connection

_QUERIES: Final = sql.load("gaps")

#: Of more meters than these, what is expected is worked out of all.
_MOST_LISTED: Final = 20_000

Range = tuple[datetime, datetime]


class GapState(StrEnum):
    """What became of a gap."""

    OPEN = "open"
    FILLED = "filled"
    LOST = "lost"
    EXCUSED = "excused"


class DueGap(NamedTuple):
    """A gap whose turn it is: what is missing, oldest first; ``tries`` were made for it."""

    gap_id: int
    meter_id: int
    profile: int
    missing: tuple[Range, ...]
    wraps_at: datetime | None
    tries: int


@dataclass(frozen=True, slots=True)
class Gap:
    """An entry of the ledger. ``during`` is how far it ever reached; ``missing`` is what may still come.
    ``cause`` is a stage of `schemas.failure`, or why nobody asked; ``next_try_at`` None: nobody can ask."""

    gap_id: int
    asset_id: str
    profile: int
    during: Range
    missing: tuple[Range, ...]
    lost: tuple[Range, ...]
    state: GapState
    cause: str | None
    reason: str | None
    tries: int
    next_try_at: datetime | None
    wraps_at: datetime | None
    found_at: datetime
    closed_at: datetime | None
    job_id: int | None


async def open_missing(
    connection: Connection,
    since: datetime,
    until: datetime,
    *,
    now: datetime,
    meter_ids: Sequence[int] | None = None,
) -> int:
    """Open gaps for what is missing in [since, until) of all meters, or of these; how many."""
    return await _number(
        connection,
        "open",
        {
            "since": sql.aware(since),
            "until": sql.aware(until),
            "now": sql.aware(now),
            "meters": None if meter_ids is None else list(meter_ids),
        },
    )


async def settle(connection: Connection, *, now: datetime, horizon: datetime) -> int:
    """Bring open gaps up to what is stored; how many were closed. What no meter can be asked for (it comes by
    itself, or was to be sampled) is lost where it lies before ``horizon``."""
    row = await (await connection.execute(_QUERIES["bounds"], {"most": _MOST_LISTED})).fetchone()
    if row is None or row[0] is None:
        return 0
    since, until, meters = row
    return await _number(
        connection,
        "settle",
        {
            "since": since,
            "until": until,
            "meters": meters,
            "now": sql.aware(now),
            "horizon": sql.aware(horizon),
        },
    )


async def learn(connection: Connection) -> None:
    """Keep with open gaps why their last back-fill has failed."""
    await connection.execute(_QUERIES["learn"])


async def asked(connection: Connection) -> int:
    """How many requests of back-fills are open."""
    return await _number(connection, "asked", {})


async def due(connection: Connection, *, now: datetime, limit: int) -> list[DueGap]:
    """At most ``limit`` gaps to be asked for now, the first to be lost first. None of a meter that is about
    to be read anyway."""
    cursor = await connection.execute(_QUERIES["due"], {"now": sql.aware(now), "limit": limit})
    return [
        DueGap(gap_id, meter_id, profile, _ranges(missing), _utc(wraps_at), tries)
        for gap_id, meter_id, profile, missing, wraps_at, tries in await cursor.fetchall()
    ]


async def planned(connection: Connection, job_id: int, again: Mapping[int, datetime]) -> None:
    """These gaps are asked for by a job, and again not before these times."""
    await connection.execute(
        _QUERIES["planned"], {"job_id": job_id, "gaps": list(again), "nexts": list(again.values())}
    )


async def postponed(connection: Connection, until: Mapping[int, datetime]) -> None:
    """These gaps are not asked for before these times."""
    await connection.execute(_QUERIES["postponed"], {"gaps": list(until), "nexts": list(until.values())})


async def page(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    state: GapState | None = None,
    cause: str | None = None,
    meter_id: int | None = None,
    within: Within | None = None,
) -> list[Gap]:
    """At most ``limit`` entries (within areas) with numbers below ``before``, newest first."""
    cursor = await connection.execute(
        _QUERIES["page"],
        areas.told(within)
        | {
            "limit": limit,
            "before": before,
            "state": None if state is None else state.value,
            "cause": cause,
            "meter": meter_id,
        },
    )
    return [_gap(row) for row in await cursor.fetchall()]


def _gap(row: Sequence[Any]) -> Gap:
    number, asset_id, profile, since, until, missing, lost, state, cause, reason, tries, *times, job_id = row
    next_try_at, wraps_at, found_at, closed_at = times
    return Gap(
        gap_id=number,
        asset_id=asset_id,
        profile=profile,
        during=(since.astimezone(UTC), until.astimezone(UTC)),
        missing=_ranges(missing),
        lost=_ranges(lost),
        state=GapState(state),
        cause=cause,
        reason=reason,
        tries=tries,
        next_try_at=_utc(next_try_at),
        wraps_at=_utc(wraps_at),
        found_at=found_at.astimezone(UTC),
        closed_at=_utc(closed_at),
        job_id=job_id,
    )


def _ranges(stored: Any) -> tuple[Range, ...]:
    return tuple((one.lower.astimezone(UTC), one.upper.astimezone(UTC)) for one in stored)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


async def _number(connection: Connection, query: str, values: Mapping[str, Any]) -> int:
    row = await (await connection.execute(_QUERIES[query], values)).fetchone()
    return 0 if row is None else int(row[0])
