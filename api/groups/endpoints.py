"""Groups: named sets of meters, changed in bulk, all or nothing. A change is audited with its actor."""

from typing import Annotated, Any, Final, Self
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api import paging
from api.auth import Operator, ReaderWithin, actor
from api.errors import NotFound, responses
from api.meters.lookup import known_meters, within
from api.services import Services, services
from api.shapes import Limit, Name
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.store import groups
from headend.store.areas import Within
from headend.store.errors import UnknownError
from headend.store.groups import Group
from headend.store.sql import Connection
from schemas.text import PathName

router = APIRouter(tags=["groups"], route_class=StrictRoute)

_READ: Final = responses(400, 401, 403, 404, 422, 503)
_CHANGE: Final = responses(400, 401, 403, 404, 409, 413, 422, 503)
_EXAMPLE: Final[dict[str, Any]] = {
    "name": "residential",
    "title": "Households of the eastern district",
    "meters": 12034,
    "created_at": "2026-03-01T08:00:00Z",
    "updated_at": "2026-03-01T08:00:00Z",
}
GroupName = Annotated[
    str, Path(description="the group's name", min_length=1, max_length=128, examples=["residential"])
]


def _body(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class GroupModel(BaseModel):
    """A group and how many meters are in it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: str
    title: str | None
    meters: int
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, group: Group) -> Self:
        """As stored."""
        return cls(
            name=group.name,
            title=group.title,
            meters=group.meters,
            created_at=rfc3339(group.created_at),
            updated_at=rfc3339(group.updated_at),
        )


class GroupPage(BaseModel):
    """Groups in order of names; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"groups": [_EXAMPLE], "next": None}]})

    groups: list[GroupModel]
    next: str | None


class GroupBody(BaseModel):
    """A new group; ``meters`` are asset ids."""

    model_config = _body({"name": "residential", "title": "Households", "meters": ["SIM00000001"]})

    name: PathName
    title: Name | None = None
    meters: list[Name] = Field(default_factory=list)


class TitleBody(BaseModel):
    """What a group is for, in words."""

    model_config = _body({"title": "Households of the eastern district"})

    title: Name | None


class MembersBody(BaseModel):
    """Meters into a group and out of it, or exactly those of ``set`` in it; asset ids."""

    model_config = _body({"add": ["SIM00000001", "SIM00000002"], "remove": ["SIM00000003"]})

    add: list[Name] = Field(default_factory=list)
    remove: list[Name] = Field(default_factory=list)
    set: list[Name] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.set is not None and (self.add or self.remove):
            raise ValueError("set says all members: give it without add and remove")
        return self


class MembersChanged(GroupModel):
    """The group after a change, and how many meters came and went."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "came": 2, "went": 1}]})

    came: int
    went: int


class MemberPage(BaseModel):
    """Asset ids in order; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"meters": ["SIM00000001"], "next": None}]})

    meters: list[str]
    next: str | None


@router.get("/groups", summary="Groups, paged and filtered", responses=responses(400, 401, 403, 422, 503))
async def list_groups(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    q: Annotated[str | None, Query(max_length=128, description="part of the name, in any case")] = None,
    meter: Annotated[
        str | None, Query(max_length=128, description="only those that this meter is in")
    ] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> GroupPage:
    """In order of names. ``next`` in the answer and the Link header lead to the next page. Whoever is limited
    to areas sees the groups that these are or that have meters of his, and of their meters his own: in
    ``meters`` too."""
    last = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        own = await within(connection, asking)
        found = await groups.page(connection, limit=limit + 1, after=last, q=q, meter=meter, within=own)
    page = found[:limit]
    cursor = paging.encode([page[-1].name]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return GroupPage(groups=[GroupModel.of(one) for one in page], next=cursor)


@router.post("/groups", summary="Make a group", status_code=201, responses=_CHANGE)
async def create_group(
    token: Operator, house: Annotated[Services, Depends(services)], response: Response, body: GroupBody
) -> GroupModel:
    """409 where the name is in use; 422 tells the place of every meter that is none, and nothing is made."""
    async with known_meters("/meters"), house.pool.connection() as connection:
        made = await groups.add(
            connection, body.name, title=body.title, meters=body.meters, actor=actor(token)
        )
    response.headers["Location"] = f"/api/v1/groups/{quote(made.name, safe='')}"
    return GroupModel.of(made)


@router.get("/groups/{name}", summary="One group", responses=_READ)
async def get_group(
    asking: ReaderWithin, house: Annotated[Services, Depends(services)], name: GroupName
) -> GroupModel:
    """With how many meters are in it; its meters are a list of their own. Within areas as in the list."""
    async with house.pool.connection() as connection:
        return GroupModel.of(await _group(connection, name, await within(connection, asking)))


@router.patch("/groups/{name}", summary="Say what a group is for", responses=_CHANGE)
async def retitle_group(
    token: Operator, house: Annotated[Services, Depends(services)], name: GroupName, body: TitleBody
) -> GroupModel:
    """In words, for people; null: nothing."""
    async with house.pool.connection() as connection:
        await _group(connection, name)
        return GroupModel.of(await groups.retitle(connection, name, body.title, actor=actor(token)))


@router.delete("/groups/{name}", summary="Remove a group", status_code=204, responses=_CHANGE)
async def remove_group(
    token: Operator, house: Annotated[Services, Depends(services)], name: GroupName
) -> None:
    """Its meters stay. 409 where a schedule selects by it."""
    async with house.pool.connection() as connection:
        await _group(connection, name)
        await groups.remove(connection, name, actor=actor(token))


@router.get("/groups/{name}/meters", summary="The meters of a group, paged", responses=_READ)
async def list_members(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    name: GroupName,
    limit: Annotated[int, Query(ge=1, le=10_000, description="at most so many items in one answer")] = 1000,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> MemberPage:
    """Asset ids, in order. ``next`` in the answer and the Link header lead to the next page. Whoever is
    limited to areas sees the meters of these."""
    last = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        own = await within(connection, asking)
        group = await _group(connection, name, own)
        found = await groups.members(connection, group.group_id, limit=limit + 1, after=last, within=own)
    page = found[:limit]
    cursor = paging.encode([page[-1]]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return MemberPage(meters=page, next=cursor)


@router.patch("/groups/{name}/meters", summary="Put meters into a group and out of it", responses=_CHANGE)
async def change_members(
    token: Operator, house: Annotated[Services, Depends(services)], name: GroupName, body: MembersBody
) -> MembersChanged:
    """All or nothing: 422 tells the place of every meter that is none. Again, it has no effect."""
    async with house.pool.connection() as connection:
        await _group(connection, name)
        if body.set is not None:
            async with known_meters("/set"):
                came, went = await groups.set_members(connection, name, body.set, actor=actor(token))
        else:
            async with known_meters("/add"):
                await groups.check_meters(connection, body.add)
            async with known_meters("/remove"):
                came, went = await groups.change_members(
                    connection, name, add=body.add, remove=body.remove, actor=actor(token)
                )
        group = GroupModel.of(await groups.get(connection, name))
    return MembersChanged(**dict(group), came=came, went=went)


async def _group(connection: Connection, name: str, own: Within | None = None) -> Group:
    try:
        return await groups.get(connection, name, within=own)
    except UnknownError as exc:
        raise NotFound(f"{exc}; GET /api/v1/groups lists them") from exc
