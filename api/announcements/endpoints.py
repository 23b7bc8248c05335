"""Announced devices: what stations or devices told of and no meter of ours is, until a person decides."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.auth import Operator, Reader, actor
from api.errors import BadValue, responses
from api.services import Services, services
from api.shapes import Limit, Name
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.ingest.acceptance import accept, reject
from headend.store import announcements
from headend.store.announcements import AnnouncementState, InboxDevice
from schemas.address import AddressError
from schemas.meter import FIRST_STATES, MeterState
from schemas.model import ModelError
from schemas.network import LinkKind

router = APIRouter(tags=["announcements"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "number": 17,
    "station": "DC-0007",
    "identity": "HEA0000000000042",
    "model": "headend-sim",
    "address": "via:?gateway=0:0A0B0C0D",
    "link": "plc_narrowband",
    "hops": 2,
    "quality": 61,
    "parent": None,
    "first_at": "2026-03-01T00:00:00Z",
    "last_at": "2026-03-02T00:00:00Z",
    "times": 96,
    "state": "waiting",
    "decided_at": None,
    "meter": None,
}
_CHANGE = responses(400, 401, 403, 404, 409, 413, 422, 503)
Number = Annotated[int, Path(ge=1, lt=2**63, description="the announcement's number", examples=[17])]


class AnnouncementModel(BaseModel):
    """A device as it was announced, and what became of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    number: int
    station: str | None = Field(description="code of the concentrator or gateway; null: the device itself")
    identity: str = Field(description="as the teller calls it")
    model: str | None
    address: str | None
    link: LinkKind | None
    hops: int
    quality: int | None
    parent: str | None = Field(description="identity of the device through which it is heard")
    first_at: str
    last_at: str
    times: int
    state: AnnouncementState
    decided_at: str | None
    meter: str | None = Field(description="asset id of the meter that it became")

    @classmethod
    def of(cls, one: InboxDevice) -> "AnnouncementModel":
        told = one.announced
        return cls(
            number=one.number,
            station=one.station,
            identity=told.identity,
            model=told.model,
            address=told.address,
            link=told.link,
            hops=told.hops,
            quality=told.quality,
            parent=told.parent,
            first_at=rfc3339(one.first_at),
            last_at=rfc3339(one.last_at),
            times=one.times,
            state=one.state,
            decided_at=None if one.decided_at is None else rfc3339(one.decided_at),
            meter=one.asset_id,
        )


class AnnouncementPage(BaseModel):
    """Announcements, oldest first; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"announcements": [_EXAMPLE], "next": None}]})

    announcements: list[AnnouncementModel]
    next: str | None


class AcceptBody(BaseModel):
    """What the meter shall be; what is left out is as it was announced, the asset id its identity."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"asset_id": "SIM00000042", "state": "commissioned"}]},
    )

    asset_id: Name | None = None
    model: Name | None = None
    address: Name | None = None
    state: MeterState = MeterState.INSTALLED


@router.get(
    "/announcements",
    summary="Announced devices, paged and filtered",
    responses=responses(400, 401, 403, 422, 503),
)
async def list_announcements(
    _token: Reader,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    state: Annotated[AnnouncementState, Query(description="what became of them")] = AnnouncementState.WAITING,
    station: Annotated[
        str | None, Query(max_length=128, description="only what this concentrator or gateway announced")
    ] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> AnnouncementPage:
    """Oldest first. ``next`` in the answer and the Link header lead to the next page."""
    last = 0 if after is None else paging.decode(after, int)[0]
    if not 0 <= last < 2**63:
        raise BadValue.parameter("after", "is no cursor of this list")
    async with house.pool.connection() as connection:
        found = await announcements.page(
            connection, limit=limit + 1, after=last, state=state, station=station
        )
    page = found[:limit]
    cursor = paging.encode([page[-1].number]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return AnnouncementPage(announcements=[AnnouncementModel.of(one) for one in page], next=cursor)


@router.post("/announcements/{number}/accept", summary="Make an announced device a meter", responses=_CHANGE)
async def accept_announcement(
    token: Operator, house: Annotated[Services, Depends(services)], number: Number, body: AcceptBody
) -> AnnouncementModel:
    """Below the station that announced it. 409 where it was accepted before, or the asset id is in use."""
    if body.state not in FIRST_STATES:
        raise BadValue.field("/state", f"a meter begins as one of {', '.join(FIRST_STATES)}")
    async with house.pool.connection() as connection:
        try:
            await accept(
                connection,
                number,
                actor=actor(token),
                now=house.clock(),
                asset_id=body.asset_id,
                model=body.model,
                address=body.address,
                state=body.state,
                profile_folders=house.profile_folders,
            )
        except ModelError as exc:
            raise BadValue.field("/model", str(exc)) from exc
        except AddressError as exc:
            raise BadValue.field("/address", str(exc)) from exc
        return AnnouncementModel.of(await announcements.get(connection, number))


@router.post("/announcements/{number}/reject", summary="Keep an announced device quiet", responses=_CHANGE)
async def reject_announcement(
    token: Operator, house: Annotated[Services, Depends(services)], number: Number
) -> AnnouncementModel:
    """However often it is announced again. It can still be accepted later."""
    async with house.pool.connection() as connection:
        return AnnouncementModel.of(await reject(connection, number, actor=actor(token), now=house.clock()))
