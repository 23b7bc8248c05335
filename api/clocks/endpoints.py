"""GET of clocks: what one showed, and how far those of the fleet are off."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Reader
from api.errors import responses
from api.meters.lookup import meter_by_asset
from api.services import Services, services
from api.shapes import AssetId, Limit
from api.times import instant, rfc3339
from headend.clock import utc_now
from headend.programs.clocks import drift as drifts
from headend.programs.clocks.drift import Drift
from headend.store import clocks
from headend.store.clocks import Change, Kept, Newest

router = APIRouter(tags=["clocks"])

_MS: Final = timedelta(milliseconds=1)
_SERIES: Final = timedelta(days=30)
_READING: Final[dict[str, Any]] = {
    "at": "2026-03-01T01:00:00.214Z",
    "offset_s": "-2.214",
    "uncertainty_s": "1.112",
    "deviation_min": -60,
    "status": 0,
    "source": "read",
}
_CHANGE: Final[dict[str, Any]] = {
    "at": "2026-03-01T01:00:00.214Z",
    "change": "shift",
    "from": "2026-03-01T00:59:58.000Z",
    "to": "2026-03-01T01:00:00.214Z",
    "took_effect": True,
    "campaign": 17,
}
_OUTLIER: Final[dict[str, Any]] = {
    "meter": "SIM00000001",
    "model": "headend-sim",
    "at": "2026-03-01T01:00:00.214Z",
    "offset_s": "-402.214",
    "uncertainty_s": "1.112",
    "ppm": "-12.5",
}
_MODEL: Final[dict[str, Any]] = {
    "model": "headend-sim", "meters": 154000, "rated": 153204, "ppm": "-3.1", "fastest_ppm": "22.0",
    "slowest_ppm": "-41.7",
}  # fmt: skip


class ClockReadingModel(BaseModel):
    """What a clock showed."""

    at: str = Field(description="the middle of the round trip, by the head-end's clock")
    offset_s: str = Field(description="seconds by which the meter's clock was ahead; below 0: behind")
    uncertainty_s: str = Field(description="half the round trip and the resolution of the stamp")
    deviation_min: int | None = Field(description="UTC - local time, as the meter's stamp tells it")
    status: int | None = Field(description="the stamp's clock status, null where not specified")
    source: str = Field(
        description="`read`, `program` of a campaign's visit, or `line`: before its line was told the time"
    )

    @classmethod
    def of(cls, kept: Kept) -> "ClockReadingModel":
        one = kept.reading
        return cls(
            at=rfc3339(one.at),
            offset_s=_seconds(one.offset),
            uncertainty_s=_seconds(one.uncertainty),
            deviation_min=one.deviation_min,
            status=one.status,
            source=kept.source,
        )


class ClockChangeModel(BaseModel):
    """A clock was changed. Intervals between ``from`` and ``to``, by the meter's own clock, are told with
    `clock_changed`, unless it did not take effect."""

    at: str
    change: str = Field(description="`shift`, `set`, `preset`, or `broadcast`: with all meters of its line")
    from_: str = Field(alias="from")
    to: str
    took_effect: bool | None = Field(description="null: not verified, and nobody knows")
    campaign: int

    @classmethod
    def of(cls, one: Change) -> "ClockChangeModel":
        return cls.model_validate(
            {
                "at": rfc3339(one.at),
                "change": one.change,
                "from": rfc3339(one.since),
                "to": rfc3339(one.until),
                "took_effect": one.took_effect,
                "campaign": one.campaign_id,
            }
        )


class ClockSeries(BaseModel):
    """Readings of one clock, and changes of it, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"meter": "SIM00000001", "readings": [_READING], "changes": [_CHANGE]}]
        }
    )

    meter: str
    readings: list[ClockReadingModel]
    changes: list[ClockChangeModel]


class BinModel(BaseModel):
    """Clocks that are off by [low_s, high_s) seconds; null: no bound."""

    low_s: int | None
    high_s: int | None
    meters: int


class ModelDrift(BaseModel):
    """The clocks of one model; rates in parts in a million since they were changed last."""

    model: str
    meters: int
    rated: int = Field(description="of how many the readings tell a rate")
    ppm: str | None = Field(description="the median")
    fastest_ppm: str | None
    slowest_ppm: str | None


