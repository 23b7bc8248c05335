"""Campaigns: to whom a program is applied, when, and in which waves.

::

    proposed ──> approved ──> running ──> done
        │            │         │  ▲ │
        ▼            ▼         ▼  │ ├──> stopped   too many failed, or an emergency stop; may be resumed
     refused      aborted    paused │
                               └────┴──> aborted
"""

from datetime import time
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from schemas.job import Retry, Selection
from schemas.model.parts import ZoneName
from schemas.text import Name


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CampaignState(StrEnum):
    """Of a whole campaign."""

    PROPOSED = "proposed"  # waits for approval
    REFUSED = "refused"
    APPROVED = "approved"  # begins when its time comes
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"  # by itself, or by an emergency stop
    ABORTED = "aborted"
    DONE = "done"


#: Nothing follows these.
FINAL: Final = frozenset({CampaignState.REFUSED, CampaignState.ABORTED, CampaignState.DONE})


class MeterProgress(StrEnum):
    """Of one meter within a campaign. All but ``waiting`` and ``open`` are final."""

    WAITING = "waiting"  # its wave has not begun
    OPEN = "open"  # a request works at it
    DONE = "done"
    UNCHANGED = "unchanged"  # it was so already
    FAILED = "failed"
    UNSURE = "unsure"  # a step was taken, and nobody knows with what effect: a person must look
    INCOMPATIBLE = (
        "incompatible"  # not touched: model, hardware or version do not fit, or it refuses by policy
    )
    CANCELLED = "cancelled"


class Window(_Shape):
    """Local times of day between which visits may begin; over midnight where ``closes`` is not after
    ``opens``. ``days``: of the days on which it opens, Monday is 0."""

    opens: time
    closes: time
    zone: ZoneName
    days: tuple[Annotated[int, Field(ge=0, le=6)], ...] = (0, 1, 2, 3, 4, 5, 6)

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if self.opens.tzinfo is not None or self.closes.tzinfo is not None:
            raise ValueError("times of day have no offset: the zone is named beside them")
        if self.opens == self.closes:
            raise ValueError("opens and closes are the same")
        if not self.days:
            raise ValueError("say on which days it opens")
        return self


class Plan(_Shape):
    """To whom, when, and in which waves.

    ``canaries`` meters go first, drawn over models and stations, or those that ``canary_meters`` names; then
    ``waves``, each a share of the rest in percent, adding up to 100. Between two waves lie ``soak_s`` seconds
    at least, counted from the end of the former.

    ``starts_at`` is the earliest; a campaign that could not begin within ``expires_s`` of it (else of its
    proposal) begins no more, and a meter with which it was begun is given up ``expires_s`` later.
    ``per_station`` meters of one station are open at once at most.

    It stops by itself when more than ``stop_percent`` of the meters that ended have failed (or are unsure),
    counted from ``stop_from`` ended meters on in a wave, or at its end; among canaries from the first on, and
    where none of them has it at all. It does not stop where nothing is left of it.
    """

    selection: Selection
    canaries: int = Field(default=0, ge=0, le=10_000)
    canary_meters: tuple[Name, ...] = Field(default=(), max_length=10_000)
    waves: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(default=(100.0,), max_length=50)
    soak_s: int = Field(default=0, ge=0, le=30 * 86_400)
    starts_at: AwareDatetime | None = None
    window: Window | None = None
    per_station: int | None = Field(default=None, ge=1, le=10_000)
    stop_percent: float = Field(default=5.0, ge=0, le=100)
    stop_from: int = Field(default=20, ge=1, le=1_000_000)
    retry: Retry = Retry(attempts=10)
    expires_s: int = Field(default=7 * 86_400, gt=0, le=366 * 86_400)
    urgent: bool = False

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if not self.waves or abs(sum(self.waves) - 100) > 0.01:
            raise ValueError("waves are shares in percent that add up to 100")
        if self.canaries and self.canary_meters:
            raise ValueError("canaries are counted or named, not both")
        return self
