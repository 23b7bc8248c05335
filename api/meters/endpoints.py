"""Meters: paged list with filters, one with its life, and changes of state."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.auth import OperatorWithin, ReaderWithin, actor
from api.errors import BadValue, responses
from api.meters.lookup import meter_by_asset, meters_within
from api.services import Services, services
from api.shapes import AssetId, Limit
from api.strict_json import StrictRoute
from api.times import Instant, rfc3339
from headend.store import audit, meters, points
from headend.store.meters import MeterFilter
from schemas.meter import Meter, MeterState

router = APIRouter(tags=["meters"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "asset_id": "SIM00000001",
    "model": "headend-sim",
    "system_title": "48454400000001A1",
    "logical_device_name": "HEA0000000000001",
    "address": "tcp://10.1.2.3:4059?server=1",
    "feeder": "F-07",
    "transformer": "T-0113",
    "state": "commissioned",
    "state_since": "2026-01-01T00:00:00Z",
}


class MeterModel(BaseModel):
    """A meter as known; keys are not told here or anywhere."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    asset_id: str = Field(description="serial number or barcode")
    model: str = Field(description="name of the meter model's profile")
    system_title: str | None = Field(description="8 bytes, hexadecimal")
    logical_device_name: str | None
    address: str | None = Field(description="link address; null where nothing is known to dial")
    feeder: str | None
    transformer: str | None
    state: MeterState
    state_since: str

    @staticmethod
    def fields(meter: Meter) -> dict[str, object]:
        title = meter.system_title
        return {
            "asset_id": meter.asset_id,
            "model": meter.model,
            "system_title": None if title is None else title.hex().upper(),
            "logical_device_name": meter.logical_device_name,
            "address": meter.address,
            "feeder": meter.feeder,
            "transformer": meter.transformer,
            "state": meter.state,
            "state_since": rfc3339(meter.state_since),
        }


class MeterPage(BaseModel):
    """Meters in order of asset ids; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"meters": [_EXAMPLE], "next": None}]})

    meters: list[MeterModel]
    next: str | None


class StateModel(BaseModel):
    """A state and the time from which it holds."""

    state: MeterState
    since: str


class MeterDetail(MeterModel):
    """A meter, its life so far, and the metering point where it is now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "states": [{"state": "commissioned", "since": "2026-01-01T00:00:00Z"}],
                    "point": "MP-000001",
                }
            ]
        }
    )

    states: list[StateModel] = Field(description="oldest first")
    point: str | None = Field(description="code of the metering point where it is installed now")


class StateChange(BaseModel):
    """The state to move to, from ``since`` on (now, where left out)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"state": "suspended", "since": "2026-03-01T08:00:00Z"}]},
    )

    state: MeterState
    since: Instant | None = None


def _filter(description: str) -> object:
    return Query(max_length=128, description=description)


@router.get("/meters", summary="Meters, paged and filtered", responses=responses(400, 401, 403, 422, 503))
async def list_meters(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    model: Annotated[str | None, _filter("only meters of this model")] = None,
    feeder: Annotated[str | None, _filter("only meters on this feeder")] = None,
    transformer: Annotated[str | None, _filter("only meters behind this transformer")] = None,
    state: Annotated[MeterState | None, Query(description="only meters in this state")] = None,
    q: Annotated[str | None, _filter("part of asset id or logical device name, in any case")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> MeterPage:
    """In order of asset ids, those in the areas that one is limited to. ``next`` in the answer and the Link
    header lead to the next page."""
    last = None if after is None else paging.decode(after, str)[0]
    only = MeterFilter(model, feeder, transformer, state, q)
    async with house.pool.connection() as connection:
        within = await meters_within(connection, asking)
        found = await meters.page(connection, limit=limit + 1, after=last, only=only, within=within)
    page = found[:limit]
    cursor = paging.encode([page[-1].asset_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return MeterPage(meters=[MeterModel.model_validate(MeterModel.fields(m)) for m in page], next=cursor)


@router.get("/meters/{asset_id}", summary="One meter", responses=responses(400, 401, 403, 404, 422, 503))
async def get_meter(
    asking: ReaderWithin, house: Annotated[Services, Depends(services)], asset_id: AssetId
) -> MeterDetail:
    """What is known of it, its life so far, and where it is installed now."""
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id, asking)
        life = await meters.states(connection, meter.meter_id)
        codes = await points.codes_at(connection, [meter.meter_id], house.clock())
    return _detail(meter, life, codes.get(meter.meter_id))


@router.post(
    "/meters/{asset_id}/states",
    summary="Move a meter to another state of its life cycle",
    status_code=201,
    responses=responses(400, 401, 403, 404, 409, 413, 422, 503),
)
async def change_state(
    token: OperatorWithin,
    house: Annotated[Services, Depends(services)],
    asset_id: AssetId,
    change: StateChange,
) -> MeterDetail:
    """received -> installed -> commissioned <-> suspended, removed from anywhere; 409 for any other step."""
    now = house.clock()
    since = change.since or now
    if since > now:
        raise BadValue.field("/since", "lies in the future; a state is recorded when it holds")
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id, token)
        await meters.change_state(connection, meter.meter_id, change.state, since=since)
        await audit.record(
            connection,
            actor=actor(token),
            action="meter.state",
            object_=f"meter:{asset_id}",
            detail={"from": meter.state, "to": change.state, "since": rfc3339(since)},
        )
        meter = await meters.get(connection, meter.meter_id)
        life = await meters.states(connection, meter.meter_id)
        codes = await points.codes_at(connection, [meter.meter_id], now)
    return _detail(meter, life, codes.get(meter.meter_id))


def _detail(meter: Meter, life: list[tuple[MeterState, datetime]], point: str | None) -> MeterDetail:
    states = [{"state": state, "since": rfc3339(since)} for state, since in life]
    return MeterDetail.model_validate({**MeterModel.fields(meter), "states": states, "point": point})
