"""How a campaign goes: what came of each meter, in pages, as a stream and as a report."""

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import paging
from api.auth import ReaderWithin
from api.campaigns.lookup import READ, After, Number, known
from api.campaigns.models import (
    STREAM,
    CampaignMeterDetail,
    CampaignMeterModel,
    CampaignMeterPage,
    CampaignModel,
    StepModel,
)
from api.errors import NotFound, Unavailable
from api.services import Services, services
from api.shapes import AssetId, Limit
from api.strict_json import StrictRoute
from headend.moment import following
from headend.moment.campaign_feed import CampaignFeeds, CampaignProgress
from headend.programs.report import report
from headend.store import campaign_meters, campaign_views
from schemas.campaign import MeterProgress

router = APIRouter(tags=["campaigns"], route_class=StrictRoute)

#: Milliseconds after which a client that lost its stream comes again: drawn, so that not all come at once.
_COME_AGAIN_MS: Final = (1_000, 5_000)


@router.get("/campaigns/{campaign_id}/meters", summary="What came of each meter", responses=READ)
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
        await known(connection, campaign_id, caller)
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
    responses=READ,
)
async def get_campaign_meter(
    caller: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    campaign_id: Number,
    asset_id: AssetId,
) -> CampaignMeterDetail:
    """Its state, its proof, and each step that was taken there."""
    async with house.pool.connection() as connection:
        await known(connection, campaign_id, caller)
        number = await campaign_views.number(connection, asset_id)
        meter = None if number is None else await campaign_meters.of_meter(connection, campaign_id, number)
        if meter is None:
            raise NotFound(f"meter {asset_id!r} has no part in campaign {campaign_id}")
        steps = await campaign_meters.steps(connection, campaign_id, meter.meter_id)
    told = CampaignMeterModel.fields(campaign_views.Named(asset_id, meter))
    return CampaignMeterDetail.model_validate(told | {"steps": [StepModel.of(one) for one in steps]})


async def _followed(
    caller: ReaderWithin, house: Annotated[Services, Depends(services)], campaign_id: Number
) -> CampaignFeeds:
    """The feeds, where there is such a campaign and room: a stream that has begun can refuse nothing."""
    async with house.pool.connection() as connection:
        await known(connection, campaign_id, caller)
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
        **READ,
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
        **READ,
    },
)
async def campaign_report(
    caller: ReaderWithin, house: Annotated[Services, Depends(services)], campaign_id: Number
) -> StreamingResponse:
    """With the proof of each meter as JSON. A cell that a spreadsheet would take for a formula begins with an
    apostrophe."""
    async with house.pool.connection() as connection:
        await known(connection, campaign_id, caller)
    return StreamingResponse(
        report(house.pool.connection, campaign_id),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": f'attachment; filename="campaign-{campaign_id}.csv"'},
    )
