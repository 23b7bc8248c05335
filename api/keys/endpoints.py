"""Status of meters' keys, in figures: no key is ever told."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from api.auth import allowed
from api.errors import responses
from api.services import Services, services
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.store import key_status
from schemas.people import Permission, Principal

router = APIRouter(tags=["keys"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "meters": 154000,
    "oldest": "2021-04-01T08:00:00Z",
    "due_by_age": 1200,
    "due_by_counter": 3,
    "highest_counter": 2100000345,
    "without_master": 17,
    "in_doubt": 1,
    "unsent": 0,
    "with_former": 9988,
}


class KeyStatus(BaseModel):
    """Meters that have keys, and how their keys stand. What is due is decided by the settings."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    meters: int = Field(description="meters with an encryption key")
    oldest: str | None = Field(description="when the oldest of their encryption keys was stored")
    due_by_age: int = Field(description="older than `keys_rotate_after_days`; 0 where age is no reason")
    due_by_counter: int = Field(description="with an invocation counter from `keys_rotate_at_counter` on")
    highest_counter: int | None = Field(description="of the 4294967296 of a key; null: none was ever used")
    without_master: int = Field(description="cannot be given new keys: their master key is not stored")
    in_doubt: int = Field(description="were sent new keys and have used none of them yet: both are tried")
    unsent: int = Field(description="new keys were made for them and not sent")
    with_former: int = Field(description="keep their former keys for a while")


@router.get("/keys", summary="How meters' keys stand", responses=responses(400, 401, 403, 422, 503))
async def key_figures(
    _principal: Annotated[Principal, Depends(allowed(Permission.KEYS))],
    house: Annotated[Services, Depends(services)],
) -> KeyStatus:
    """Figures alone. Keys are changed by a campaign with a program of kind `keys`; no operation tells one."""
    async with house.pool.connection() as connection:
        told = await key_status.totals(connection, house.keys, house.clock())
    return KeyStatus(
        meters=told.meters,
        oldest=None if told.oldest is None else rfc3339(told.oldest),
        due_by_age=told.due_by_age,
        due_by_counter=told.due_by_counter,
        highest_counter=told.counter,
        without_master=told.without_master,
        in_doubt=told.in_doubt,
        unsent=told.unsent,
        with_former=told.with_former,
    )
