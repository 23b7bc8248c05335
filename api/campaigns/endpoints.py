"""Campaigns: put forward, listed, shown. They are steered in `steering`, and go on in `course`."""

import hashlib
import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from api import paging
from api.auth import ReaderWithin, allowed
from api.campaigns.lookup import READ, After, Number, known, told
from api.campaigns.models import (
    CampaignBody,
    CampaignDetail,
    CampaignModel,
    CampaignPage,
)
from api.errors import BadValue, Forbidden, Place, responses
from api.headers import CorrelationId, IdempotencyKey, correlation, visible
from api.meters.lookup import meters_within
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from headend.approvals.proposing import (
    Key,
    KeyReused,
    NotPermitted,
    Proposed,
    put_forward,
    refusals_audited,
)
from headend.moment.campaign_feed import CampaignProgress
from headend.programs.proposal import EmptySelection, PlanError
from headend.store import campaigns, programs
from schemas.campaign import CampaignState
from schemas.people import OF_PROGRAM, Principal
from schemas.program import Program, ProgramKind

router = APIRouter(tags=["campaigns"], route_class=StrictRoute)

#: Mistakes of a plan that a refusal tells.
_MOST_PLACES: Final = 100

#: Whoever may ask for programs of some kind; of which, is checked with the program.
Asks = Annotated[Principal, Depends(allowed(*OF_PROGRAM.values(), limited=True))]


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
    return await told(house, response, number)


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
    shown = [CampaignModel.of(CampaignProgress(one, counts[one.campaign_id])) for one in page]
    return CampaignPage(campaigns=shown, next=cursor)


@router.get("/campaigns/{campaign_id}", summary="One campaign and how far it is", responses=READ)
async def get_campaign(
    caller: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    response: Response,
    campaign_id: Number,
) -> CampaignDetail:
    """Its meters by wave and state, and its approval. Its ETag is for If-Match of what is done to it."""
    async with house.pool.connection() as connection:
        await known(connection, campaign_id, caller)
    return await told(house, response, campaign_id)


def _sha256(identity: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()
