"""Campaigns: put forward, paused, resumed, ended; what came of each meter, as it goes on and as a report."""

import contextlib
import hashlib
import json
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import paging
from api.auth import ReaderWithin, allowed
from api.campaigns.models import (
    STREAM,
    CampaignBody,
    CampaignDetail,
    CampaignMeterDetail,
    CampaignMeterModel,
    CampaignMeterPage,
    CampaignModel,
    CampaignPage,
    ReasonBody,
    StepModel,
)
from api.errors import BadValue, Forbidden, NotFound, Place, Stale, Unavailable, responses
from api.headers import CorrelationId, IdempotencyKey, correlation, visible
from api.meters.lookup import meters_within
from api.services import Services, services
from api.shapes import AssetId, Limit
from api.strict_json import StrictRoute
from headend.approvals import steering
from headend.approvals.campaigns import subject_of
from headend.approvals.proposing import (
    Key,
    KeyReused,
    NotPermitted,
    Proposed,
    put_forward,
    refusals_audited,
)
from headend.approvals.steering import ChangedSince, MayNot, Steer, Steering
from headend.moment import following
from headend.moment.campaign_feed import CampaignFeeds, CampaignProgress, look
from headend.programs.proposal import EmptySelection, PlanError
from headend.programs.report import report
from headend.store import approvals, campaign_meters, campaign_views, campaigns, programs
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from schemas.campaign import CampaignState, MeterProgress
from schemas.people import OF_PROGRAM, Permission, Principal
from schemas.program import Program, ProgramKind

router = APIRouter(tags=["campaigns"], route_class=StrictRoute)

_READ: Final = responses(400, 401, 403, 404, 422, 503)
_CHANGE: Final = responses(400, 401, 403, 404, 409, 412, 413, 422, 503)
#: Milliseconds after which a client that lost its stream comes again: drawn, so that not all come at once.
_COME_AGAIN_MS: Final = (1_000, 5_000)
#: Mistakes of a plan that a refusal tells.
_MOST_PLACES: Final = 100

#: Whoever may ask for programs of some kind; of which, is checked with the program.
Asks = Annotated[Principal, Depends(allowed(*OF_PROGRAM.values(), limited=True))]
#: The same of what he may steer: where, is checked with the campaign.
Steers = Annotated[Principal, Depends(allowed(*OF_PROGRAM.values(), Permission.STOP, limited=True))]
Number = Annotated[int, Path(ge=1, le=2**63 - 1, description="the campaign's number", examples=[12])]
After = Annotated[str | None, Query(max_length=512, description="cursor of the last page")]
IfMatch = Annotated[
    str | None,
    Header(
        max_length=128, description="the ETag of the campaign that was looked at: 412 if it changed since"
    ),
]


@router.post(
    "/campaigns",
    summary="Put a program forward for meters",
    status_code=201,
    responses=responses(400, 401, 403, 404, 409, 413, 422, 503),
)
async def create_campaign(
    caller: Asks,
    house: Annotated[Services, Depends(services)],
    response: Response,
    body: CampaignBody,
    key: IdempotencyKey = None,
    correlation_id: CorrelationId = None,
) -> CampaignDetail:
    """``proposed`` where another person has to approve first: ``approval`` says what exactly, and who may.
    Else ``approved`` or ``running``, as its plan says. Meters that are not fit for it are told at once,
    and are not touched. Nothing is made where no meter is meant or fit."""
    known_as = correlation(correlation_id)
    identity = body.model_dump(mode="json")
    asked = None if key is None else Key(visible("Idempotency-Key", key), _sha256(identity))
    async with house.pool.connection() as connection:
        if body.program_id is not None:
            stored = await programs.find(connection, body.program_id)
            program, name = stored.content, stored.name
        else:
            assert body.program is not None  # the body has one of the two  # noqa: S101
            program, name = body.program, body.title
    made = await _proposed(house, caller, program, name, body, known_as, asked)
    number = made.campaign.campaign_id
    response.headers["Location"] = f"/api/v1/campaigns/{number}"
    response.headers["X-Correlation-Id"] = made.campaign.correlation_id
    return await _told(house, response, number)


async def _proposed(
    house: Services,
    caller: Principal,
    program: Program,
    name: str,
    body: CampaignBody,
    known_as: str,
    key: Key | None,
) -> Proposed:
    try:
        async with refusals_audited(house.pool.connection, caller, program) as connection:
            return await put_forward(
                connection,
                program,
                body.plan,
                name=name,
                title=body.title,
                procedures=house.procedures,
                principal=caller,
                policy=house.policy,
                correlation_id=known_as,
                now=house.clock(),
                key=key,
            )
    except NotPermitted as error:
        raise Forbidden(str(error)) from error
    except KeyReused as error:
        raise BadValue.parameter("Idempotency-Key", str(error)) from error
    except PlanError as error:
        places = [Place(pointer=f"/plan{one.pointer}", detail=one.reason) for one in error.wrong]
        raise BadValue(
            "; ".join(f"/plan{one}" for one in error.wrong[:3]), places=places[:_MOST_PLACES]
        ) from error
    except EmptySelection as error:
        raise BadValue.field("/plan/selection", str(error)) from error


