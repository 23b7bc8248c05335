"""What the completeness slice answers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.times import rfc3339
from headend.completeness.forecast import Forecast
from headend.store.completeness import By, Channel, Group, Missing
from headend.store.gaps import Gap, GapState, Range
from headend.store.reports import Report

_NUMBERS: Final[dict[str, Any]] = {
    "meters": 154000,
    "incomplete": 3080,
    "expected": 14784000,
    "present": 14591808,
    "lost": 96,
    "open": 192096,
    "ratio": 0.987,
}
_GROUP: Final = {"name": "DC-0113", **_NUMBERS}
_FORECAST: Final[dict[str, Any]] = {
    "at": "2026-03-02T05:00:00Z",
    "intervals": 14724864,
    "ratio": 0.996,
    "reason": None,
}
_MISSING: Final[dict[str, Any]] = {
    "asset_id": "SIM00000001",
    "profile": 1,
    "model": "headend-sim",
    "feeder": "F-07",
    "station": "DC-0113",
    "cause": "timeout",
    "expected": 96,
    "present": 40,
    "lost": 0,
    "open": 56,
    "first_open": "2026-03-01T10:00:00Z",
}
_GAP: Final[dict[str, Any]] = {
    "gap_id": 17,
    "asset_id": "SIM00000001",
    "profile": 1,
    "from": "2026-03-01T10:00:00Z",
    "to": "2026-03-02T00:00:00Z",
    "missing": [{"from": "2026-03-01T10:00:00Z", "to": "2026-03-02T00:00:00Z"}],
    "lost": [],
    "state": "open",
    "cause": "timeout",
    "reason": "nothing came before the deadline",
    "tries": 2,
    "next_try_at": "2026-03-03T01:12:00Z",
    "wraps_at": None,
    "found_at": "2026-03-03T00:00:00Z",
    "closed_at": None,
    "job_id": 41,
}
_REPORT: Final[dict[str, Any]] = {
    "report_id": 3,
    "job_id": 40,
    "schedule_id": 1,
    "title": "night",
    "occasion": "deadline",
    "made_at": "2026-03-02T05:00:11Z",
    "from": "2026-03-01T00:00:00Z",
    "to": "2026-03-02T00:00:00Z",
    "body": {
        "requests": {"open": 12, "done": 153900, "failed": 88, "expired": 0, "cancelled": 0},
        "completeness": {"name": None, **_NUMBERS},
    },
}


class Numbers(BaseModel):
    """Intervals of some meters: expected = present + lost + open; ``incomplete`` of the meters lack some."""

    meters: int
    incomplete: int
    expected: int = Field(description="ended, while the meter was commissioned and installed")
    present: int = Field(description="a row is stored")
    lost: int = Field(description="the source was asked and has it not")
    open: int = Field(description="may still come")
    ratio: float = Field(description="present of expected; 1 where nothing is expected")

    @staticmethod
    def fields(group: Group) -> dict[str, Any]:
        numbers = group._asdict()
        del numbers["name"]
        return {**numbers, "ratio": round(group.ratio, 6)}


class GroupModel(Numbers):
    """A group of meters by its name; null: those without one (by cause: those that lack nothing)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_GROUP]})

    name: str | None

    @classmethod
    def of(cls, group: Group) -> "GroupModel":
        return cls(name=group.name, **Numbers.fields(group))


class ForecastModel(BaseModel):
    """How complete it will be at ``at``, the deadline of what is under way; else ``reason`` says why nothing
    can be said."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FORECAST]})

    at: str | None
    intervals: int | None
    ratio: float | None
    reason: str | None

    @classmethod
    def of(cls, told: Forecast) -> "ForecastModel":
        return cls(
            at=None if told.at is None else rfc3339(told.at),
            intervals=told.intervals,
            ratio=None if told.ratio is None else round(told.ratio, 6),
            reason=told.reason,
        )


class _Ranged(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    since: str = Field(alias="from")
    until: str = Field(alias="to")


def span(since: datetime, until: datetime) -> dict[str, Any]:
    """[from, to), as all models here begin."""
    return {"from": rfc3339(since), "to": rfc3339(until)}


class RangeModel(_Ranged):
    """[from, to)."""


class Completeness(_Ranged):
    """Of the intervals in [from, to): all, the forecast, and by groups, the least complete first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": "2026-03-01T00:00:00Z",
                    "to": "2026-03-02T00:00:00Z",
                    "now": _NUMBERS,
                    "forecast": _FORECAST,
                    "by": "concentrator",
                    "groups": [_GROUP],
                    "next": None,
                }
            ]
        }
    )

    now: Numbers
    forecast: ForecastModel
    by: By
    groups: list[GroupModel]
    next: str | None


