"""Links that are not used because nothing answered there: see them, and have them tried again."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.auth import Operator, ReaderWithin, actor
from api.errors import responses
from api.meters.lookup import within
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.links.opened import Kind, State
from headend.store import audit, link_states
from headend.store.link_states import NamedState
from schemas.failure import Stage

router = APIRouter(tags=["links"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "kind": "meter",
    "name": "SIM00000001",
    "state": "open",
    "since": "2026-03-01T08:00:00Z",
    "until": "2026-03-01T08:04:11Z",
    "failures": 3,
    "probes": 0,
    "stage": "timeout",
    "reason": "tcp://10.1.2.3:4059: nothing came before the deadline",
}


class LinkModel(BaseModel):
    """A meter, station or line that has not answered: it is only probed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    kind: Kind
    name: str = Field(description="asset id of the meter, code of the station, or the line as it is written")
    state: State
    since: str = Field(description="no answer from then on")
    until: str = Field(description="no probe before, but for a read that a person asks for")
    failures: int = Field(description="in a row")
    probes: int = Field(description="of the failures, those since it opened")
    stage: Stage
    reason: str

    @classmethod
    def of(cls, one: NamedState) -> "LinkModel":
        state = one.state
        return cls(
            kind=Kind(state.kind),
            name=one.name,
            state=State.OPEN,
            since=rfc3339(state.since),
            until=rfc3339(state.until),
            failures=state.failures,
            probes=state.probes,
            stage=Stage(state.stage),
            reason=state.reason,
        )


class LinkPage(BaseModel):
    """One page, in order of kind and name; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"links": [_EXAMPLE], "next": None}]})

    links: list[LinkModel]
    next: str | None


@router.get(
    "/links",
    summary="List links that are not used",
    responses=responses(400, 401, 403, 422, 503),
)
async def list_links(
    request: Request,
    response: Response,
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    kind: Annotated[Kind | None, Query(description="only of this kind")] = None,
    state: Annotated[
        State, Query(description="only `open` is kept: a link that answers is not remembered")
    ] = State.OPEN,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=1024, description="cursor of the last page")] = None,
) -> LinkPage:
    """Open circuit breakers, some seconds old. ``next`` and the Link header lead to the next page. Whoever is
    limited to areas sees those of meters and stations there."""
    if state is not State.OPEN:
        return LinkPage(links=[], next=None)
    behind = None
    if after is not None:
        kind_, name = paging.decode(after, str, str)
        behind = (kind_, name)
    async with house.pool.connection() as connection:
        own = await within(connection, asking)
        found = await link_states.page(connection, kind=kind, limit=limit + 1, after=behind, within=own)
    page = found[:limit]
    cursor = paging.encode([page[-1].state.kind, page[-1].name]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return LinkPage(links=[LinkModel.of(one) for one in page], next=cursor)


@router.post(
    "/links/{kind}/{name:path}/reset",
    summary="Have a link tried again",
    status_code=202,
    responses=responses(400, 401, 403, 409, 422, 503),
)
async def reset_link(
    token: Operator,
    house: Annotated[Services, Depends(services)],
    kind: Annotated[Kind, Path(examples=["meter"])],
    name: Annotated[str, Path(max_length=512, description="as the list has it", examples=["SIM00000001"])],
) -> LinkModel:
    """Closes its circuit breaker within seconds. 409 where none is open. The answer is what it was."""
    async with house.pool.connection() as connection:
        found = await link_states.ask_reset(connection, kind, name)
        await audit.record(
            connection,
            actor=actor(token),
            action="link.reset",
            object_=f"{kind}:{name}",
            detail={"reason": found.state.reason},
        )
    return LinkModel.of(found)
