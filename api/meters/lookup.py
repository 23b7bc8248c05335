"""Meters by the names people use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.errors import BadValue, NotFound, Place
from headend.store import meters
from headend.store.errors import UnknownError
from headend.store.groups import UnknownMeters
from headend.store.sql import Connection
from schemas.meter import Meter


async def meter_by_asset(connection: Connection, asset_id: str) -> Meter:
    """The meter that a path names. 404 where there is none."""
    try:
        return await meters.by_asset(connection, asset_id)
    except UnknownError as exc:
        raise NotFound(f"no meter has the asset id {asset_id!r}; GET /api/v1/meters lists them") from exc


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
