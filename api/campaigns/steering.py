"""Campaigns that are there: paused, resumed, ended."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Response

from api.auth import allowed
from api.campaigns.lookup import Number, tag, told
from api.campaigns.models import CampaignDetail, ReasonBody
from api.errors import Forbidden, Stale, responses
from api.services import Services, services
from api.strict_json import StrictRoute
from headend.approvals import steering
from headend.approvals.steering import ChangedSince, MayNot, Steer, Steering
from schemas.people import OF_PROGRAM, Permission, Principal

router = APIRouter(tags=["campaigns"], route_class=StrictRoute)

_CHANGE: Final = responses(400, 401, 403, 404, 409, 412, 413, 422, 503)
#: Whoever may steer campaigns of some kind: which and where, is checked with the campaign.
Steers = Annotated[Principal, Depends(allowed(*OF_PROGRAM.values(), Permission.STOP, limited=True))]
IfMatch = Annotated[
    str | None,
    Header(
        max_length=128, description="the ETag of the campaign that was looked at: 412 if it changed since"
    ),
]


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
    return await told(house, response, number)


def _version(if_match: str | None) -> int | None:
    """The version that If-Match names; None where any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    told = if_match.strip().removeprefix('"').removesuffix('"')
    if told.isascii() and told.isdigit() and tag(int(told[:18])) == if_match.strip():
        return int(told)
    raise Stale(f"If-Match {if_match[:32]!r} is no ETag of a campaign; GET it first")
