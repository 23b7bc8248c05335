"""Circuit breakers that are open, as they were last told, and what people asked the service to close."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from headend.clock import utc_now
from headend.store import areas, sql
from headend.store.areas import Within
from headend.store.errors import ConflictError
from headend.store.sql import Connection

_QUERIES: Final = sql.load("link_states")


@dataclass(frozen=True, slots=True)
class LinkState:
    """One open breaker: ``kind`` is meter, station or line, ``id`` the number of the meter or station, or the
    line as it is written. No answer since ``since``, no probe before ``until``, both aware; ``probes`` of the
    ``failures`` in a row were made since it opened.
    """

    kind: str
    id: str
    since: datetime
    until: datetime
    failures: int
    probes: int
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class NamedState:
    """An open breaker with the name that people use: asset id, code of the station, or the line."""

    name: str
    state: LinkState


class Change(NamedTuple):
    """What became of a breaker ``at`` an aware time: open in this ``state``, or closed (None)."""

    at: datetime
    kind: str
    id: str
    state: LinkState | None


async def keep(connection: Connection, changes: Sequence[Change]) -> None:
    """Store what is open and forget what closed, each where nobody has told later of it."""
    closed = [change for change in changes if change.state is None]
    opened = [(change.at, change.state) for change in changes if change.state is not None]
    if closed:
        await connection.execute(
            _QUERIES["forget"],
            {
                "kinds": [change.kind for change in closed],
                "ids": [change.id for change in closed],
                "ats": [sql.aware(change.at) for change in closed],
            },
        )
    if opened:
        await connection.execute(
            _QUERIES["put"],
            {
                "kinds": [one.kind for _, one in opened],
                "ids": [one.id for _, one in opened],
                "sinces": [sql.aware(one.since) for _, one in opened],
                "untils": [sql.aware(one.until) for _, one in opened],
                "failures": [one.failures for _, one in opened],
                "probes": [one.probes for _, one in opened],
                "stages": [one.stage for _, one in opened],
                "reasons": [one.reason.replace("\0", "") for _, one in opened],
                "ats": [sql.aware(at) for at, _ in opened],
            },
        )


async def of(connection: Connection, wanted: Sequence[tuple[str, str]]) -> list[Change]:
    """Those of ``wanted`` (kind, id) that are open, and when that was told."""
    cursor = await connection.execute(
        _QUERIES["of"], {"kinds": [kind for kind, _ in wanted], "ids": [id_ for _, id_ in wanted]}
    )
    return [Change(row[8], row[0], row[1], LinkState(*row[:8])) for row in await cursor.fetchall()]


async def stored(connection: Connection, *, limit: int) -> list[LinkState]:
    """What was open, the ``limit`` that changed last."""
    cursor = await connection.execute(_QUERIES["all"], {"limit": limit})
    return [LinkState(*row[:8]) for row in await cursor.fetchall()]


async def page(
    connection: Connection,
    *,
    limit: int,
    kind: str | None = None,
    name: str | None = None,
    after: tuple[str, str] | None = None,
    within: Within | None = None,
) -> list[NamedState]:
    """At most ``limit`` open breakers in order of kind and name, behind ``after`` (kind, name). ``within``:
    of his meters and stations; a line is nobody's."""
    after_kind, after_name = (None, None) if after is None else after
    told = {"kind": kind, "name": name, "after_kind": after_kind, "after_name": after_name, "limit": limit}
    cursor = await connection.execute(_QUERIES["page"], areas.told(within) | told)
    return [NamedState(row[2], LinkState(*row[:2], *row[3:])) for row in await cursor.fetchall()]


async def silent(connection: Connection, asset_id: str, station: str | None) -> NamedState | None:
    """The open breaker that keeps a meter from being read: its own, else its station's; None: neither is."""
    for kind, name in (("meter", asset_id), ("station", station)):
        if name is not None and (found := await page(connection, kind=kind, name=name, limit=1)):
            return found[0]
    return None


async def ask_reset(connection: Connection, kind: str, name: str) -> NamedState:
    """Close a breaker: forgotten here, so that no new start finds it, and asked of the services that run, who
    do it within seconds. What it was. Raises ConflictError: none is open."""
    found = await page(connection, kind=kind, name=name, limit=1)
    if not found:
        raise ConflictError(f"{kind} {name} has no open breaker")
    state = found[0].state
    await keep(connection, [Change(utc_now(), state.kind, state.id, None)])
    await connection.execute(_QUERIES["forget_resets"])
    await connection.execute(_QUERIES["ask_reset"], {"kind": state.kind, "id": state.id})
    return found[0]


async def last_reset(connection: Connection) -> int:
    """The number of the newest request, 0 for none: what a service begins behind."""
    row = await (await connection.execute(_QUERIES["last_reset"])).fetchone()
    return 0 if row is None else int(row[0])


async def resets(connection: Connection, after: int) -> list[tuple[int, str, str]]:
    """Requests behind number ``after``: number, kind, id."""
    cursor = await connection.execute(_QUERIES["resets"], {"after": after})
    return [(number, kind, id_) for number, kind, id_ in await cursor.fetchall()]
