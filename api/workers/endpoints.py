"""The processes of the service, on all hosts: seen, not steered."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.auth import Reader
from api.errors import responses
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.store import workers
from headend.store.workers import Kind, Worker

router = APIRouter(tags=["workers"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "worker": "reader-1:4711:19ac52d61f0",
    "host": "reader-1",
    "kind": "worker",
    "version": "0.1.0",
    "concurrency": 256,
    "started_at": "2026-03-01T00:00:00Z",
    "seen_at": "2026-03-01T08:00:00Z",
    "silent": False,
    "lanes": 120,
    "connections": 0,
}


class WorkerModel(BaseModel):
    """A process that is there, or that nobody has heard of lately."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    worker: str = Field(description="host:pid:start; leases and attempts name it so")
    host: str
    kind: Kind
    version: str
    concurrency: int = Field(description="conversations with meters at once; 0: it has none")
    started_at: str
    seen_at: str = Field(description="when it last said that it is there")
    silent: bool = Field(description="nothing heard for 20 s: it is lost, stopped, or cut off")
    lanes: int = Field(description="lanes that it holds")
    connections: int = Field(description="meters that dialled in to it")

    @classmethod
    def of(cls, one: Worker) -> "WorkerModel":
        return cls(
            worker=one.worker,
            host=one.host,
            kind=one.kind,
            version=one.version,
            concurrency=one.concurrency,
            started_at=rfc3339(one.started_at),
            seen_at=rfc3339(one.seen_at),
            silent=one.is_silent,
            lanes=one.lanes,
            connections=one.connections,
        )


class WorkerPage(BaseModel):
    """One page, in order of names; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"workers": [_EXAMPLE], "next": None}]})

    workers: list[WorkerModel]
    next: str | None


@router.get("/workers", summary="List processes of the service", responses=responses(400, 401, 403, 422, 503))
async def list_workers(
    request: Request,
    response: Response,
    _token: Reader,
    house: Annotated[Services, Depends(services)],
    kind: Annotated[Kind | None, Query(description="only of this kind")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> WorkerPage:
    """One that was stopped is gone; one that was killed is silent for a day. Leases end by themselves."""
    behind = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        found = await workers.page(connection, limit=limit + 1, after=behind, kind=kind)
    page = found[:limit]
    cursor = paging.encode([page[-1].worker]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return WorkerPage(workers=[WorkerModel.of(one) for one in page], next=cursor)
