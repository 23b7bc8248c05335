"""Shapes of the switching slice."""

from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from api.times import rfc3339
from headend.store.switching import BreakerState, Critical, Halt, Switching
from schemas.text import Name

_STATE: Final[dict[str, Any]] = {
    "read_at": "2026-03-01T08:00:00Z",
    "connected": False,
    "control": "disconnected",
    "mode": 2,
}
_SWITCHING: Final[dict[str, Any]] = {
    "number": 17,
    "campaign": 4,
    "action": "disconnect",
    "reason": "arrears",
    "note": "third reminder of 2026-02-01",
    "asked_by": "token:3 billing",
    "approved_by": "anna",
    "sent_at": "2026-03-01T08:00:00Z",
    "state": "done",
    "failure": None,
    "proof": {"after": {"output": False, "control": "disconnected", "mode": 2}},
    "ended_at": "2026-03-01T08:00:02Z",
}
_CRITICAL: Final[dict[str, Any]] = {
    "number": 3,
    "meter": "SIM00000001",
    "point": None,
    "why": "dialysis at home",
    "until": None,
    "by": "token:3 operator",
    "created_at": "2026-03-01T08:00:00Z",
}
_HALT: Final[dict[str, Any]] = {
    "reason": "the list of arrears was last year's",
    "by": "token:3 operator",
    "account": None,
    "at": "2026-03-01T08:00:00Z",
}


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


def _body(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


class BreakerModel(BaseModel):
    """Where a breaker stood when it was last read: whether the customer was ``connected``, what the control
    asked for (disconnected, connected, ready), and under which control mode (null: its language has none)."""

    model_config = _example(_STATE)

    read_at: str
    connected: bool
    control: str
    mode: int | None

    @classmethod
    def of(cls, state: BreakerState) -> Self:
        """As stored."""
        return cls(
            read_at=rfc3339(state.read_at), connected=state.output, control=state.control, mode=state.mode
        )


class SwitchingModel(BaseModel):
    """A switching or a limit that was sent, who asked, who approved, and what came of it."""

    model_config = _example(_SWITCHING)

    number: int
    campaign: int
    action: str
    reason: str
    note: str
    asked_by: str
    approved_by: str | None
    sent_at: str
    state: str | None
    failure: str | None
    proof: dict[str, Any] | None
    ended_at: str | None

    @classmethod
    def of(cls, one: Switching) -> Self:
        """As stored."""
        return cls(
            number=one.switching_id,
            campaign=one.campaign_id,
            action=one.action,
            reason=one.reason,
            note=one.note,
            asked_by=one.actor,
            approved_by=one.approved_by,
            sent_at=rfc3339(one.sent_at),
            state=one.state,
            failure=one.failure,
            proof=one.proof,
            ended_at=_time(one.ended_at),
        )


class MeterSwitch(BaseModel):
    """The meter's breaker (null: it was never read), why its customer is critical (null: he is not), and what
    was switched, newest first; ``next`` is the cursor of the next page."""

    model_config = _example({"breaker": _STATE, "critical": None, "switchings": [_SWITCHING], "next": None})

    breaker: BreakerModel | None
    critical: str | None
    switchings: list[SwitchingModel]
    next: str | None


class CriticalModel(BaseModel):
    """A customer who is not switched off or limited: by meter, or by metering point."""

    model_config = _example(_CRITICAL)

    number: int
    meter: str | None
    point: str | None
    why: str
    until: str | None
    by: str
    created_at: str

    @classmethod
    def of(cls, one: Critical) -> Self:
        """As stored."""
        return cls(
            number=one.critical_id,
            meter=one.asset_id,
            point=one.point,
            why=one.why,
            until=_time(one.until),
            by=one.actor,
            created_at=rfc3339(one.created_at),
        )


class CriticalPage(BaseModel):
    """Critical customers in order of their numbers; ``next`` is the cursor of the next page."""

    model_config = _example({"critical_customers": [_CRITICAL], "next": None})

    critical_customers: list[CriticalModel]
    next: str | None


class CriticalBody(BaseModel):
    """A meter, or a metering point; ``until`` an RFC 3339 time, or for good."""

    model_config = _body({"meter": "SIM00000001", "why": "dialysis at home"})

    meter: Name | None = None
    point: Name | None = None
    why: Name
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.meter is None) == (self.point is None):
            raise ValueError("name a meter or a point, and one of them")
        return self


class WhyBody(BaseModel):
    """Why: it goes into the audit trail."""

    model_config = _body({"reason": "the list of arrears was last year's"})

    reason: Annotated[Name, Field(max_length=500)]


class HaltModel(BaseModel):
    """An emergency stop, and who asked for it."""

    model_config = _example(_HALT)

    reason: str
    by: str
    account: int | None
    at: str

    @classmethod
    def of(cls, halt: Halt) -> Self:
        """As stored."""
        return cls(reason=halt.reason, by=halt.actor, account=halt.account, at=rfc3339(halt.at))


class SwitchingState(BaseModel):
    """Whether switching is stopped (null: it is not), and the campaigns that this request stopped."""

    model_config = _example({"stopped": _HALT, "campaigns": [4, 7]})

    stopped: HaltModel | None
    campaigns: list[int] = []
