"""Four eyes: what waits for a second person, and his decision."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import paging
from api.approvals.models import ApprovalModel, ApprovalPage, ApproveBody, RefuseBody
from api.auth import allowed
from api.errors import FourEyes, responses
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from headend.approvals import four_eyes
from headend.approvals.four_eyes import NotYours
from headend.store import approvals
from headend.store.approvals import ApprovalState
from schemas.people import Permission, Principal

router = APIRouter(tags=["approvals"], route_class=StrictRoute)

_READ: Final = responses(400, 401, 403, 404, 422, 503)
_DECIDE: Final = responses(400, 401, 403, 404, 409, 413, 422, 503)
Reads = Annotated[Principal, Depends(allowed(Permission.READ))]
Approver = Annotated[Principal, Depends(allowed(Permission.APPROVE))]
Number = Annotated[int, Path(ge=1, le=2**63 - 1, description="the approval's number", examples=[9])]


@router.get(
    "/approvals", summary="What waits for a second person", responses=responses(400, 401, 403, 422, 503)
)
async def list_approvals(
    _caller: Reads,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    state: Annotated[ApprovalState | None, Query(description="only those in this state")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> ApprovalPage:
    """Newest first. ``next`` in the answer and the Link header lead to the next page."""
    before = None if after is None else paging.number(after)
    async with house.pool.connection() as connection:
        found = await approvals.page(connection, limit=limit + 1, before=before, state=state)
    page = found[:limit]
    cursor = paging.encode([page[-1].approval_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return ApprovalPage(approvals=[ApprovalModel.of(one) for one in page], next=cursor)


@router.get("/approvals/{approval_id}", summary="Exactly what would be done", responses=_READ)
async def get_approval(
    _caller: Reads, house: Annotated[Services, Depends(services)], approval_id: Number
) -> ApprovalModel:
    """Its program, its meters, its waves and its times, and the digest that a decision names."""
    async with house.pool.connection() as connection:
        return ApprovalModel.of(await approvals.find(connection, approval_id))


@router.post("/approvals/{approval_id}/approve", summary="Approve exactly this", responses=_DECIDE)
async def approve(
    caller: Approver, house: Annotated[Services, Depends(services)], approval_id: Number, body: ApproveBody
) -> ApprovalModel:
    """It goes on at once, or when its time comes. 403 for whoever asked for it, for callers without an
    account, and without the permission of the kind; 409 where it was changed since, which ends it."""
    return await _decide(house, approval_id, caller, body.digest, body.reason, approving=True)


@router.post("/approvals/{approval_id}/refuse", summary="Refuse it", responses=_DECIDE)
async def refuse(
    caller: Approver, house: Annotated[Services, Depends(services)], approval_id: Number, body: RefuseBody
) -> ApprovalModel:
    """It is never done. Takes the same as approving."""
    return await _decide(house, approval_id, caller, body.digest, body.reason, approving=False)


async def _decide(
    house: Services, number: int, caller: Principal, digest: str, reason: str | None, *, approving: bool
) -> ApprovalModel:
    try:
        done = await four_eyes.decide(
            house.pool.connection,
            number,
            caller,
            approve=approving,
            seen=bytes.fromhex(digest),
            reason=reason,
            now=house.clock(),
        )
    except NotYours as error:
        raise FourEyes(str(error)) from error
    return ApprovalModel.of(done)