class Outlier(BaseModel):
    """A clock that is further off than was asked for."""

    meter: str
    model: str
    at: str
    offset_s: str
    uncertainty_s: str
    ppm: str | None

    @classmethod
    def of(cls, one: Newest) -> "Outlier":
        return cls(
            meter=one.asset_id,
            model=one.model,
            at=rfc3339(one.at),
            offset_s=_seconds(one.offset),
            uncertainty_s=_seconds(one.uncertainty),
            ppm=_rate(one.ppm),
        )


class DriftModel(BaseModel):
    """The fleet's clocks by their newest readings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "meters": 154000,
                    "bins": [{"low_s": -1, "high_s": 1, "meters": 153800}],
                    "models": [_MODEL],
                    "beyond_s": 60,
                    "beyond": 1,
                    "outliers": [_OUTLIER],
                }
            ]
        }
    )

    meters: int = Field(description="whose clock was read in these days")
    bins: list[BinModel]
    models: list[ModelDrift]
    beyond_s: int
    beyond: int = Field(description="how many are further off than beyond_s; the furthest are listed")
    outliers: list[Outlier]

    @classmethod
    def of(cls, told: Drift, beyond_s: int) -> "DriftModel":
        return cls(
            meters=told.clocks,
            bins=[BinModel(low_s=one.low_s, high_s=one.high_s, meters=one.clocks) for one in told.bins],
            models=[
                ModelDrift(
                    model=one.model,
                    meters=one.clocks,
                    rated=one.rated,
                    ppm=_rate(one.ppm),
                    fastest_ppm=_rate(one.fastest_ppm),
                    slowest_ppm=_rate(one.slowest_ppm),
                )
                for one in told.models
            ],
            beyond_s=beyond_s,
            beyond=told.beyond,
            outliers=[Outlier.of(one) for one in told.outliers],
        )


@router.get(
    "/meters/{asset_id}/clock",
    summary="What a meter's clock showed, and when it was changed, newest first",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def meter_clock(
    _token: Reader,
    house: Annotated[Services, Depends(services)],
    asset_id: AssetId,
    from_: Annotated[
        str | None, Query(alias="from", max_length=64, description="not before; default 30 days ago")
    ] = None,
    to: Annotated[str | None, Query(max_length=64, description="before; default now")] = None,
    limit: Limit = 200,
) -> ClockSeries:
    """Readings in [from, to), made by schedules with the work `clock`, by campaigns, and on demand; and what
    campaigns changed in it, also at the turn of another meter of its line."""
    until = utc_now() if to is None else instant(to, "to")
    since = until - _SERIES if from_ is None else instant(from_, "from")
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id)
        found = await clocks.series(connection, meter.meter_id, since, until, limit=limit)
        changes = await clocks.changes(connection, meter.meter_id, since, until, limit=limit)
    return ClockSeries(
        meter=asset_id,
        readings=[ClockReadingModel.of(one) for one in found],
        changes=[ClockChangeModel.of(one) for one in changes],
    )


@router.get(
    "/clock/drift",
    summary="How far the fleet's clocks are off",
    responses=responses(400, 401, 403, 422, 503),
)
async def clock_drift(
    _token: Reader,
    house: Annotated[Services, Depends(services)],
    days: Annotated[int, Query(ge=1, le=366, description="by readings of the last so many days")] = 30,
    beyond_s: Annotated[int, Query(ge=0, le=86_400, description="outliers are further off")] = 60,
    limit: Limit = 100,
) -> DriftModel:
    """A histogram of the newest readings, rates by model, and the outliers, the furthest first."""
    async with house.pool.connection() as connection:
        newest = await clocks.fleet(connection, utc_now() - timedelta(days=days))
    return DriftModel.of(drifts.drift(newest, beyond=timedelta(seconds=beyond_s), most=limit), beyond_s)


def _seconds(span: timedelta) -> str:
    return str((Decimal(round(span / _MS)) / 1000).quantize(Decimal("0.001")))


def _rate(ppm: Decimal | None) -> str | None:
    return None if ppm is None else f"{ppm:f}"
