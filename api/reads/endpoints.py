"""POST of a read now: what the meter gave, what it refused, what was stored."""

from datetime import timedelta
from typing import Annotated, Final, Self

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.auth import Operator, actor
from api.errors import BadValue, Conflict, responses
from api.meters.lookup import meter_by_asset
from api.registers.endpoints import RegisterModel
from api.services import ProfileRange, ReadRequest, ReadResult, Services, services
from api.shapes import AssetId, ObisText
from api.strict_json import StrictRoute
from api.times import half_open, micros
from headend.store import audit
from headend.store.registers import StoredRegister
from schemas.reading import RegisterRead

router = APIRouter(tags=["reads"], route_class=StrictRoute)

#: One request's share of a meter's time: a profile of 31 days is 2,976 quarter-hours.
MAX_PROFILE_RANGE: Final = timedelta(days=31)


class ProfileAsk(BaseModel):
    """A range of a load profile: intervals that start in [from, to), at most 31 days."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(
        default=1, ge=0, le=32767, description="number of the load profile in the meter's model"
    )
    from_: str = Field(alias="from", max_length=64, description="RFC 3339 with an offset")
    to: str = Field(max_length=64, description="RFC 3339 with an offset")


class ReadAsk(BaseModel):
    """What to read now; at least one of the two."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "obis": ["1-0:1.8.0*255", "0-0:1.0.0*255"],
                    "profile": {"number": 1, "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"},
                }
            ]
        },
    )

    obis: list[ObisText] = Field(
        default_factory=list, max_length=64, description="OBIS codes in any written form"
    )
    profile: ProfileAsk | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.obis and self.profile is None:
            raise ValueError("name at least one OBIS code in 'obis', or a range in 'profile'")
        return self


class RefusedModel(BaseModel):
    """An object that the meter would not give."""

    obis: str
    reason: str


class StoredModel(BaseModel):
    """What storing did; ``repeated`` intervals were there already with the same values,
    ``quarantined`` could not be stored and are in the inbox.
    """

    new: int
    completed: int
    corrected: int
    repeated: int
    fragments: int
    registers: int
    quarantined: int


class ReadAnswer(BaseModel):
    """What came of a read now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "meter": "SIM00000001",
                    "registers": [
                        {
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
                    ],
                    "refused": [{"obis": "0-0:1.0.0*255", "reason": "read-write-denied"}],
                    "intervals": 96,
                    "stored": {
                        "new": 96,
                        "completed": 0,
                        "corrected": 0,
                        "repeated": 0,
                        "fragments": 0,
                        "registers": 1,
                        "quarantined": 0,
                    },
                }
            ]
        }
    )

    meter: str
    registers: list[RegisterModel]
    refused: list[RefusedModel]
    intervals: int = Field(description="rows that the load profile gave")
    stored: StoredModel


@router.post(
    "/meters/{asset_id}/reads",
    summary="Read a meter now and store what it gives",
    responses=responses(400, 401, 403, 404, 409, 413, 422, 500, 502, 503, 504),
)
async def read_meter_now(
    token: Operator, house: Annotated[Services, Depends(services)], asset_id: AssetId, ask: ReadAsk
) -> ReadAnswer:
    """Dials the meter and answers when it has. A failed exchange says whose fault, and at which stage."""
    request = ReadRequest(tuple(dict.fromkeys(ask.obis)), _range(ask.profile))
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id)
        if meter.address is None:
            raise Conflict(f"meter {asset_id!r} has no address; it only pushes")
        # Committed before the meter is dialled: what was tried stays on record however it ends.
        await audit.record(
            connection,
            actor=actor(token),
            action="meter.read",
            object_=f"meter:{asset_id}",
            detail=ask.model_dump(mode="json", by_alias=True),
        )
    return _told(asset_id, await house.read_now(meter, request))


def _range(ask: ProfileAsk | None) -> ProfileRange | None:
    if ask is None:
        return None
    try:
        asked = half_open(ask.from_, ask.to, longest=MAX_PROFILE_RANGE)
    except BadValue as exc:
        (place,) = exc.places
        raise BadValue.field(f"/profile/{place.parameter}", place.detail) from exc
    return ProfileRange(ask.number, asked.start, asked.end)


def _told(asset_id: str, result: ReadResult) -> ReadAnswer:
    return ReadAnswer(
        meter=asset_id,
        registers=[_register(r) for r in result.registers],
        refused=[RefusedModel(obis=r.obis, reason=r.reason) for r in result.refused],
        intervals=result.intervals,
        stored=StoredModel.model_validate(result.stored, from_attributes=True),
    )


def _register(read: RegisterRead) -> RegisterModel:
    stored = StoredRegister(
        read.obis,
        read.attribute,
        micros(read.read_us),
        None if read.meter_us is None else micros(read.meter_us),
        read.value,
        read.text,
        read.unit,
        read.quality,
        read.from_float,
    )
    return RegisterModel.of(stored)
