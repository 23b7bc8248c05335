"""Why a meter is late."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from api.auth import ReaderWithin
from api.errors import responses
from api.meters.lookup import meter_by_asset
from api.services import Services, services
from api.shapes import AssetId
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.completeness.why import Verdict, why_late
from headend.store.why import Facts
from schemas.failure import Stage

router = APIRouter(tags=["meters"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "asset_id": "SIM00000001",
    "late": True,
    "summary": "56 intervals since 2026-03-01 10:00Z are missing: no answer came in time (timeout)",
    "stage": "timeout",
    "meaning": "the link was there, and no answer came in time",
    "holds": [
        {
            "kind": "silent meter",
            "text": "the meter has not answered since 2026-03-01 10:00:00Z: nothing came; it is only probed",
            "until": "2026-03-02T12:04:00Z",
        }
    ],
    "next_try_at": "2026-03-02T12:04:00Z",
    "advice": ["when it is mended: headend links reset meter SIM00000001"],
    "curves": [
        {
            "profile": 1,
            "expected": 96,
            "present": 40,
            "lost": 0,
            "open": 56,
            "first_open": "2026-03-01T10:00:00Z",
            "present_until": "2026-03-01T10:00:00Z",
        }
    ],
    "attempts": [
        {
            "began_at": "2026-03-02T01:00:00Z",
            "took_ms": 20011,
            "rows": 0,
            "number": 3,
            "stage": "timeout",
            "fault": "link",
            "reason": "nothing came before the deadline",
            "worker": "host-1:812:1",
        }
    ],
}


class HoldModel(BaseModel):
    """One thing that keeps the meter's intervals away; ``kind`` is for scripts."""

    kind: str
    text: str
    until: str | None = Field(description="null: until somebody does something, or it cannot be known")


class CurveModel(BaseModel):
    """A curve of the last 35 days in numbers of intervals."""

    profile: int
    expected: int
    present: int
    lost: int
    open: int
    first_open: str | None
    present_until: str | None = Field(description="rows are stored until then")


class AttemptModel(BaseModel):
    """One attempt; ``stage`` null: the meter gave what it was asked for."""

    began_at: str
    took_ms: int
    rows: int
    number: int = Field(description="of its request, from 1")
    stage: Stage | None
    fault: str | None
    reason: str | None
    worker: str


class WhyLate(BaseModel):
    """The verdict, and what it rests on. ``advice`` stands in the order in which to do it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    asset_id: str
    late: bool
    summary: str
    stage: Stage | None = Field(description="where it failed last")
    meaning: str | None
    holds: list[HoldModel]
    next_try_at: str | None = Field(description="null: nobody will try")
    advice: list[str]
    curves: list[CurveModel]
    attempts: list[AttemptModel] = Field(description="newest first")

    @classmethod
    def of(cls, facts: Facts, told: Verdict) -> "WhyLate":
        return cls(
            asset_id=facts.meter.asset_id,
            late=told.late,
            summary=told.summary,
            stage=told.stage,
            meaning=told.meaning,
            holds=[HoldModel(kind=one.kind, text=one.text, until=_time(one.until)) for one in told.holds],
            next_try_at=_time(told.next_try_at),
            advice=list(told.advice),
            curves=[
                CurveModel(
                    profile=one.profile,
                    expected=one.expected,
                    present=one.present,
                    lost=one.lost,
                    open=one.open,
                    first_open=_time(one.first_open),
                    present_until=_time(one.present_until),
                )
                for one in facts.curves
            ],
            attempts=[
                AttemptModel(**{**one._asdict(), "began_at": rfc3339(one.began_at)}) for one in facts.attempts
            ],
        )


@router.get(
    "/meters/{asset_id}/why-late",
    summary="Why a meter is late",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def get_why_late(
    asking: ReaderWithin, house: Annotated[Services, Depends(services)], asset_id: AssetId
) -> WhyLate:
    """Its last attempts, the stage that fails and what that means, what holds it now, when it is tried next,
    and what to do."""
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id, asking)
        found, told = await why_late(
            connection,
            meter,
            now=house.clock(),
            forwarded_s=house.forwarded_s,
            profile_folders=house.profile_folders,
        )
    return WhyLate.of(found, told)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
