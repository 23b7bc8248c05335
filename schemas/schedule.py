"""Schedules as data: when, of which meters, what, and within which times.

Times of one run, in order::

    run <= window opens <= window closes <= deadline
           no attempt before      no attempt begins after

``window`` and ``deadline`` are counted from the run: a local time of the schedule's zone (``06:00``: the next
one after the run) or a span (``5h30m``).
"""

import re
from datetime import time, timedelta
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.job import Retry, Selection, Work
from schemas.model.parts import ZoneName
from schemas.text import PathName

_LOCAL: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_SPAN: Final = re.compile(r"(?=\d)(?:(\d{1,3})d)?(?:(\d{1,4})h)?(?:(\d{1,6})m)?", re.ASCII)
_LONGEST: Final = timedelta(days=366)


def until(text: str) -> time | timedelta:
    """``06:00`` as a local time, ``5h30m`` as a span of at least a minute. Raises ValueError."""
    if local := _LOCAL.fullmatch(text):
        return time(int(local[1]), int(local[2]))
    if span := _SPAN.fullmatch(text):
        days, hours, minutes = (int(part or 0) for part in span.groups())
        found = timedelta(days=days, hours=hours, minutes=minutes)
        if timedelta(0) < found <= _LONGEST:
            return found
    raise ValueError(f"{text!r} is neither a local time such as 06:00 nor a span such as 5h30m")


def _check_until(text: str) -> str:
    until(text)
    return text


def _check_works(works: tuple[Work, ...]) -> tuple[Work, ...]:
    # not min_length: pydantic does not count works that are wrong, and would refuse the list too
    if not works:
        raise ValueError('say what to read, as {"kind": "curves"}')
    return works


Until = Annotated[str, Field(max_length=16), AfterValidator(_check_until)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Missed(StrEnum):
    """What becomes of runs that nobody began, the service being down."""

    CATCH_UP = "catch_up"  # the newest of them begins as soon as it can; its times count from then
    SKIP = "skip"


class Window(_Shape):
    """When attempts may begin: from ``opens`` (none: the run) until ``closes`` (none: the drop-dead time)."""

    opens: Until | None = None
    closes: Until | None = None


class Schedule(_Shape):
    """A cron expression of five fields in ``zone``, or every so many minutes (counted from 1970-01-01 UTC, so
    that every 15 are the quarter hours)."""

    name: PathName
    cron: str | None = Field(default=None, max_length=128)
    every_min: int | None = Field(default=None, ge=1, le=366 * 1440)
    zone: Annotated[ZoneName, Field(max_length=64)] = "UTC"
    selection: Selection = Selection()
    works: Annotated[
        tuple[Work, ...],
        Field(max_length=8, json_schema_extra={"minItems": 1}),
        AfterValidator(_check_works),
    ]
    window: Window = Window()
    deadline: Until
    priority: int = Field(default=5, ge=0, le=9)
    retry: Retry = Retry()
    missed: Missed = Missed.CATCH_UP
    enabled: bool = True

    @model_validator(mode="after")
    def _one_rhythm(self) -> Self:
        if (self.cron is None) == (self.every_min is None):
            raise ValueError("give either cron or every_min")
        return self