@router.get(
    "/campaigns", summary="Campaigns, paged and filtered", responses=responses(400, 401, 403, 422, 503)
)
async def list_campaigns(
    caller: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    state: Annotated[list[CampaignState] | None, Query(description="only campaigns in these states")] = None,
    kind: Annotated[ProgramKind | None, Query(description="only of programs of this kind")] = None,
    limit: Limit = 100,
    after: After = None,
) -> CampaignPage:
    """Newest first. ``next`` in the answer and the Link header lead to the next page. Whoever is limited to
    areas sees those that are for meters of these alone."""
    before = None if after is None else paging.number(after)
    async with house.pool.connection() as connection:
        within = await meters_within(connection, caller)
        found = await campaigns.page(
            connection, limit=limit + 1, before=before, states=state, kind=kind, within=within
        )
        page = found[:limit]
        counts = await campaigns.counts(connection, [one.campaign_id for one in page])
    cursor = paging.encode([page[-1].campaign_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    told = [CampaignModel.of(CampaignProgress(one, counts[one.campaign_id])) for one in page]
    return CampaignPage(campaigns=told, next=cursor)


@router.get("/campaigns/{campaign_id}", summary="One campaign and how far it is", responses=_READ)
async def get_campaign(
    caller: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    response: Response,
    campaign_id: Number,
) -> CampaignDetail:
    """Its meters by wave and state, and its approval. Its ETag is for If-Match of what is done to it."""
    async with house.pool.connection() as connection:
        await _known(connection, campaign_id, caller)
    return await _told(house, response, campaign_id)


@router.get("/campaigns/{campaign_id}/meters", summary="What came of each meter", responses=_READ)
async def list_campaign_meters(
    caller: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    campaign_id: Number,
    state: Annotated[list[MeterProgress] | None, Query(description="only meters in these states")] = None,
    wave: Annotated[int | None, Query(ge=0, le=100, description="only of this wave; 0 the canaries")] = None,
    limit: Limit = 100,
    after: After = None,
) -> CampaignMeterPage:
    """In order of asset ids, each with its proof. ``next`` and the Link header lead to the next page."""
    last = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        await _known(connection, campaign_id, caller)
        found = await campaign_views.named(
            connection, campaign_id, limit=limit + 1, after=last, wave=wave, states=state
        )
    page = found[:limit]
    cursor = paging.encode([page[-1].name]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return CampaignMeterPage(meters=[CampaignMeterModel.of(one) for one in page], next=cursor)


@router.get(
    "/campaigns/{campaign_id}/meters/{asset_id}",
    summary="One meter in a campaign, step by step",
    responses=_READ,
)
async def get_campaign_meter(
    caller: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    campaign_id: Number,
    asset_id: AssetId,
) -> CampaignMeterDetail:
    """Its state, its proof, and each step that was taken there."""
    async with house.pool.connection() as connection:
        await _known(connection, campaign_id, caller)
        number = await campaign_views.number(connection, asset_id)
        meter = None if number is None else await campaign_meters.of_meter(connection, campaign_id, number)
        if meter is None:
            raise NotFound(f"meter {asset_id!r} has no part in campaign {campaign_id}")
        steps = await campaign_meters.steps(connection, campaign_id, meter.meter_id)
    told = CampaignMeterModel.fields(campaign_views.Named(asset_id, meter))
    return CampaignMeterDetail.model_validate(told | {"steps": [StepModel.of(one) for one in steps]})


@router.post("/campaigns/{campaign_id}/pause", summary="Pause a campaign", responses=_CHANGE)
async def pause_campaign(
    caller: Steers,
    house: Annotated[Services, Depends(services)],
    response: Response,
    campaign_id: Number,
    body: ReasonBody,
    if_match: IfMatch = None,
) -> CampaignDetail:
    """Nothing further begins at its meters until it is resumed; what is in the middle of a step ends that."""
    return await _steer(house, response, campaign_id, Steering.PAUSE, caller, body.reason, if_match)


@router.post("/campaigns/{campaign_id}/resume", summary="Let a campaign go on", responses=_CHANGE)
async def resume_campaign(
    caller: Steers,
    house: Annotated[Services, Depends(services)],
    response: Response,
    campaign_id: Number,
    body: ReasonBody,
    if_match: IfMatch = None,
) -> CampaignDetail:
    """Where it stood, whether a person paused it or it stopped by itself. Takes the permission of its
    kind."""
    return await _steer(house, response, campaign_id, Steering.RESUME, caller, body.reason, if_match)


@router.post("/campaigns/{campaign_id}/abort", summary="End a campaign", responses=_CHANGE)
async def abort_campaign(
    caller: Steers,
    house: Annotated[Services, Depends(services)],
    response: Response,
    campaign_id: Number,
    body: ReasonBody,
    if_match: IfMatch = None,
) -> CampaignDetail:
    """What has not begun never does, and its approval is void. Whoever asked takes a proposal back by
    this."""
    return await _steer(house, response, campaign_id, Steering.ABORT, caller, body.reason, if_match)


async def _followed(
    caller: ReaderWithin, house: Annotated[Services, Depends(services)], campaign_id: Number
) -> CampaignFeeds:
    """The feeds, where there is such a campaign and room: a stream that has begun can refuse nothing."""
    async with house.pool.connection() as connection:
        await _known(connection, campaign_id, caller)
    try:
        house.moment.campaigns.check_room()
    except following.TooMany as error:
        raise Unavailable(str(error), headers={"Retry-After": "5"}) from error
    return house.moment.campaigns


@router.get(
    "/campaigns/{campaign_id}/events",
    summary="A campaign as it goes on, as server-sent events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events: meter, progress, end",
            "content": {"text/event-stream": {"example": STREAM}},
        },
        **_READ,
    },
)
async def campaign_events(
    _caller: ReaderWithin, campaign_id: Number, feeds: Annotated[CampaignFeeds, Depends(_followed)]
) -> AsyncIterator[ServerSentEvent]:
    """Begins with everything as it is; then each change, until the campaign ends or the service stops.

    ``meter`` is a meter that has ended (as in ``/meters``; told of campaigns with at most 500 meters),
    ``progress`` the campaign, ``end`` the same once more, as the last event. A stream that was lost is
    taken up by asking again: it begins with everything. A comment comes every 15 seconds.
    """
    last: CampaignProgress | None = None
    retry: int | None = random.randint(*_COME_AGAIN_MS)  # noqa: S311 - jitter, not a secret
    async with contextlib.aclosing(feeds.follow(campaign_id)) as news:
        async for one in news:
            if isinstance(one, CampaignProgress):
                last = one
                yield ServerSentEvent(data=CampaignModel.of(one), event="progress", retry=retry)
            else:
                yield ServerSentEvent(data=CampaignMeterModel.of(one), event="meter", retry=retry)
            retry = None
    if last is not None and last.is_over:
        yield ServerSentEvent(data=CampaignModel.of(last), event="end")


@router.get(
    "/campaigns/{campaign_id}/report.csv",
    summary="What came of each meter, as CSV",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One line for each meter, in order of asset ids",
            "content": {
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "asset_id,wave,state,stage,reason,began_at,ended_at,proof\r\n"
                    'SIM00000001,1,done,,,2026-03-01T09:00:00Z,2026-03-01T09:00:02Z,"{""state"":0}"\r\n',
                }
            },
        },
        **_READ,
    },
)
async def campaign_report(
    caller: ReaderWithin, house: Annotated[Services, Depends(services)], campaign_id: Number
) -> StreamingResponse:
    """With the proof of each meter as JSON. A cell that a spreadsheet would take for a formula begins with an
    apostrophe."""
    async with house.pool.connection() as connection:
        await _known(connection, campaign_id, caller)
    return StreamingResponse(
        report(house.pool.connection, campaign_id),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": f'attachment; filename="campaign-{campaign_id}.csv"'},
    )


