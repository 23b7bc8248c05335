"""Switching: where breakers stand, critical customers, the emergency stop. Switching itself is a program."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import paging
from api.auth import ReaderWithin, allowed
from api.errors import BadValue, Conflict, Forbidden, NotFound, responses
from api.meters.lookup import meter_by_asset
from api.services import Services, services
from api.shapes import AssetId, Limit
from api.strict_json import StrictRoute
from api.switching.models import (
    BreakerModel,
    CriticalBody,
    CriticalModel,
    CriticalPage,
    HaltModel,
    MeterSwitch,
    SwitchingModel,
    SwitchingState,
    WhyBody,
)
from headend.store import switching
from headend.store.errors import ConflictError, UnknownError
from headend.switching import critical, stopping
from schemas.people import Permission, Principal

router = APIRouter(tags=["switching"], route_class=StrictRoute)

_READ = responses(400, 401, 403, 404, 422, 503)
_CHANGE = responses(400, 401, 403, 404, 409, 413, 422, 503)
Reading = Annotated[Principal, Depends(allowed(Permission.READ))]
Operating = Annotated[Principal, Depends(allowed(Permission.OPERATE))]
#: Whoever may read may ask: who may not stop is refused below, where that is audited.
Asking = Annotated[Principal, Depends(allowed(*Permission, limited=True))]
After = Annotated[str | None, Query(max_length=512, description="cursor of the last page")]


@router.get("/meters/{asset_id}/switch", summary="A meter's breaker, and what was switched", responses=_READ)
async def get_switch(
    _principal: Reading,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    asset_id: AssetId,
    limit: Limit = 100,
    after: After = None,
) -> MeterSwitch:
    """Nothing is read of the meter now. Switchings and limits that were sent, newest first, with who asked
    and who approved. A campaign with a program of kind ``switch`` or ``limit`` makes another."""
    before = None if after is None else paging.decode(after, int)[0]
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id)
        state = await switching.state(connection, meter.meter_id)
        flagged = await switching.critical(connection, [meter.meter_id], house.clock())
        found = await switching.history(connection, meter.meter_id, limit=limit + 1, before=before)
    page = found[:limit]
    cursor = paging.encode([page[-1].switching_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return MeterSwitch(
        breaker=None if state is None else BreakerModel.of(state),
        critical=flagged.get(meter.meter_id),
        switchings=[SwitchingModel.of(one) for one in page],
        next=cursor,
    )


@router.get("/critical-customers", summary="Critical customers, paged", responses=_READ)
async def list_critical_customers(
    _principal: Reading,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    meter: Annotated[
        str | None, Query(max_length=128, description="only of this meter, and of the point it is at")
    ] = None,
    limit: Limit = 100,
    after: After = None,
) -> CriticalPage:
    """In order of their numbers. Removed ones are not in it."""
    last = 0 if after is None else paging.decode(after, int)[0]
    async with house.pool.connection() as connection:
        number = None if meter is None else (await meter_by_asset(connection, meter)).meter_id
        found = await switching.list_critical(connection, limit=limit + 1, after=last, meter_id=number)
    page = found[:limit]
    cursor = paging.encode([page[-1].critical_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return CriticalPage(critical_customers=[CriticalModel.of(one) for one in page], next=cursor)


@router.post("/critical-customers", summary="Flag a critical customer", status_code=201, responses=_CHANGE)
async def add_critical_customer(
    principal: Operating, house: Annotated[Services, Depends(services)], body: CriticalBody
) -> CriticalModel:
    """He is not switched off or limited from now on, by campaigns that run too."""
    async with house.pool.connection() as connection:
        try:
            number = await critical.add(
                connection,
                asset_id=body.meter,
                point=body.point,
                why=body.why,
                until=body.until,
                actor=principal.actor,
            )
        except UnknownError as exc:
            raise BadValue.field("/meter" if body.point is None else "/point", str(exc)) from exc
        (made,) = await switching.list_critical(connection, limit=1, after=number - 1)
    return CriticalModel.of(made)


@router.delete(
    "/critical-customers/{number}", summary="Remove such a flag", status_code=204, responses=_CHANGE
)
async def remove_critical_customer(
    principal: Operating,
    house: Annotated[Services, Depends(services)],
    number: Annotated[int, Path(ge=1, le=2**31 - 1, description="the number of the flag")],
) -> None:
    """404 where there is none of this number, or it was removed before."""
    async with house.pool.connection() as connection:
        try:
            await critical.remove(connection, number, actor=principal.actor)
        except UnknownError as exc:
            raise NotFound(str(exc)) from exc


@router.get("/switching", summary="Whether all switching is stopped", responses=_READ)
async def get_switching(
    _principal: ReaderWithin, house: Annotated[Services, Depends(services)]
) -> SwitchingState:
    """``stopped`` is null where it is not."""
    async with house.pool.connection() as connection:
        halt = await switching.halt(connection)
    return SwitchingState(stopped=None if halt is None else HaltModel.of(halt))


@router.post("/switching/stop", summary="Emergency stop of all switching", responses=_CHANGE)
async def stop_switching(
    principal: Asking, house: Annotated[Services, Depends(services)], body: WhyBody
) -> SwitchingState:
    """Nothing is switched or limited from the moment of the answer on, until somebody else allows it again;
    campaigns that go on are stopped. Asked again, it stops what has begun to go on since. Needs the
    permission ``emergency_stop``; refusals are audited."""
    try:
        halted = await stopping.stop(house.pool.connection, principal, body.reason)
    except stopping.MayNot as exc:
        raise Forbidden(str(exc)) from exc
    async with house.pool.connection() as connection:
        halt = await switching.halt(connection)
    return SwitchingState(stopped=None if halt is None else HaltModel.of(halt), campaigns=halted)


@router.post("/switching/allow", summary="End an emergency stop", responses=_CHANGE)
async def allow_switching(
    principal: Asking, house: Annotated[Services, Depends(services)], body: WhyBody
) -> SwitchingState:
    """By another person than who stopped it, with an account and the permission ``emergency_stop``. Campaigns
    that were stopped stay so: they are resumed one by one. 409 where nothing is stopped."""
    try:
        await stopping.allow(house.pool.connection, principal, body.reason)
    except stopping.MayNot as exc:
        raise Forbidden(str(exc)) from exc
    except ConflictError as exc:
        raise Conflict(str(exc)) from exc
    return SwitchingState(stopped=None)
