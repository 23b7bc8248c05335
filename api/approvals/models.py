"""Approvals as the API tells them."""

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from api.times import rfc3339
from headend.store.approvals import Approval, ApprovalState
from schemas.people import Permission, approver
from schemas.text import Name

_DIGEST: Final = "0d4e2f3a9b2e61a0c86e4f5cbd6f4a0e5a2f8e6f1f6c6a3c1f0d9f4b7a8c2d3e"
APPROVAL_EXAMPLE: Final[dict[str, Any]] = {
    "id": 9,
    "subject": "campaign:12",
    "state": "waiting",
    "who_may": approver(Permission.SWITCH),
    "needs": "program.switch",
    "digest": _DIGEST,
    "shown": {
        "title": "arrears of March",
        "kind": "switch",
        "program": {"kind": "switch", "action": "disconnect", "reason": "arrears"},
        "meters": 1,
        "models": {"headend-sim": 1},
        "first": ["SIM00000001"],
    },
    "requested_by": "token:3 desk",
    "requested_at": "2026-03-01T08:00:00Z",
    "expires_at": "2026-03-04T08:00:00Z",
    "decided_by": None,
    "decided_at": None,
    "reason": None,
}
Digest = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        max_length=64,
        description="the digest of what was seen",
        examples=[_DIGEST],
    ),
]
Reason = Annotated[Name, Field(max_length=128)]


class ApprovalModel(BaseModel):
    """What waits for a second person, or how he decided. ``shown`` is exactly what will be done;
    ``digest`` is named by whoever decides, and any change of what is behind it voids the approval."""

    model_config = ConfigDict(json_schema_extra={"examples": [APPROVAL_EXAMPLE]})

    id: int
    subject: str
    state: ApprovalState
    who_may: str
    needs: Permission = Field(description="beside approve")
    digest: str
    shown: dict[str, Any]
    requested_by: str
    requested_at: str
    expires_at: str
    decided_by: str | None
    decided_at: str | None
    reason: str | None

    @classmethod
    def of(cls, one: Approval) -> Self:
        """As stored."""
        return cls(
            id=one.approval_id,
            subject=one.subject,
            state=one.state,
            who_may=approver(one.needs),
            needs=one.needs,
            digest=one.digest.hex(),
            shown=dict(one.shown),
            requested_by=one.requested_by,
            requested_at=rfc3339(one.created_at),
            expires_at=rfc3339(one.expires_at),
            decided_by=one.decided_by,
            decided_at=None if one.decided_at is None else rfc3339(one.decided_at),
            reason=one.reason,
        )


class ApprovalPage(BaseModel):
    """One page of approvals."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"approvals": [APPROVAL_EXAMPLE], "next": None}]}
    )

    approvals: list[ApprovalModel]
    next: str | None = Field(description="cursor of the next page; null on the last")


class ApproveBody(BaseModel):
    """Exactly what has this digest is approved."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"digest": _DIGEST}]})

    digest: Digest
    reason: Reason | None = None


class RefuseBody(BaseModel):
    """It shall not be done; whoever asked reads why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"digest": _DIGEST, "reason": "the customer has paid"}]},
    )

    digest: Digest
    reason: Reason
