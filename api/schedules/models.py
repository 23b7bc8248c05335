"""Bodies and answers about schedules."""

from datetime import datetime
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from api.times import rfc3339
from headend.schedules.calendar import Times
from headend.schedules.planner import Planned
from headend.store.schedules import StoredSchedule
from schemas.schedule import Schedule

_PLAN: Final[dict[str, Any]] = {
    "name": "nightly",
    "cron": "0 1 * * *",
    "zone": "Europe/Berlin",
    "selection": {"groups": ["residential"]},
    "works": [{"kind": "curves"}, {"kind": "events"}],
    "window": {"closes": "05:30"},
    "deadline": "06:00",
    "priority": 5,
    "retry": {"attempts": 5, "drop_dead_s": 43200},
    "missed": "catch_up",
}
_TOLD: Final[dict[str, Any]] = {
    **Schedule.model_validate(_PLAN).model_dump(mode="json"),
    "id": 7,
    "built_in": False,
    "version": 1,
    "next_at": "2026-03-29T23:00:00Z",
    "last_at": "2026-03-29T00:00:00Z",
    "created_at": "2026-03-01T08:00:00Z",
    "updated_at": "2026-03-01T08:00:00Z",
}
_RUN: Final[dict[str, Any]] = {
    "run": "2026-03-29T23:00:00Z",
    "opens": "2026-03-29T23:00:00Z",
    "deadline": "2026-03-30T04:00:00Z",
    "drop_dead": "2026-03-30T03:30:00Z",
    "local": {
        "run": "2026-03-30T01:00:00+02:00",
        "opens": "2026-03-30T01:00:00+02:00",
        "deadline": "2026-03-30T06:00:00+02:00",
        "drop_dead": "2026-03-30T05:30:00+02:00",
    },
}


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class ScheduleBody(Schedule):
    """A schedule: ``cron`` in ``zone`` or ``every_min``, which meters, what of them, and within which times.
    ``window`` and ``deadline`` count from the run: a local time (06:00, the next one) or a span (5h30m)."""

    model_config = _example(_PLAN)


class ScheduleDetail(Schedule):
    """A schedule as it stands."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [_TOLD]})

    id: int
    built_in: bool = Field(description="it follows the settings of the service and cannot be changed here")
    version: int = Field(description="grows with each change")
    next_at: str | None = Field(description="when it runs next; null: it is paused")
    last_at: str | None = Field(description="the newest of its runs that became a job")
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, stored: StoredSchedule) -> Self:
        """As stored."""
        return cls(
            **dict(stored.plan),
            id=stored.schedule_id,
            built_in=stored.built_in,
            version=stored.version,
            next_at=_told(stored.next_at),
            last_at=_told(stored.last_at),
            created_at=rfc3339(stored.created_at),
            updated_at=rfc3339(stored.updated_at),
        )


class SchedulePage(BaseModel):
    """Schedules in order of names; ``next`` is the cursor of the next page, null on the last."""

    model_config = _example({"schedules": [_TOLD], "next": None})

    schedules: list[ScheduleDetail]
    next: str | None


class LocalRunModel(BaseModel):
    """The times of a run on the clocks of the schedule's zone."""

    run: str
    opens: str
    deadline: str
    drop_dead: str


class RunModel(BaseModel):
    """One run: no attempt before ``opens`` or after ``drop_dead``, done by ``deadline``."""

    model_config = _example(_RUN)

    run: str
    opens: str
    deadline: str
    drop_dead: str
    local: LocalRunModel

    @classmethod
    def of(cls, times: Times, zone: str) -> Self:
        """In UTC and in ``zone``."""
        where = ZoneInfo(zone)
        told = times._asdict()
        return cls(
            **{name: rfc3339(moment) for name, moment in told.items()},
            local=LocalRunModel(
                **{name: moment.astimezone(where).isoformat() for name, moment in told.items()}
            ),
        )


class RunList(BaseModel):
    """The next runs; none where there are no more."""

    model_config = _example({"zone": "Europe/Berlin", "runs": [_RUN]})

    zone: str
    runs: list[RunModel]


class StartedModel(BaseModel):
    """A job that was made, for ``requests`` meters or concentrators in ``lanes`` lanes."""

    model_config = _example(
        {"job": 4712, "requests": 154000, "lanes": 810, "deadline": "2026-03-30T04:00:00Z"}
    )

    job: int
    requests: int
    lanes: int
    deadline: str

    @classmethod
    def of(cls, planned: Planned) -> Self:
        """As planned."""
        return cls(
            job=planned.job_id,
            requests=planned.requests,
            lanes=planned.lanes,
            deadline=rfc3339(planned.times.deadline),
        )


def _told(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
