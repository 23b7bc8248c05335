"""The network: nodes paged and filtered, trees, moves, import from CSV. A change is audited with it."""

from collections.abc import Collection
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import paging
from api.auth import Admin, Operator, ReaderWithin, actor
from api.errors import BadValue, NotFound, Place, responses
from api.meters.lookup import within
from api.network.models import (
    BranchModel,
    ImportAnswer,
    LinkModel,
    MoveBody,
    NodeDetail,
    NodeModel,
    NodePage,
    TreeModel,
)
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from api.times import instant, rfc3339
from headend.ingest.network_import import import_network
from headend.store import areas, audit, network
from headend.store.errors import UnknownError
from headend.store.network import Standing
from headend.store.network_tree import TooLargeError, tree
from headend.store.pool import apart
from headend.store.sql import Connection
from schemas.network import Link, NodeKind
from schemas.people import Principal

router = APIRouter(tags=["network"], route_class=StrictRoute)

#: Nodes of one answer, and errors of an import that are told one by one.
_MOST_NODES: Final = 5_000
_MOST_ERRORS: Final = 100

NodeCode = Annotated[
    str, Path(description="the node's code; of a meter its asset id", max_length=128, examples=["DC-0007"])
]
_FILE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string"},
                "example": "node,kind,parent,link,hops,quality,address,model,title\nF-07,feeder,,,,,,,\n",
            }
        },
    }
}


@router.get(
    "/network/nodes",
    summary="Nodes of the network, paged and filtered",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def list_nodes(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    kind: Annotated[NodeKind | None, Query(description="only nodes of this kind")] = None,
    parent: Annotated[
        str | None, Query(max_length=128, description="only nodes that hang on this node")
    ] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> NodePage:
    """In order of codes. ``next`` in the answer and the Link header lead to the next page. Whoever is limited
    to areas sees his meters, what stands at or below his stations, and what these hang on up to the top."""
    last = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        seen = await _seen(connection, asking)
        parent_id = None if parent is None else (await _node(connection, parent, seen)).node.node_id
        found = await network.page(
            connection, limit=limit + 1, after=last, kind=kind, parent_id=parent_id, seen=seen
        )
    page = found[:limit]
    cursor = paging.encode([page[-1].node.code]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return NodePage(nodes=[NodeModel.model_validate(NodeModel.fields(one)) for one in page], next=cursor)


@router.get("/network/nodes/{code}", summary="One node", responses=responses(400, 401, 403, 404, 422, 503))
async def get_node(
    asking: ReaderWithin, house: Annotated[Services, Depends(services)], code: NodeCode
) -> NodeDetail:
    """What it hangs on and hung on; how many are below it, whom the list of nodes with this parent names.
    Whoever is limited to areas is told of what he sees in that list, in numbers and of the past too."""
    async with house.pool.connection() as connection:
        seen = await _seen(connection, asking)
        return await _detail(connection, await _node(connection, code, seen), seen)


@router.patch(
    "/network/nodes/{code}",
    summary="Hang a node on another parent",
    responses=responses(400, 401, 403, 404, 409, 413, 422, 503),
)
async def move_node(
    token: Operator, house: Annotated[Services, Depends(services)], code: NodeCode, body: MoveBody
) -> NodeDetail:
    """With all that is below it. 409 for a parent that it cannot have, or a time before its last move."""
    now = house.clock()
    since = body.since or now
    if since > now:
        raise BadValue.field("/since", "lies in the future; a move is recorded when it is done")
    async with house.pool.connection() as connection:
        await _node(connection, code)
        try:
            before, after = await network.move(connection, code, body.parent, kind=body.link, at=since)
        except UnknownError as exc:
            raise BadValue.field("/parent", str(exc)) from exc
        await audit.record(
            connection,
            actor=actor(token),
            action="network.moved",
            object_=f"{after.node.kind}:{code}",
            detail={
                "from": None if before.link is None else before.link.parent,
                "to": body.parent,
                "link": body.link,
                "at": rfc3339(since),
            },
        )
        return await _detail(connection, after)


@router.get(
    "/network/tree", summary="The network as a tree", responses=responses(400, 401, 403, 404, 422, 503)
)
async def get_tree(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    root: Annotated[
        str | None, Query(max_length=128, description="begin at this node; left out: at all tops")
    ] = None,
    depth: Annotated[int, Query(ge=0, le=20, description="levels below the roots")] = 2,
) -> TreeModel:
    """Some levels of it; what is deeper is counted by kind. 422 where these are more than 5,000 nodes. Within
    areas it is the tree of the nodes that the list shows, and these are counted."""
    async with house.pool.connection() as connection:
        seen = await _seen(connection, asking)
        if root is not None:
            await _node(connection, root, seen)
        try:
            found = await tree(connection, root, depth=depth, most=_MOST_NODES, seen=seen)
        except TooLargeError as exc:
            raise BadValue.parameter("depth", str(exc)) from exc
    return TreeModel(roots=[BranchModel.model_validate(BranchModel.fields_of(one)) for one in found])


@router.post(
    "/network/imports",
    summary="Import nodes and links from CSV",
    responses=responses(400, 401, 403, 413, 422, 503),
    openapi_extra=_FILE,
)
async def import_nodes(
    token: Admin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    since: Annotated[
        str | None, Query(max_length=64, description="from when on (RFC 3339 with an offset); default now")
    ] = None,
    dry_run: Annotated[bool, Query(description="say what would be done and store nothing")] = False,
) -> ImportAnswer:
    """All of the file or nothing; 422 tells every error with its line and column. Again, it does nothing."""
    begins = house.clock() if since is None else instant(since, "since")
    data = await request.body()
    # a county takes seconds of computing, in which others are answered
    done = await apart(
        house.pool,
        partial(
            import_network,
            data=data,
            since=begins,
            actor=actor(token),
            profile_folders=house.profile_folders,
            dry_run=dry_run,
        ),
    )
    if done.errors:
        told = [Place(detail=str(one)) for one in done.errors[:_MOST_ERRORS]]
        raise BadValue(f"the file has {len(done.errors)} errors; nothing was imported", places=told)
    return ImportAnswer(
        added=done.added,
        moved=done.moved,
        changed=done.changed,
        unchanged=done.unchanged,
        dry_run=dry_run,
    )


async def _seen(connection: Connection, asking: Principal) -> frozenset[int] | None:
    return await areas.nodes_seen(connection, await within(connection, asking))


async def _node(connection: Connection, code: str, seen: Collection[int] | None = None) -> Standing:
    """404 where there is none, and, told alike, where it is not among those that are seen."""
    try:
        found = await network.get(connection, code)
        if seen is not None and found.node.node_id not in seen:
            raise UnknownError(f"the network has no node {code!r}")
    except UnknownError as exc:
        raise NotFound(f"{exc}; GET /api/v1/network/nodes lists them") from exc
    return found


async def _detail(
    connection: Connection, standing: Standing, seen: Collection[int] | None = None
) -> NodeDetail:
    (branch,) = await tree(connection, standing.node.code, depth=0, most=1, seen=seen)
    links = await network.history(connection, standing.node.node_id)
    past = [link for link in links if seen is None or link.parent_id in seen]
    return NodeDetail.model_validate(
        {
            **NodeModel.fields(standing),
            "below": dict(branch.below),
            "history": [_past(link) for link in past],
        }
    )


def _past(link: Link) -> dict[str, object]:
    return LinkModel.fields(link) | {"until": None if link.until is None else rfc3339(link.until)}
