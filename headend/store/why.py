"""What is stored about one meter's being late. `headend.completeness.why` makes a verdict of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from headend.store import sql
from headend.store.link_states import LinkState
from headend.store.sql import Connection
from schemas.meter import Meter
from schemas.network import Place

_QUERIES: Final = sql.load("why")
#: Attempts and open requests that are told.
_MOST: Final = 10


class CurveFacts(NamedTuple):
    """One curve of the meter: numbers of intervals, where the first open one begins, until when rows are."""

    profile: int
    recall: str
    period_s: int
    expected: int
    present: int
    lost: int
    open: int
    first_open: datetime | None
    present_until: datetime | None


class OpenRequest(NamedTuple):
    """What waits for the meter; ``before`` requests of its lane go first; ``holder`` None: nobody works."""

    request_id: int
    job_id: int
    kind: str
    title: str
    lane: str
    urgency: int
    attempts: int
    allowed: int | None
    next_at: datetime
    due_by: datetime
    drop_dead: datetime
    stage: str | None
    reason: str | None
    before: int
    holder: str | None


class EndedRequest(NamedTuple):
    """The newest request that is not open any more."""

    kind: str
    title: str
    state: str
    ended_at: datetime | None
    attempts: int
    stage: str | None
    reason: str | None


class AttemptFacts(NamedTuple):
    """One attempt at the meter; ``stage`` None: it gave what it was asked for."""

    began_at: datetime
    took_ms: int
    rows: int
    number: int
    stage: str | None
    fault: str | None
    reason: str | None
    worker: str


class GapFacts(NamedTuple):
    """The oldest of ``gaps`` open gaps."""

    since: datetime
    tries: int
    next_try_at: datetime | None
    wraps_at: datetime | None
    cause: str | None
    reason: str | None
    gaps: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at ``now``; times aware UTC. ``forwards``: its station keeps its curves and hands them
    on, for which it has ``forwarded_s`` seconds. ``worker`` has the connection of a meter that dialled in."""

    now: datetime
    meter: Meter
    place: Place
    forwards: bool = False
    forwarded_s: float = 0.0
    lane: str = ""
    keys: tuple[str, ...] = ()
    worker: str | None = None
    schedule: str | None = None
    next_run_at: datetime | None = None
    curves: tuple[CurveFacts, ...] = ()
    requests: tuple[OpenRequest, ...] = ()
    ended: EndedRequest | None = None
    attempts: tuple[AttemptFacts, ...] = ()
    breakers: tuple[LinkState, ...] = ()
    gap: GapFacts | None = None


async def facts(
    connection: Connection,
    meter: Meter,
    place: Place,
    *,
    line: str | None,
    now: datetime,
    since: datetime,
    forwards: bool,
    forwarded_s: float,
) -> Facts:
    """All about ``meter``, its curves from ``since`` on; ``line`` as breakers call the one that it is on."""
    asked = {
        "meter": meter.meter_id, "station": place.station_id, "line": line, "now": sql.aware(now),
        "since": sql.aware(since), "limit": _MOST,
    }  # fmt: skip

    async def rows(query: str) -> list[tuple[Any, ...]]:
        found = await (await connection.execute(_QUERIES[query], asked)).fetchall()
        return [tuple(map(_utc, row)) for row in found]

    ((lane, keys, worker, _, schedule, next_run_at),) = await rows("meter")
    ended, gap = await rows("ended"), await rows("gap")
    return Facts(
        now=now,
        meter=meter,
        place=place,
        forwards=forwards,
        forwarded_s=forwarded_s,
        lane=lane,
        keys=tuple(keys),
        worker=worker,
        schedule=schedule,
        next_run_at=next_run_at,
        curves=tuple(CurveFacts(*row) for row in await rows("curves")),
        requests=tuple(OpenRequest(*row) for row in await rows("requests")),
        ended=EndedRequest(*ended[0]) if ended else None,
        attempts=tuple(AttemptFacts(*row) for row in await rows("attempts")),
        breakers=tuple(LinkState(*row) for row in await rows("breakers")),
        gap=GapFacts(*gap[0]) if gap else None,
    )


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
