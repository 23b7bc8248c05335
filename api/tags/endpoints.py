"""Tags of meters: ``key`` or ``key=value``. Set for one meter or in bulk, all or nothing, and audited."""

from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api.auth import Operator, OperatorWithin, Reader, ReaderWithin, actor
from api.errors import responses
from api.meters.lookup import known_meters, meter_by_asset
from api.services import Services, services
from api.shapes import AssetId, Name
from api.strict_json import StrictRoute
from headend.store import tags

router = APIRouter(tags=["tags"], route_class=StrictRoute)

_CHANGE: Final = responses(400, 401, 403, 404, 413, 422, 503)


def _tag(text: str) -> str:
    key, _, value = text.partition("=")
    if not key or key != key.strip() or value != value.strip():
        raise ValueError(f"{text!r} is no tag: write key or key=value")
    return tags.join(key, value)


def _keys_once(told: list[str]) -> list[str]:
    keys = [tags.split(tag)[0] for tag in told]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise ValueError(f"a key has one value on a meter: {', '.join(sorted(twice))}")
    return told


Tag = Annotated[Name, AfterValidator(_tag)]
Tags = Annotated[list[Tag], Field(max_length=64), AfterValidator(_keys_once)]


def _body(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class TagsModel(BaseModel):
    """All tags of a meter."""

    model_config = _body({"tags": ["rate=2", "vip"]})

    tags: Tags


class BulkBody(BaseModel):
    """Tags on meters and keys off them; asset ids."""

    model_config = _body({"meters": ["SIM00000001", "SIM00000002"], "set": ["rate=2"], "unset": ["vip"]})

    meters: list[Name] = Field(min_length=1)
    set: Tags = Field(default_factory=list)
    unset: list[Name] = Field(default_factory=list, max_length=64)

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if not self.set and not self.unset:
            raise ValueError("give tags to set or keys to unset")
        return self


class BulkAnswer(BaseModel):
    """How many tags of meters changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"changed": 3}]})

    changed: int


class TagCount(BaseModel):
    """A tag, and how many meters have it."""

    tag: str
    meters: int


class TagList(BaseModel):
    """Tags that some meter has, in order, at most 10,000."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tags": [{"tag": "rate=2", "meters": 9040}]}]})

    tags: list[TagCount]


@router.get("/tags", summary="Tags that are in use", responses=responses(400, 401, 403, 422, 503))
async def list_tags(
    _token: Reader,
    house: Annotated[Services, Depends(services)],
    limit: Annotated[int, Query(ge=1, le=10_000, description="at most so many")] = 1000,
) -> TagList:
    """With how many meters have each."""
    async with house.pool.connection() as connection:
        found = await tags.all_used(connection, limit=limit)
    return TagList(tags=[TagCount(tag=tag, meters=count) for tag, count in found])


@router.post("/tags", summary="Set and unset tags of many meters", responses=_CHANGE)
async def change_tags(
    token: Operator, house: Annotated[Services, Depends(services)], body: BulkBody
) -> BulkAnswer:
    """All or nothing: 422 tells the place of every meter that is none. A key has one value on a meter:
    another one takes its place. Again, it has no effect."""
    async with known_meters("/meters"), house.pool.connection() as connection:
        changed = await tags.change(
            connection, body.meters, add=body.set, remove=body.unset, actor=actor(token)
        )
    return BulkAnswer(changed=changed)


@router.get(
    "/meters/{asset_id}/tags", summary="Tags of a meter", responses=responses(400, 401, 403, 404, 422, 503)
)
async def get_tags(
    asking: ReaderWithin, house: Annotated[Services, Depends(services)], asset_id: AssetId
) -> TagsModel:
    """In order."""
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id, asking)
        return TagsModel(tags=await tags.of_meter(connection, meter.meter_id))


@router.put("/meters/{asset_id}/tags", summary="Say all tags of a meter", responses=_CHANGE)
async def replace_tags(
    token: OperatorWithin, house: Annotated[Services, Depends(services)], asset_id: AssetId, body: TagsModel
) -> TagsModel:
    """These and no others."""
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id, token)
        await tags.replace(connection, meter.meter_id, asset_id, body.tags, actor=actor(token))
        return TagsModel(tags=await tags.of_meter(connection, meter.meter_id))