class MissingModel(BaseModel):
    """A curve that lacks intervals; ``cause`` is the stage of the last failure, or why nobody has asked."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MISSING]})

    asset_id: str
    profile: int
    model: str
    feeder: str | None
    station: str | None
    cause: str
    expected: int
    present: int
    lost: int
    open: int
    first_open: str | None = Field(description="start of the first interval that may still come")

    @classmethod
    def of(cls, one: Missing) -> "MissingModel":
        return cls(**{**one._asdict(), "first_open": _time(one.first_open)})


class MissingPage(BaseModel):
    """In order of asset ids and profiles."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"missing": [_MISSING], "next": None}]})

    missing: list[MissingModel]
    next: str | None


class ChannelModel(BaseModel):
    """Of the rows that are stored: ``rows`` have a place for this quantity, ``values`` of them a value."""

    quantity: str
    rows: int
    values: int

    @classmethod
    def of(cls, one: Channel) -> "ChannelModel":
        return cls(**one._asdict())


class Channels(_Ranged):
    """Values within the rows that begin in [from, to)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": "2026-03-01T00:00:00Z",
                    "to": "2026-03-02T00:00:00Z",
                    "channels": [{"quantity": "active_import", "rows": 14591808, "values": 14591800}],
                }
            ]
        }
    )

    channels: list[ChannelModel]


class GapModel(_Ranged):
    """An entry of the gap ledger. [from, to) is how far it ever reached, ``missing`` what may still come."""

    model_config = ConfigDict(json_schema_extra={"examples": [_GAP]})

    gap_id: int
    asset_id: str
    profile: int
    missing: list[RangeModel]
    lost: list[RangeModel]
    state: GapState
    cause: str | None
    reason: str | None
    tries: int
    next_try_at: str | None = Field(description="null: nobody can ask for it, it comes by itself or not")
    wraps_at: str | None = Field(
        description="the meter's memory loses the oldest of it then, where that is known"
    )
    found_at: str
    closed_at: str | None
    job_id: int | None = Field(description="the last back-fill")

    @classmethod
    def of(cls, gap: Gap) -> "GapModel":
        return cls(
            **span(*gap.during),
            gap_id=gap.gap_id,
            asset_id=gap.asset_id,
            profile=gap.profile,
            missing=[_range(one) for one in gap.missing],
            lost=[_range(one) for one in gap.lost],
            state=gap.state,
            cause=gap.cause,
            reason=gap.reason,
            tries=gap.tries,
            next_try_at=_time(gap.next_try_at),
            wraps_at=_time(gap.wraps_at),
            found_at=rfc3339(gap.found_at),
            closed_at=_time(gap.closed_at),
            job_id=gap.job_id,
        )


class GapPage(BaseModel):
    """Newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"gaps": [_GAP], "next": None}]})

    gaps: list[GapModel]
    next: str | None


class ReportModel(_Ranged):
    """What came of a run of a schedule, of the intervals in [from, to): when its ``deadline`` passed, or at
    its ``end``. ``body``: requests, attempts, completeness, the causes; of a single report also the stations
    and meters that lack something."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REPORT]})

    report_id: int
    job_id: int
    schedule_id: int | None
    title: str
    occasion: str
    made_at: str
    body: Mapping[str, Any]

    @classmethod
    def of(cls, report: Report) -> "ReportModel":
        return cls(
            **span(report.since, report.until),
            report_id=report.report_id,
            job_id=report.job_id,
            schedule_id=report.schedule_id,
            title=report.title,
            occasion=report.occasion,
            made_at=rfc3339(report.made_at),
            body=report.body,
        )


class ReportPage(BaseModel):
    """Newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reports": [_REPORT], "next": None}]})

    reports: list[ReportModel]
    next: str | None


def _range(one: Range) -> RangeModel:
    return RangeModel(**span(*one))


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
