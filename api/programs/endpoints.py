"""Programs: what can be applied to meters. Checked as a whole, stored once, never changed."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import paging
from api.auth import allowed
from api.errors import Forbidden, responses
from api.programs.models import ProgramBody, ProgramModel, ProgramPage
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from headend.approvals.proposing import audit_refusal
from headend.store import audit, programs
from schemas.people import OF_PROGRAM, Permission, Principal, lacking
from schemas.program import ProgramKind

router = APIRouter(tags=["programs"], route_class=StrictRoute)

_READ: Final = responses(400, 401, 403, 404, 422, 503)
_CHANGE: Final = responses(400, 401, 403, 413, 422, 503)
Reads = Annotated[Principal, Depends(allowed(Permission.READ))]
#: Whoever may ask for programs of some kind; of which, is checked with the program.
Asks = Annotated[Principal, Depends(allowed(*OF_PROGRAM.values()))]


@router.post("/programs", summary="Store a program", status_code=201, responses=_CHANGE)
async def create_program(
    caller: Asks, house: Annotated[Services, Depends(services)], response: Response, body: ProgramBody
) -> ProgramModel:
    """Nothing is sent: a campaign applies it. The same content again is the same program, under its first
    name. Takes the permission of its kind."""
    needed = OF_PROGRAM[ProgramKind(body.content.kind)]
    if not caller.may(needed):
        why = lacking(needed)
        async with house.pool.connection() as connection:
            await audit_refusal(connection, caller, body.content, why)
        raise Forbidden(why)
    async with house.pool.connection() as connection:
        number = await programs.add(connection, body.name, body.content, actor=caller.actor)
        await audit.record(
            connection,
            actor=caller.actor,
            action="program.add",
            object_=f"program:{number}",
            detail={"kind": body.content.kind, "name": body.name},
        )
        stored = await programs.find(connection, number)
    response.headers["Location"] = f"/api/v1/programs/{number}"
    return ProgramModel.of(stored)


@router.get("/programs", summary="Programs, paged", responses=responses(400, 401, 403, 422, 503))
async def list_programs(
    _caller: Reads,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    kind: Annotated[ProgramKind | None, Query(description="only programs of this kind")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> ProgramPage:
    """Newest first. ``next`` in the answer and the Link header lead to the next page."""
    before = None if after is None else paging.number(after)
    async with house.pool.connection() as connection:
        found = await programs.page(connection, limit=limit + 1, before=before, kind=kind)
    page = found[:limit]
    cursor = paging.encode([page[-1].program_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return ProgramPage(programs=[ProgramModel.of(one) for one in page], next=cursor)


@router.get("/programs/{program_id}", summary="One program", responses=_READ)
async def get_program(
    _caller: Reads,
    house: Annotated[Services, Depends(services)],
    program_id: Annotated[int, Path(ge=1, le=2**63 - 1, description="the program's number", examples=[7])],
) -> ProgramModel:
    """With its content, exactly as it is sent."""
    async with house.pool.connection() as connection:
        return ProgramModel.of(await programs.find(connection, program_id))
