"""Meters and their life cycle.

Every function takes a connection and works in the caller's transaction, or in one of its own where it needs
several statements to hold together. Times are aware.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import errors

from headend.store import sql
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.meter import Meter, MeterState, NewMeter, check_transition

_QUERIES: Final = sql.load("meters")

#: What a violated unique constraint of `meters` says to a person.
_TAKEN: Final = {
    "meters_asset_id_key": "asset id",
    "meters_system_title_key": "system title",
    "meters_logical_device_name_key": "logical device name",
}


@dataclass(frozen=True, slots=True)
class MeterFilter:
    """Which meters a page shows; None: all. ``q`` is part of asset id or logical device name, in any case."""

    model: str | None = None
    feeder: str | None = None
    transformer: str | None = None
    state: MeterState | None = None
    q: str | None = None


def _meter(row: Sequence[Any]) -> Meter:
    number, asset_id, model, title, name, address, feeder, transformer, state, since, created, updated = row
    return Meter(
        number,
        asset_id,
        model,
        None if title is None else bytes(title),
        name,
        address,
        feeder,
        transformer,
        MeterState(state),
        since,
        created,
        updated,
    )


async def add_many(
    connection: Connection,
    new: Sequence[NewMeter],
    *,
    since: datetime,
    state: MeterState = MeterState.RECEIVED,
) -> dict[str, int]:
    """Store meters, each in ``state`` since then; their numbers by asset id. Another first state than
    ``received`` is for fleets that lived before this database.

    Raises ConflictError where an asset id, system title or logical device name is in use; then nothing is
    stored.
    """
    async with connection.transaction():
        try:
            cursor = await connection.execute(
                _QUERIES["add_many"],
                {
                    "asset_ids": [meter.asset_id for meter in new],
                    "models": [meter.model for meter in new],
                    "titles": [meter.system_title for meter in new],
                    "names": [meter.logical_device_name for meter in new],
                    "addresses": [meter.address for meter in new],
                    "feeders": [meter.feeder for meter in new],
                    "transformers": [meter.transformer for meter in new],
                },
            )
        except errors.UniqueViolation as error:
            what = _TAKEN.get(error.diag.constraint_name or "", "name")
            raise ConflictError(f"{what} is in use by another meter") from error
        numbers: dict[str, int] = dict(await cursor.fetchall())
        await connection.execute(
            _QUERIES["add_states"],
            {"meters": list(numbers.values()), "state": state, "since": sql.aware(since)},
        )
    return numbers


async def add(connection: Connection, new: NewMeter, *, since: datetime) -> Meter:
    """Store one meter in state ``received``. Raises ConflictError as `add_many` does."""
    numbers = await add_many(connection, [new], since=since)
    return await get(connection, numbers[new.asset_id])


async def find(
    connection: Connection,
    *,
    ids: Sequence[int] = (),
    asset_ids: Sequence[str] = (),
    titles: Sequence[bytes] = (),
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> list[Meter]:
    """All meters that any of these name, by asset id. Those that do not exist are not in the list."""
    cursor = await connection.execute(
        _QUERIES["find"],
        {
            "ids": list(ids),
            "asset_ids": list(asset_ids),
            "titles": list(titles),
            "names": list(names),
            "addresses": list(addresses),
        },
    )
    return [_meter(row) for row in await cursor.fetchall()]


async def get(connection: Connection, meter_id: int) -> Meter:
    """One meter by its number. Raises UnknownError."""
    for meter in await find(connection, ids=[meter_id]):
        return meter
    raise UnknownError(f"no meter number {meter_id}")


async def by_asset(connection: Connection, asset_id: str) -> Meter:
    """One meter by its asset id. Raises UnknownError."""
    for meter in await find(connection, asset_ids=[asset_id]):
        return meter
    raise UnknownError(f"no meter {asset_id!r}")


async def by_title(connection: Connection, title: bytes) -> Meter | None:
    """The meter with this system title, None where nobody has it."""
    return next(iter(await find(connection, titles=[title])), None)


async def by_name(connection: Connection, name: str) -> Meter | None:
    """The meter with this logical device name, None where nobody has it."""
    return next(iter(await find(connection, names=[name])), None)


async def page(
    connection: Connection,
    *,
    limit: int,
    after: str | None = None,
    only: MeterFilter | None = None,
    within: Collection[int] | None = None,
) -> list[Meter]:
    """At most ``limit`` meters whose asset id comes after ``after``, in order of asset ids; ``within``: of
    these numbers alone."""
    only = only or MeterFilter()
    cursor = await connection.execute(
        _QUERIES["page"],
        {
            "after": after,
            "limit": limit,
            "model": only.model,
            "feeder": only.feeder,
            "transformer": only.transformer,
            "state": only.state,
            "q": only.q,
            "within": None if within is None else sorted(within),
        },
    )
    return [_meter(row) for row in await cursor.fetchall()]


async def change_state(connection: Connection, meter_id: int, state: MeterState, *, since: datetime) -> None:
    """Move a meter to ``state`` from ``since`` on.

    Raises UnknownError, LifeCycleError where the life cycle does not allow it, ConflictError where ``since``
    is not after the beginning of the state before.
    """
    async with connection.transaction():
        cursor = await connection.execute(_QUERIES["lock"], {"meter": meter_id})
        if await cursor.fetchone() is None:
            raise UnknownError(f"no meter number {meter_id}")
        now = await get(connection, meter_id)
        check_transition(now.state, state)
        if sql.aware(since) <= now.state_since:
            raise ConflictError(
                f"the meter is {now.state} since {now.state_since.isoformat()}; give a later time"
            )
        await connection.execute(_QUERIES["add_state"], {"meter": meter_id, "state": state, "since": since})


async def states(connection: Connection, meter_id: int) -> list[tuple[MeterState, datetime]]:
    """The life of a meter: (state, since), oldest first; empty for an unknown meter."""
    cursor = await connection.execute(_QUERIES["states"], {"meter": meter_id})
    return [(MeterState(state), since) for state, since in await cursor.fetchall()]


async def learn_identity(
    connection: Connection, meter_id: int, *, title: bytes | None = None, name: str | None = None
) -> None:
    """Keep the system title or logical device name that an authenticated exchange proved.

    Raises UnknownError; ConflictError where the meter is known by another one, or another meter has this one.
    """
    async with connection.transaction():
        try:
            cursor = await connection.execute(
                _QUERIES["learn_identity"], {"meter": meter_id, "title": title, "name": name}
            )
        except errors.UniqueViolation as error:
            what = _TAKEN.get(error.diag.constraint_name or "", "name")
            raise ConflictError(f"{what} is in use by another meter") from error
        row = await cursor.fetchone()
        if row is None:
            raise UnknownError(f"no meter number {meter_id}")
        if title is not None and bytes(row[0]) != title:
            raise ConflictError("the meter is known by another system title")
        if name is not None and row[1] != name:
            raise ConflictError("the meter is known by another logical device name")


async def touch(connection: Connection, meter_id: int) -> None:
    """The meter's record is of now: what any process remembers of its profiles is asked for again."""
    await connection.execute(_QUERIES["touch"], {"meter": meter_id})


async def set_address(connection: Connection, meter_id: int, address: str | None) -> None:
    """Keep where the head-end reaches a meter. Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["set_address"], {"meter": meter_id, "address": address})
    if await cursor.fetchone() is None:
        raise UnknownError(f"no meter number {meter_id}")
