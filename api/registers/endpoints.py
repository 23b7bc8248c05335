"""GET of registers: every value exact, with the head-end's and the meter's time."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.auth import ReaderWithin
from api.errors import BadValue, responses
from api.meters.lookup import meter_by_asset
from api.services import Services, services
from api.shapes import AssetId, Limit, obis_parameter, plain_decimal
from api.times import half_open, rfc3339
from headend.store import registers
from headend.store.registers import StoredRegister

router = APIRouter(tags=["registers"])

_EXAMPLE: Final[dict[str, Any]] = {
    "obis": "1-0:1.8.0*255",
    "attribute": 2,
    "read_at": "2026-03-01T08:00:00Z",
    "meter_time": None,
    "value": "12048950",
    "text": None,
    "unit": "Wh",
    "quality": "measured",
    "from_float": False,
}


class RegisterModel(BaseModel):
    """One value: an exact decimal as a string, or a text."""

    obis: str
    attribute: int
    read_at: str = Field(description="the head-end's time of reading")
    meter_time: str | None = Field(description="the meter's own time, where it told one")
    value: str | None
    text: str | None
    unit: str | None
    quality: str
    from_float: bool = Field(
        default=False, description="the meter sent a binary float; value is its shortest exact decimal"
    )

    @classmethod
    def of(cls, stored: StoredRegister) -> "RegisterModel":
        return cls(
            obis=stored.obis,
            attribute=stored.attribute,
            read_at=rfc3339(stored.read_at),
            meter_time=None if stored.meter_time is None else rfc3339(stored.meter_time),
            value=plain_decimal(stored.value),
            text=stored.text,
            unit=stored.unit,
            quality=stored.quality.name.lower(),
            from_float=stored.from_float,
        )


class Registers(BaseModel):
    """Values of a meter's registers; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"meter": "SIM00000001", "registers": [_EXAMPLE], "next": None}]}
    )

    meter: str
    registers: list[RegisterModel]
    next: str | None = None


@router.get(
    "/meters/{asset_id}/registers",
    summary="Registers of a meter: the latest of each, or the history of one",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def meter_registers(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    asset_id: AssetId,
    obis: Annotated[
        str | None, Query(max_length=32, description="OBIS code in any written form", examples=["1.8.0"])
    ] = None,
    from_: Annotated[
        str | None,
        Query(alias="from", max_length=64, description="history from, inclusive; needs obis and to"),
    ] = None,
    to: Annotated[
        str | None, Query(max_length=64, description="history to, exclusive; needs obis and from")
    ] = None,
    limit: Limit = 200,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> Registers:
    """Without parameters the latest value of each register; with obis, from and to that register's history.

    With obis alone, the latest value of that register. Times are those of reading, half-open [from, to).
    """
    code = None if obis is None else obis_parameter(obis, "obis")
    if from_ is None and to is None:
        async with house.pool.connection() as connection:
            meter = await meter_by_asset(connection, asset_id, asking)
            found = await registers.latest(connection, meter.meter_id)
        told = [RegisterModel.of(r) for r in found if code is None or r.obis == code]
        return Registers(meter=asset_id, registers=told)
    for name, given in (("obis", code), ("from", from_), ("to", to)):
        if given is None:
            raise BadValue.parameter(name, "is missing; a history needs obis, from and to")
    asked = half_open(from_ or "", to or "")
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id, asking)
        found = await registers.history(
            connection, meter.meter_id, code or "", *asked, after=_position(after), limit=limit + 1
        )
    page, more = found[:limit], len(found) > limit
    cursor = paging.encode([rfc3339(page[-1].read_at), page[-1].attribute]) if more else None
    paging.link_next(request, response, cursor)
    return Registers(meter=asset_id, registers=[RegisterModel.of(r) for r in page], next=cursor)


def _position(after: str | None) -> tuple[datetime, int] | None:
    if after is None:
        return None
    read_at, attribute = paging.decode(after, str, int)
    try:
        moment = datetime.fromisoformat(read_at).astimezone(UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or not -32768 <= attribute <= 32767:
        raise BadValue.parameter("after", "is no cursor of this list; use the one that the last answer has")
    return moment, attribute
