"""The audit trail as it is told: entries, newest first, and the end of their chain, to be kept elsewhere.

Verifying it is for the host's command line (`headend audit verify`): who checks a service does not ask it.
"""

from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.auth import allowed
from api.errors import responses
from api.services import Services, services
from api.shapes import Limit, Name
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.store import audit
from headend.store.audit import AuditEntry
from schemas.people import Permission, Principal

router = APIRouter(tags=["audit"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "id": 4711,
    "at": "2026-03-01T08:00:00Z",
    "actor": "account:5 alice",
    "action": "campaign.propose",
    "object": "campaign:12",
    "detail": {"kind": "switch", "meters": 1},
}
Auditor = Annotated[Principal, Depends(allowed(Permission.AUDIT))]


class EntryModel(BaseModel):
    """Who did what to what, or was refused it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: int
    at: str
    actor: str
    action: str
    object: str
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """As it is stored."""
        return cls(
            id=entry.audit_id,
            at=rfc3339(entry.at),
            actor=entry.actor,
            action=entry.action,
            object=entry.object,
            detail=dict(entry.detail),
        )


class EntryPage(BaseModel):
    """One page, newest first; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"entries": [_EXAMPLE], "next": None}]})

    entries: list[EntryModel]
    next: str | None


class HeadModel(BaseModel):
    """The end of the chain: what `headend audit verify --anchor POSITION:HASH` takes later."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"position": 4711, "hash": "6f" * 32}]})

    position: int = Field(description="how many entries the chain has")
    hash: str = Field(description="of the last of them, in hexadecimal; it covers all before it")


@router.get("/audit", summary="The audit trail", responses=responses(400, 401, 403, 422, 503))
async def list_audit(
    request: Request,
    response: Response,
    _auditor: Auditor,
    house: Annotated[Services, Depends(services)],
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=200, description="cursor of the last page")] = None,
    object_: Annotated[
        Name | None, Query(alias="object", description="only what was done to this", examples=["campaign:12"])
    ] = None,
    actor: Annotated[Name | None, Query(description="only what this actor did", examples=["cli"])] = None,
) -> EntryPage:
    """Newest first; refused actions too."""
    before = None if after is None else paging.decode(after, int)[0]
    async with house.pool.connection() as connection:
        found = await audit.page(connection, limit=limit + 1, object_=object_, actor=actor, before=before)
    more = paging.encode([found[limit - 1].audit_id]) if len(found) > limit else None
    paging.link_next(request, response, more)
    return EntryPage(entries=[EntryModel.of(one) for one in found[:limit]], next=more)


@router.get("/audit/head", summary="The end of the audit trail", responses=responses(400, 401, 403, 503))
async def get_audit_head(_auditor: Auditor, house: Annotated[Services, Depends(services)]) -> HeadModel:
    """Keep it where nobody who has the database can change it."""
    async with house.pool.connection() as connection:
        end = await audit.head(connection)
    return HeadModel(position=end.position, hash=end.hash.hex())
