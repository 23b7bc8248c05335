"""Meters by the names people use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.errors import BadValue, NotFound, Place
from headend.store import areas, meters
from headend.store.areas import Within
from headend.store.errors import UnknownError
from headend.store.groups import UnknownMeters
from headend.store.sql import Connection
from schemas.meter import Meter
from schemas.people import Principal


async def meter_by_asset(connection: Connection, asset_id: str, asking: Principal | None = None) -> Meter:
    """The meter that a path names. 404 where there is none, and, told alike, where it is outside of the areas
    of who asks."""
    unknown = NotFound(f"no meter has the asset id {asset_id!r}; GET /api/v1/meters lists them")
    try:
        meter = await meters.by_asset(connection, asset_id)
    except UnknownError as exc:
        raise unknown from exc
    own = await meters_within(connection, asking)
    if own is not None and meter.meter_id not in own:
        raise unknown
    return meter


async def within(connection: Connection, asking: Principal | None) -> Within | None:
    """What the areas that he is limited to have now; None: he is limited to none."""
    if asking is None or asking.areas is None:
        return None
    return await areas.within(connection, asking.areas)


async def meters_within(connection: Connection, asking: Principal | None) -> frozenset[int] | None:
    """Numbers of the meters in the areas that he is limited to; None: he is limited to none."""
    found = await within(connection, asking)
    return None if found is None else found.meters


async def meter_in_body(connection: Connection, asset_id: str, pointer: str) -> Meter:
    """The meter that a body names at ``pointer``. 422 where there is none."""
    try:
        return await meters.by_asset(connection, asset_id)
    except UnknownError as exc:
        raise BadValue.field(pointer, f"no meter has the asset id {asset_id!r}") from exc


@asynccontextmanager
async def known_meters(pointer: str) -> AsyncIterator[None]:
    """Inside, a list of the body at ``pointer`` names meters. 422 with the place of each that is none."""
    try:
        yield
    except UnknownMeters as exc:
        places = [
            Place(pointer=f"{pointer}/{place}", detail=f"no meter {name!r}") for place, name in exc.places
        ]
        raise BadValue(f"{pointer}: {exc}", places=places) from exc