async def _steer(
    house: Services,
    response: Response,
    number: int,
    what: Steering,
    caller: Principal,
    reason: str,
    if_match: str | None,
) -> CampaignDetail:
    asked = Steer(number, what, reason, _version(if_match))
    try:
        await steering.steer(house.pool.connection, asked, caller)
    except MayNot as error:
        raise Forbidden(str(error)) from error
    except ChangedSince as error:
        raise Stale(str(error)) from error
    return await _told(house, response, number)


async def _known(connection: Connection, campaign_id: int, asking: Principal) -> None:
    """404 where there is none, and, told alike, where not all of its meters are in the areas of who asks."""
    within = await meters_within(connection, asking)
    if within is not None and not await campaigns.is_within(connection, campaign_id, within):
        raise UnknownError(f"no campaign has the number {campaign_id}")
    await campaigns.find(connection, campaign_id)


async def _told(house: Services, response: Response, number: int) -> CampaignDetail:
    async with house.pool.connection() as connection:
        found, approval = await _standing(connection, number)
    response.headers["ETag"] = _tag(found.campaign.version)
    return CampaignDetail.with_approval(found, approval)


async def _standing(
    connection: Connection, number: int
) -> tuple[CampaignProgress, approvals.Approval | None]:
    return await look(connection, number), await approvals.newest(connection, subject_of(number))


def _tag(version: int) -> str:
    return f'"{version}"'


def _version(if_match: str | None) -> int | None:
    """The version that If-Match names; None where any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    told = if_match.strip().removeprefix('"').removesuffix('"')
    if told.isascii() and told.isdigit() and _tag(int(told[:18])) == if_match.strip():
        return int(told)
    raise Stale(f"If-Match {if_match[:32]!r} is no ETag of a campaign; GET it first")


def _sha256(identity: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()
