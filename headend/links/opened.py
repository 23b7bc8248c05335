"""What a circuit breaker stands for, the state that it is in, and the refusal of an open one."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from protocols.errors import LinkError
from schemas.failure import Stage


class Kind(StrEnum):
    """What a breaker stands for."""

    METER = "meter"
    STATION = "station"
    LINE = "line"


class Subject(NamedTuple):
    """One thing with a breaker: the number of a meter or a station, or a line as it is written."""

    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class BreakerOpen(LinkError):
    """Not tried: the meter, or what it is behind, has not answered since ``since``, and is not probed before
    ``until``. ``stage`` is that of the failure that opened the breaker.
    """

    def __init__(self, subject: Subject, opened: "Opened") -> None:
        super().__init__(
            f"{subject} has not answered since {opened.since:%F %T}Z ({opened.reason}); it is probed again "
            f"after {opened.until:%F %T}Z, or by a read now",
            stage=opened.stage,
        )
        self.subject = subject
        self.since = opened.since
        self.until = opened.until


class State(StrEnum):
    """Of a breaker that is remembered."""

    CLOSED = "closed"  # with failures, and not enough of them
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Opened:
    """Why and how long: no answer since ``since``, ``failures`` in a row, no probe before ``until``."""

    since: datetime
    until: datetime
    failures: int
    stage: Stage
    reason: str
