"""Metering points: billing follows them, meters come and go. A change is audited in its transaction."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from api import paging
from api.auth import Admin, Operator, Reader, actor
from api.errors import Conflict, NotFound, responses
from api.meters.lookup import meter_in_body
from api.points.models import (
    ExchangeBody,
    InstallationBody,
    InstallationModel,
    PointBody,
    PointDetail,
    PointPage,
    RatioBody,
    RatioModel,
)
from api.services import Services, services
from api.shapes import Limit, PointCode
from api.strict_json import StrictRoute
from headend.store import audit, meters, points
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from schemas.meter import MeteringPoint
from schemas.people import Principal

router = APIRouter(tags=["metering points"], route_class=StrictRoute)

_CHANGE = responses(400, 401, 403, 404, 409, 413, 422, 503)


@router.get("/points", summary="Metering points, paged", responses=responses(400, 401, 403, 422, 503))
async def list_points(
    _token: Reader,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> PointPage:
    """In order of codes. ``next`` in the answer and the Link header lead to the next page."""
    last = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        found = await points.page(connection, limit=limit + 1, after=last)
    page = found[:limit]
    cursor = paging.encode([page[-1].code]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return PointPage(points=[point.code for point in page], next=cursor)


@router.get("/points/{code}", summary="One metering point", responses=responses(400, 401, 403, 404, 422, 503))
async def get_point(
    _token: Reader, house: Annotated[Services, Depends(services)], code: PointCode
) -> PointDetail:
    """Its installations and transformer ratios, oldest first."""
    async with house.pool.connection() as connection:
        return await _detail(connection, await _point(connection, code))


@router.post("/points", summary="Create a metering point", status_code=201, responses=_CHANGE)
async def create_point(
    token: Admin, house: Annotated[Services, Depends(services)], response: Response, body: PointBody
) -> PointDetail:
    """409 where the code is in use."""
    async with house.pool.connection() as connection:
        if not await points.create(connection, body.code):
            raise Conflict(f"there is a metering point {body.code!r} already")
        point = await points.get(connection, body.code)
        if body.ratio is not None:
            await points.set_ratio(connection, point.point_id, body.ratio.ratio())
        await _record(connection, token, "point.create", point, body)
        detail = await _detail(connection, point)
    response.headers["Location"] = f"/api/v1/points/{quote(body.code, safe='')}"
    return detail


@router.post(
    "/points/{code}/ratios",
    summary="Let a transformer ratio hold from a time on",
    status_code=201,
    responses=_CHANGE,
)
async def set_ratio(
    token: Admin, house: Annotated[Services, Depends(services)], code: PointCode, body: RatioBody
) -> PointDetail:
    """The ratio that is open ends there. Stored readings stay as metered: ratios apply when they are read."""
    async with house.pool.connection() as connection:
        point = await _point(connection, code)
        await points.set_ratio(connection, point.point_id, body.ratio())
        await _record(connection, token, "point.ratio", point, body)
        return await _detail(connection, point)


@router.post(
    "/points/{code}/installations",
    summary="Install a meter where none is",
    status_code=201,
    responses=_CHANGE,
)
async def install(
    token: Operator, house: Annotated[Services, Depends(services)], code: PointCode, body: InstallationBody
) -> PointDetail:
    """409 where the point or the meter has another installation then or later."""
    async with house.pool.connection() as connection:
        point = await _point(connection, code)
        meter = await meter_in_body(connection, body.meter, "/meter")
        await points.install(
            connection,
            point_id=point.point_id,
            meter_id=meter.meter_id,
            since=body.since,
            registers=body.start_registers,
        )
        await _record(connection, token, "point.install", point, body)
        return await _detail(connection, point)


@router.post(
    "/points/{code}/exchange", summary="Exchange the meter at a point", status_code=201, responses=_CHANGE
)
async def exchange(
    token: Operator, house: Annotated[Services, Depends(services)], code: PointCode, body: ExchangeBody
) -> PointDetail:
    """Both or nothing: the installation that is open ends at ``at``, the new meter's begins there."""
    async with house.pool.connection() as connection:
        point = await _point(connection, code)
        meter = await meter_in_body(connection, body.meter, "/meter")
        there = [one for one in await points.at_point(connection, point.point_id) if one.until is None]
        if not there:
            raise Conflict(f"no meter is installed at {code!r}; POST to its installations instead")
        await points.exchange(
            connection,
            old_meter_id=there[0].meter_id,
            new_meter_id=meter.meter_id,
            at=body.at,
            removal_registers=body.removal_registers,
            start_registers=body.start_registers,
        )
        await _record(connection, token, "point.exchange", point, body)
        return await _detail(connection, point)


async def _point(connection: Connection, code: str) -> MeteringPoint:
    try:
        return await points.get(connection, code)
    except UnknownError as exc:
        raise NotFound(f"no metering point has the code {code!r}; GET /api/v1/points lists them") from exc


async def _record(
    connection: Connection, token: Principal, action: str, point: MeteringPoint, body: BaseModel
) -> None:
    detail: Mapping[str, Any] = body.model_dump(mode="json")
    await audit.record(
        connection, actor=actor(token), action=action, object_=f"point:{point.code}", detail=detail
    )


async def _detail(connection: Connection, point: MeteringPoint) -> PointDetail:
    stays = await points.at_point(connection, point.point_id)
    found = await meters.find(connection, ids=[one.meter_id for one in stays])
    names = {meter.meter_id: meter.asset_id for meter in found}
    return PointDetail(
        code=point.code,
        installations=[InstallationModel.of(one, names[one.meter_id]) for one in stays],
        ratios=[RatioModel.of(ratio) for ratio in await points.ratios(connection, point.point_id)],
    )
