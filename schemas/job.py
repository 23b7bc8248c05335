"""Jobs as data: what is read of meters, how often it is tried, and which meters are meant.

A job is one run of a schedule, one read that somebody asked for, or one round of back-fill. It has a request
for each of its meters, and what it reads is a list of works: those of one meter go through one association.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from schemas.text import Name

#: The usual logical name of the billing profile ("data of billing period 1").
BILLING_PROFILE: Final = "0-0:98.1.0*255"


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Curves(_Shape):
    """Load curves where they are not covered yet, ``days`` back at most; no ``profiles``: all stored ones."""

    kind: Literal["curves"] = "curves"
    days: int = Field(default=7, ge=1, le=366)
    profiles: tuple[int, ...] = ()


class CurveRange(_Shape):
    """Intervals of one load profile that start in [since, until), covered or not."""

    kind: Literal["range"] = "range"
    profile: int = Field(ge=0, le=32767)
    since: AwareDatetime
    until: AwareDatetime

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.since >= self.until:
            raise ValueError("since must be before until")
        return self


class Registers(_Shape):
    """Registers now, by OBIS code; none named: those of the meter's model."""

    kind: Literal["registers"] = "registers"
    obis: tuple[str, ...] = Field(default=(), max_length=64)


class Events(_Shape):
    """Event logs and alarm registers, from where the last reading ended."""

    kind: Literal["events"] = "events"


class Billing(_Shape):
    """The billing profile: registers by tariff, maximum demand with its time, of the last ``periods``."""

    kind: Literal["billing"] = "billing"
    obis: str = BILLING_PROFILE
    periods: int = Field(default=2, ge=1, le=60)


class Clock(_Shape):
    """The clock, and nothing else: how far it is off. Nothing is changed."""

    kind: Literal["clock"] = "clock"


class Breaker(_Shape):
    """Where the breaker stands, and nothing else. Nothing is switched."""

    kind: Literal["breaker"] = "breaker"


class Forwarded(_Shape):
    """Of a concentrator that stores and forwards: what it keeps."""

    kind: Literal["forwarded"] = "forwarded"


#: What may be asked for by whoever makes jobs and schedules.
Reading = Curves | CurveRange | Registers | Events | Billing | Clock | Breaker | Forwarded
Work = Annotated[Reading, Field(discriminator="kind")]


class Apply(_Shape):
    """The program of a campaign. Only campaigns make such jobs."""

    kind: Literal["apply"] = "apply"
    campaign: int


#: What a stored job may consist of.
AnyWork = Annotated[Reading | Apply, Field(discriminator="kind")]
#: Reads and writes lists of works as the database has them.
WORKS: Final[TypeAdapter[tuple[AnyWork, ...]]] = TypeAdapter(tuple[AnyWork, ...])


class Retry(_Shape):
    """``attempts`` in all; before attempt n+1 a wait drawn from [0, min(longest_s, first_s x 2**(n-1))].

    ``drop_dead_s`` after the job's start no attempt begins any more; None: as the deadline says.
    """

    attempts: int = Field(default=5, ge=1, le=1000)
    first_s: float = Field(default=5, gt=0, le=86_400)
    longest_s: float = Field(default=900, gt=0, le=86_400)
    drop_dead_s: int | None = Field(default=None, gt=0, le=366 * 86_400)

    @property
    def drop_dead(self) -> timedelta | None:
        """As a time span."""
        return None if self.drop_dead_s is None else timedelta(seconds=self.drop_dead_s)


class JobKind(StrEnum):
    """Where a job comes from."""

    SCHEDULED = "scheduled"
    ON_DEMAND = "on_demand"
    BACKFILL = "backfill"
    CAMPAIGN = "campaign"


class RequestState(StrEnum):
    """Of one meter's request. All but ``open`` are final."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"  # the last attempt that the policy allows has failed, or failed for good
    EXPIRED = "expired"  # its drop-dead time came
    CANCELLED = "cancelled"


class Selection(_Shape):
    """Which meters: those that meet every condition given; no condition: all. Of each list one must fit.

    Only commissioned meters are ever read. A tag is ``key`` (any value) or ``key=value``; ``stations`` are
    codes of concentrators, gateways and substations, with all that stands below them then. ``query`` is a
    pattern of asset ids with ``*`` and ``?``.
    """

    meters: tuple[Name, ...] = ()
    groups: tuple[Name, ...] = Field(default=(), max_length=1000)
    tags: tuple[Name, ...] = Field(default=(), max_length=1000)
    feeders: tuple[Name, ...] = Field(default=(), max_length=1000)
    transformers: tuple[Name, ...] = ()
    stations: tuple[Name, ...] = ()
    models: tuple[Name, ...] = Field(default=(), max_length=1000)
    query: Name | None = None
