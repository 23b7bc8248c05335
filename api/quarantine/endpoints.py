"""MQTT payloads that could not be stored: why, their bytes, and how to try them again."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from api import paging
from api.auth import Operator, Reader, actor
from api.errors import Unavailable, responses
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.store import quarantine

router = APIRouter(tags=["quarantine"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "number": 17,
    "topic": "tele/plug-17/SENSOR",
    "reason": "not JSON: Expecting value at byte 12",
    "identity": None,
    "times": 3,
    "first_at": "2026-03-01T08:00:00Z",
    "last_at": "2026-03-01T08:10:00Z",
    "retained": False,
    "bytes": 14,
    "payload": "7b22454e45524759223a78",
    "state": "waiting",
}
Number = Annotated[int, Path(ge=1, le=2**63 - 1, description="the payload's number", examples=[17])]


class PayloadModel(BaseModel):
    """A payload as it came, in hexadecimal; ``bytes`` is its whole length, should it have been cut."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    number: int
    topic: str
    reason: str
    identity: str | None
    times: int
    first_at: str
    last_at: str
    retained: bool
    bytes: int
    payload: str
    state: str

    @classmethod
    def of(cls, kept: quarantine.Kept) -> "PayloadModel":
        return cls(
            number=kept.number,
            topic=kept.topic,
            reason=kept.reason,
            identity=kept.identity,
            times=kept.times,
            first_at=rfc3339(kept.first_at),
            last_at=rfc3339(kept.last_at),
            retained=kept.retained,
            bytes=kept.size,
            payload=kept.payload.hex(),
            state=kept.state.value,
        )


class PayloadList(BaseModel):
    """Payloads, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payloads": [_EXAMPLE]}]})

    payloads: list[PayloadModel]


class ReplayedModel(BaseModel):
    """``reason`` is null when all of the payload is stored now, else why it still waits."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"number": 17, "reason": None}]})

    number: int
    reason: str | None


@router.get(
    "/quarantine", summary="Payloads that could not be stored", responses=responses(400, 401, 403, 422, 503)
)
async def list_payloads(
    _token: Reader,
    request: Request,
    response: Response,
    house: Annotated[Services, Depends(services)],
    topic: Annotated[str | None, Query(max_length=512, description="of this topic alone")] = None,
    identity: Annotated[str | None, Query(max_length=256, description="of this device alone")] = None,
    settled: Annotated[bool, Query(description="replayed and dropped ones too")] = False,
    limit: Limit = 100,
    after: Annotated[
        str | None, Query(max_length=512, description="where the last page ended: from its Link header")
    ] = None,
) -> PayloadList:
    """Oldest first. Wrong ones, those that the store refused, and those of devices that nobody knows."""
    position = 0 if after is None else paging.decode(after, int)[0]
    async with house.pool.connection() as connection:
        found = await quarantine.page(
            connection,
            limit=limit,
            after=max(min(position, 2**63 - 1), 0),
            settled=settled,
            topic=topic,
            identity=identity,
        )
    more = len(found) == limit
    paging.link_next(request, response, paging.encode([found[-1].number]) if more else None)
    return PayloadList(payloads=[PayloadModel.of(one) for one in found])


@router.post(
    "/quarantine/{number}/replay",
    summary="Decode and store a payload again",
    responses=responses(400, 401, 403, 404, 409, 422, 503),
)
async def replay_payload(
    token: Operator, house: Annotated[Services, Depends(services)], number: Number
) -> ReplayedModel:
    """After a fix, or when its device is known now. What fails again keeps waiting, with the reason."""
    if house.replay is None:
        raise Unavailable("this service decodes no payloads")
    done = await house.replay(number, actor=actor(token))
    return ReplayedModel(number=done.number, reason=done.reason)
