"""Events as stored: each once, however often and from wherever it is told.

An event with a time of its own is the same again where meter, log, code (its meaning, where it has none),
duration, text and time are. One without is told anew each time, so its source tells it apart: repeats within
a minute without another word of that source between them are one, and so is a standing state within a day.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from headend.store import areas, rows, sql
from headend.store.areas import Within
from headend.store.sql import Connection
from schemas.event import EventLog, EventMeaning, MeterEvent

_QUERIES: Final = sql.load("events")

#: Within these the same without a time of its own is no second event (as the query ``insert`` has them).
_REPEATED_US: Final = 60 * 1_000_000
_STANDING: Final = timedelta(days=1)
_INT8: Final = 2**63


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are shown; None and empty: all. ``since`` and ``until`` are half-open and aware.

    ``below``: codes of nodes of the network, a feeder and a transformer say, below all of which an event's
    meter or node stands now. ``within``: those of his meters and, where no meter is spoken of, of his nodes.
    """

    since: datetime | None = None
    until: datetime | None = None
    meter_id: int | None = None
    node: str | None = None
    below: tuple[str, ...] = ()
    meanings: tuple[EventMeaning, ...] = ()
    logs: tuple[EventLog, ...] = ()
    within: Within | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event. ``at`` is ``occurred_at``, the meter's own time, or ``received_at`` where it told none."""

    at: datetime
    identity: UUID
    received_at: datetime
    occurred_at: datetime | None
    asset_id: str | None
    node: str | None
    log: EventLog
    meaning: EventMeaning
    code: int | None
    duration_s: int | None
    text: str | None
    source: str
    standing: bool


def identity(event: MeterEvent) -> UUID:
    """What tells it apart from others at the same time. Its meaning does not, where it has a code: profiles
    change."""
    what = event.meaning.value if event.code is None else event.code
    told = [event.meter_id, event.node, event.log.value, what, event.duration_s, event.text]
    if event.occurred_us is None:
        told += [event.source, event.standing]
    return UUID(bytes=blake2b(json.dumps(told).encode(), digest_size=16).digest())


def fits(event: MeterEvent) -> bool:
    """Whether PostgreSQL can hold it; it speaks of somebody, and it came at a time that a clock may show."""
    for text in (event.text, event.node, event.source):
        if text is not None and ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)):
            return False
    if any(number is not None and not -_INT8 <= number < _INT8 for number in (event.code, event.duration_s)):
        return False
    is_about_somebody = event.meter_id is not None or event.node is not None
    return is_about_somebody and _is_time(event.received_us)


def _is_time(us: int) -> bool:
    return rows.EARLIEST_US <= us < rows.LATEST_US


def placed(event: MeterEvent) -> MeterEvent:
    """The event itself; where its stamp is that of a clock that was never set, without a time of its own, and
    the stamp in its text. It stands in the meter's log, so it is met again and again."""
    if event.occurred_us is None or _is_time(event.occurred_us):
        return event
    try:
        stamp = rows.moment(event.occurred_us).isoformat()
    except OverflowError:
        stamp = f"{event.occurred_us} us"
    said = f"its clock said {stamp}"
    text = said if event.text is None else f"{event.text}, {said}"
    return replace(event, occurred_us=None, text=text, standing=True)


def without_repeats(told: Sequence[MeterEvent]) -> list[tuple[UUID, MeterEvent]]:
    """Events with their identities, each once, by the rules of the query ``insert``."""
    kept: list[tuple[UUID, MeterEvent]] = []
    seen: set[tuple[UUID, int | None]] = set()
    last: dict[tuple[object, ...], tuple[UUID, int]] = {}
    for event in sorted(told, key=lambda one: one.received_us):
        name = identity(event)
        key = (name, None if event.standing and event.occurred_us is None else _at_us(event))
        if key in seen:
            continue
        if event.occurred_us is None and not event.standing:
            place = (event.meter_id, event.node, event.log, event.source)
            before, before_us = last.get(place, (None, 0))
            if before == name and event.received_us - before_us <= _REPEATED_US:
                continue
            last[place] = name, event.received_us
        seen.add(key)
        kept.append((name, event))
    return kept


