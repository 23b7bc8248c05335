"""Campaigns as the API takes and tells them."""

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.approvals.models import APPROVAL_EXAMPLE, ApprovalModel, Reason
from api.shapes import Name
from api.times import rfc3339
from headend.moment.campaign_feed import CampaignProgress
from headend.store.approvals import Approval
from headend.store.campaign_meters import Step
from headend.store.campaign_views import Named
from schemas.campaign import CampaignState, MeterProgress, Plan
from schemas.failure import Stage
from schemas.program import Program

_PROGRAM: Final[dict[str, Any]] = {"kind": "switch", "action": "disconnect", "reason": "arrears"}
_PLAN: Final[dict[str, Any]] = {"selection": {"meters": ["SIM00000001"]}, "urgent": True}
_CAMPAIGN: Final[dict[str, Any]] = {
    "id": 12,
    "program": 7,
    "title": "arrears of March",
    "state": "proposed",
    "reason": None,
    "wave": None,
    "waves": [{"wave": 1, "meters": 1, "states": {"waiting": 1}}],
    "plan": Plan.model_validate(_PLAN).model_dump(mode="json"),
    "digest": APPROVAL_EXAMPLE["digest"],
    "version": 1,
    "actor": "token:3 desk",
    "correlation_id": "4f0c1c3a",
    "created_at": "2026-03-01T08:00:00Z",
    "started_at": None,
    "ended_at": None,
}
_METER: Final[dict[str, Any]] = {
    "meter": "SIM00000001",
    "wave": 1,
    "state": "done",
    "step": "disconnect",
    "stage": None,
    "reason": None,
    "proof": {"control_state": "disconnected"},
    "began_at": "2026-03-01T09:00:00Z",
    "ended_at": "2026-03-01T09:00:02Z",
}
#: Events of a stream.
STREAM: Final = 'event: progress\ndata: {"id": 12, "state": "running", "wave": 1}\n\n'


class CampaignBody(BaseModel):
    """What is applied to whom: a ``program``, or the number of a stored one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"title": "arrears of March", "program": _PROGRAM, "plan": _PLAN}]},
    )

    title: Name
    program: Program | None = None
    program_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    plan: Plan

    @model_validator(mode="after")
    def _what(self) -> Self:
        if (self.program is None) == (self.program_id is None):
            raise ValueError("give a 'program', or the 'program_id' of a stored one: one of the two")
        return self


class ReasonBody(BaseModel):
    """Why; it goes into the audit trail."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "a storm is coming"}]}
    )

    reason: Reason


class WaveModel(BaseModel):
    """One wave; 0 are the canaries."""

    wave: int
    meters: int
    states: dict[MeterProgress, int] = Field(description="meters by state")


class CampaignModel(BaseModel):
    """A campaign, and where its meters stand."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CAMPAIGN]})

    id: int
    program: int = Field(description="the program's number")
    title: str
    state: CampaignState
    reason: str | None = Field(description="why it stands where it stands")
    wave: int | None = Field(description="the newest that has begun, 0 the canaries")
    waves: list[WaveModel]
    plan: Plan
    digest: str = Field(description="of program, plan and meters: what is approved")
    version: int
    actor: str
    correlation_id: str
    created_at: str
    started_at: str | None
    ended_at: str | None

    @staticmethod
    def fields(found: CampaignProgress) -> dict[str, Any]:
        """Of a stored campaign."""
        one = found.campaign
        return {
            "id": one.campaign_id,
            "program": one.program_id,
            "title": one.title,
            "state": one.state,
            "reason": one.reason,
            "wave": one.wave,
            "waves": [
                {"wave": wave, "meters": sum(states.values()), "states": states}
                for wave, states in sorted(found.waves.items())
            ],
            "plan": one.plan,
            "digest": one.digest.hex(),
            "version": one.version,
            "actor": one.actor,
            "correlation_id": one.correlation_id,
            "created_at": rfc3339(one.created_at),
            "started_at": None if one.started_at is None else rfc3339(one.started_at),
            "ended_at": None if one.ended_at is None else rfc3339(one.ended_at),
        }

    @classmethod
    def of(cls, found: CampaignProgress) -> Self:
        """As of now."""
        return cls.model_validate(cls.fields(found))


class CampaignDetail(CampaignModel):
    """The same with its approval: which, by whom it was given, or who may give it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CAMPAIGN | {"approval": APPROVAL_EXAMPLE}]})

    approval: ApprovalModel | None

    @classmethod
    def with_approval(cls, found: CampaignProgress, approval: Approval | None) -> Self:
        """As of now."""
        told = None if approval is None else ApprovalModel.of(approval)
        return cls.model_validate(cls.fields(found) | {"approval": told})


class CampaignPage(BaseModel):
    """One page of campaigns."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"campaigns": [_CAMPAIGN], "next": None}]})

    campaigns: list[CampaignModel]
    next: str | None = Field(description="cursor of the next page; null on the last")


class CampaignMeterModel(BaseModel):
    """Where one meter stands, with the proof of what was read back."""

    model_config = ConfigDict(json_schema_extra={"examples": [_METER]})

    meter: str = Field(description="asset id; of a concentrator its code")
    wave: int
    state: MeterProgress
    step: str | None = Field(description="the last that was begun")
    stage: Stage | None = Field(description="where an exchange with it failed")
    reason: str | None
    proof: dict[str, Any] | None
    began_at: str | None
    ended_at: str | None

    @staticmethod
    def fields(one: Named) -> dict[str, Any]:
        """As stored."""
        meter = one.meter
        return {
            "meter": one.name,
            "wave": meter.wave,
            "state": meter.state,
            "step": meter.step,
            "stage": meter.stage,
            "reason": meter.reason,
            "proof": meter.proof,
            "began_at": None if meter.began_at is None else rfc3339(meter.began_at),
            "ended_at": None if meter.ended_at is None else rfc3339(meter.ended_at),
        }

    @classmethod
    def of(cls, one: Named) -> Self:
        """As stored."""
        return cls.model_validate(cls.fields(one))


class CampaignMeterPage(BaseModel):
    """One page of a campaign's meters."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"meters": [_METER], "next": None}]})

    meters: list[CampaignMeterModel]
    next: str | None = Field(description="cursor of the next page; null on the last")


class StepModel(BaseModel):
    """A step at a meter: ``intended`` before its effect, ``done`` behind it, ``noted`` without one."""

    at: str
    step: str
    phase: str
    detail: dict[str, Any]

    @classmethod
    def of(cls, one: Step) -> Self:
        """As stored."""
        return cls(at=rfc3339(one.at), step=one.step, phase=one.phase, detail=dict(one.detail))


class CampaignMeterDetail(CampaignMeterModel):
    """The same with each step that was taken, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                _METER
                | {
                    "steps": [
                        {
                            "at": "2026-03-01T09:00:01Z",
                            "step": "disconnect",
                            "phase": "intended",
                            "detail": {},
                        },
                        {"at": "2026-03-01T09:00:02Z", "step": "disconnect", "phase": "done", "detail": {}},
                    ]
                }
            ]
        }
    )

    steps: list[StepModel]
