"""Load curves as stored: of a meter, or of a metering point through its meters. Reading only.

Both come in two steps on one snapshot (``snapshot``): ``*_state`` counts and fingerprints a range cheaply,
and ``rows`` fetches it. The fingerprint changes with every row that comes, goes or is corrected (each carries
the batch that brought it), so equal fingerprints mean equal curves. Ranges are half-open [start, end), aware
UTC, and choose intervals by their start; the row before the range comes along, because consumption needs its
reading.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from headend.store import sql
from headend.store.consumption import CurveRow, Installed
from headend.store.errors import UnknownError
from schemas.meter import Ratio
from schemas.reading import Channel, ChannelLayout, Kind, Quality

_QUERIES: Final = sql.load("curves")

#: Rows per round trip: a few milliseconds of the event loop each.
_CHUNK: Final = 500


class ClockChanged(NamedTuple):
    """A meter's clock was changed from one of these two moments to the other, by its own telling."""

    meter_id: int
    since: datetime
    until: datetime

    def touches(self, row: CurveRow) -> bool:
        """Whether the interval's boundaries were drawn, or left out, by a clock that was changed. Not where
        our own clock drew them: a sample."""
        is_ours = row.quality == Quality.SAMPLED
        is_near = row.start <= self.until and self.since < row.end
        return row.meter_id == self.meter_id and is_near and not is_ours


def clock_changed(row: CurveRow, changes: Sequence[ClockChanged]) -> bool:
    """Whether one of these touches the interval: whoever hands it on says ``clock_changed`` of it."""
    return any(one.touches(row) for one in changes)


@dataclass(frozen=True, slots=True)
class CurveState:
    """What a range holds. ``count`` excludes the row before it, which starts at ``before`` (None: there is
    none).

    ``parameters`` are those of the query, for ``rows``; ``point`` tells which of the two curves it is.
    """

    count: int
    fingerprint: str
    layouts: Mapping[int, ChannelLayout]
    before: datetime | None
    parameters: Mapping[str, Any]
    point: bool = False
    installations: tuple[Installed, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    clock_changes: tuple[ClockChanged, ...] = ()


@asynccontextmanager
async def snapshot(connection: sql.Connection) -> AsyncIterator[None]:
    """One consistent, read-only view of the database, with instants told in UTC."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute("SET LOCAL TIME ZONE 'UTC'")
        yield


async def meter_state(
    connection: sql.Connection, meter_id: int, profile: int, start: datetime, end: datetime
) -> CurveState:
    """State of a meter's curve over [start, end)."""
    parameters = {"meter": meter_id, "profile": profile, "start": start, "end": end}
    return await _state(connection, parameters, point=False)


async def point_state(
    connection: sql.Connection, code: str, profile: int, start: datetime, end: datetime
) -> CurveState:
    """State of a metering point's curve over [start, end). UnknownError for a code nobody created."""
    found = await (await connection.execute(_QUERIES["point_id"], {"code": code})).fetchone()
    if found is None:
        raise UnknownError(f"no metering point {code!r}")
    parameters = {"point": found[0], "profile": profile, "start": start, "end": end}
    return await _state(connection, parameters, point=True)


async def _state(connection: sql.Connection, parameters: Mapping[str, Any], *, point: bool) -> CurveState:
    query = _QUERIES["point_state" if point else "meter_state"]
    row = await (await connection.execute(query, parameters)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    count, fingerprint, layout_ids, before = row
    installations: tuple[Installed, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    meters = [parameters.get("meter")]
    if point:
        cursor = await connection.execute(_QUERIES["point_installations"], parameters)
        installations = tuple(
            Installed(meter_id, asset_id, since, until, _readings(at_start), _readings(at_removal))
            for meter_id, asset_id, since, until, at_start, at_removal in await cursor.fetchall()
        )
        cursor = await connection.execute(_QUERIES["point_ratios"], parameters)
        ratios = tuple(Ratio(*r) for r in await cursor.fetchall())
        meters = [one.meter_id for one in installations]
    cursor = await connection.execute(_QUERIES["clock_changes"], {**parameters, "meters": meters})
    return CurveState(
        count,
        f"{count}:{fingerprint}:{before}",
        await layouts(connection, layout_ids),
        before,
        parameters,
        point,
        installations,
        ratios,
        tuple(ClockChanged(*found) for found in await cursor.fetchall()),
    )


def _readings(told: Mapping[str, str] | None) -> dict[str, Decimal]:
    return {obis: Decimal(value) for obis, value in (told or {}).items()}


async def layouts(connection: sql.Connection, layout_ids: Sequence[int]) -> dict[int, ChannelLayout]:
    """Layouts by id, as the writer stored them."""
    cursor = await connection.execute(_QUERIES["layouts"], {"layouts": list(layout_ids)})
    return {layout_id: _layout(channels) for layout_id, channels in await cursor.fetchall()}


def _layout(channels: Sequence[Mapping[str, Any] | None]) -> ChannelLayout:
    one, two, three, four = (
        None if c is None else Channel(**{**c, "kind": Kind(c["kind"])}) for c in channels
    )
    return ChannelLayout((one, two, three, four))


async def rows(connection: sql.Connection, state: CurveState) -> tuple[CurveRow | None, list[CurveRow]]:
    """The row before the range, if there is one, and the range's rows by start. In the state's snapshot."""
    start: datetime = state.parameters["start"]
    parameters = {**state.parameters, "first": state.before or start}
    found: list[CurveRow] = []
    async with connection.cursor(name="curve") as cursor:
        await cursor.execute(_QUERIES["point_rows" if state.point else "meter_rows"], parameters)
        while chunk := await cursor.fetchmany(_CHUNK):
            found.extend(CurveRow._make((*r[:8], r[8:])) for r in chunk)
    first = next((n for n, row in enumerate(found) if row.start >= start), len(found))
    return (found[first - 1] if first else None), found[first:]