async def insert(connection: Connection, told: Sequence[MeterEvent], *, batch_id: int) -> int:
    """Keep events that `fits`; how many were new. In the caller's transaction."""
    kept = without_repeats([placed(event) for event in told])
    if not kept:
        return 0
    some = [event for _, event in kept]
    times = [rows.moment(_at_us(event)) for event in some]
    parameters = {
        "batch_id": batch_id,
        "at": times,
        "received_at": [rows.moment(event.received_us) for event in some],
        "occurred_at": [None if e.occurred_us is None else rows.moment(e.occurred_us) for e in some],
        "identities": [name for name, _ in kept],
        "codes": [event.code for event in some],
        "meters": [event.meter_id for event in some],
        "durations": [event.duration_s for event in some],
        "logs": [event.log.value for event in some],
        "meanings": [event.meaning.value for event in some],
        "sources": [event.source for event in some],
        "nodes": [event.node for event in some],
        "texts": [event.text for event in some],
        "standing": [event.standing for event in some],
        "since": min(times) - _STANDING,
        "until": max(times) + _STANDING,
    }
    row = await (await connection.execute(_QUERIES["insert"], parameters)).fetchone()
    return 0 if row is None else int(row[0])


def _at_us(event: MeterEvent) -> int:
    return event.received_us if event.occurred_us is None else event.occurred_us


async def page(
    connection: Connection,
    only: EventFilter,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
) -> list[StoredEvent]:
    """At most ``limit`` events, newest first; ``before`` is (at, identity) of the last one the caller has."""
    before_at, before_identity = before or (None, None)
    parameters = {
        **await _parameters(connection, only),
        "since": None if only.since is None else sql.aware(only.since),
        "until": None if only.until is None else sql.aware(only.until),
        "before_at": before_at,
        "before_identity": before_identity,
        "limit": limit,
    }
    return await _fetch(connection, "page", parameters)


async def arrived(
    connection: Connection, only: EventFilter, *, since: datetime, limit: int
) -> list[StoredEvent]:
    """At most ``limit`` events that came since then, in the order in which they came; the filter's times do
    not count. One that is committed late may come below what was already seen."""
    parameters = {**await _parameters(connection, only), "arrived_since": sql.aware(since), "limit": limit}
    return await _fetch(connection, "arrived", parameters)


async def _parameters(connection: Connection, only: EventFilter) -> dict[str, Any]:
    meters: set[int] | None = None
    nodes: set[str] = set()
    for code in only.below:
        found = await (await connection.execute(_QUERIES["below"], {"code": code})).fetchall()
        some_meters = {meter_id for meter_id, _ in found if meter_id is not None}
        some_nodes = {name for _, name in found if name is not None}
        nodes = some_nodes if meters is None else nodes & some_nodes
        meters = some_meters if meters is None else meters & some_meters
    return areas.told(only.within) | {
        "below_meters": None if meters is None else sorted(meters),
        "below_nodes": sorted(nodes),
        "meter": only.meter_id,
        "node": only.node,
        "meanings": [one.value for one in only.meanings] or None,
        "logs": [one.value for one in only.logs] or None,
    }


async def _fetch(connection: Connection, query: str, parameters: dict[str, Any]) -> list[StoredEvent]:
    # not prepared: the plan goes by which filters are given
    cursor = await connection.execute(_QUERIES[query], parameters, prepare=False)
    return [_stored(*row) for row in await cursor.fetchall()]


def _stored(
    at: datetime,
    name: UUID,
    received_at: datetime,
    occurred_at: datetime | None,
    asset_id: str | None,
    node: str | None,
    log: str,
    meaning: str,
    code: int | None,
    duration_s: int | None,
    text: str | None,
    source: str,
    standing: bool,
) -> StoredEvent:
    return StoredEvent(
        at, name, received_at, occurred_at, asset_id, node, EventLog(log), EventMeaning(meaning), code,
        duration_s, text, source, standing,
    )  # fmt: skip


async def due(
    connection: Connection, models: Sequence[str], meter_ids: Sequence[int] | None = None
) -> list[tuple[int, datetime | None]]:
    """Numbers of the commissioned meters of these models that can be reached, or of those among
    ``meter_ids``, each with the moment until which its event logs were read (None: never)."""
    parameters = {"models": list(models), "meters": None if meter_ids is None else list(meter_ids)}
    cursor = await connection.execute(_QUERIES["due"], parameters)
    return [(meter_id, read_until) for meter_id, read_until in await cursor.fetchall()]


async def cursors(connection: Connection, meter_ids: Sequence[int]) -> dict[int, datetime]:
    """Until when the event logs of these meters were read, by meter; none for those never read."""
    cursor = await connection.execute(_QUERIES["cursors"], {"meters": list(meter_ids)})
    return {meter_id: read_until.astimezone(UTC) for meter_id, read_until in await cursor.fetchall()}


async def move_cursors(connection: Connection, untils: Sequence[tuple[int, datetime]]) -> None:
    """Remember until when the event logs of meters were read and stored."""
    await connection.execute(
        _QUERIES["move_cursors"],
        {"meters": [meter for meter, _ in untils], "untils": [sql.aware(until) for _, until in untils]},
    )


def as_json(event: MeterEvent) -> bytes:
    """One event for the inbox, whole."""
    return json.dumps(asdict(event)).encode()
