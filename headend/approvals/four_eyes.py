"""Something is put before a second person, who decides.

::

    ask ──> waiting ──> approved ──> its subject goes on
              │  │ └──> refused ───> its subject does not
              │  └────> expired      nobody decided in time
              └───────> void         it is not what was shown any longer

The approver is another person than the requester: another account, and another actor. Who has no account (the
host's bare command line, a token of nobody) may ask and never approve; nor does anybody decide of his own
roles, whoever asked for them. He has the permission `approve` and
that of the kind, names the digest of what he saw, and what he saw is compared with what is there. Each
decision is audited, and each refused one.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from headend.approvals.policy import Policy
from headend.approvals.subjects import SUBJECTS, Subject
from headend.people.role_subject import is_own
from headend.session.access import Connect
from headend.store import approvals, audit
from headend.store.approvals import Approval, ApprovalState
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from schemas.people import Permission, Principal

#: Who decides where the policy asks for nobody.
BY_POLICY: Final = "policy"
_AT_ONCE: Final = 100


class NotYours(Exception):
    """Whoever decides is not the one who may: who may instead."""


class Changed(ConflictError):
    """What was to be approved is not what is there now, or waits no longer."""


async def ask(
    connection: Connection,
    subject: str,
    digest: bytes,
    shown: Mapping[str, Any],
    principal: Principal,
    *,
    needs: Permission,
    policy: Policy,
    kind: str,
    now: datetime,
) -> Approval:
    """Put it before a second person; where the ``policy`` asks for none for the ``kind``, it is approved by
    the policy itself, and its subject is yet to be told. In a transaction.

    ``needs`` is what the approver must be permitted beside to approve. Raises ConflictError where the subject
    waits already.
    """
    is_needed = policy.needs(kind)
    number = await approvals.add(
        connection,
        subject=subject,
        needs=needs,
        digest=digest,
        shown=shown,
        principal=principal,
        expires_at=now + policy.waits,
        state=ApprovalState.WAITING if is_needed else ApprovalState.APPROVED,
        decided_by=None if is_needed else BY_POLICY,
        reason=None if is_needed else f"four_eyes does not name {kind}",
    )
    await audit.record(
        connection,
        actor=principal.actor,
        action="approval.ask" if is_needed else "approval.not_needed",
        object_=subject,
        detail={"approval": number, "digest": digest.hex(), "needs": needs},
    )
    return await approvals.find(connection, number)


async def decide(
    connect: Connect,
    approval_id: int,
    principal: Principal,
    *,
    approve: bool,
    seen: bytes,
    reason: str | None,
    now: datetime,
) -> Approval:
    """Approve or refuse what has the digest ``seen``; its subject goes on, or does not, in the same
    transaction.

    Raises NotYours where he may not (audited), Changed where it is not what he saw or waits no longer
    (audited; the approval is void then), UnknownError.
    """
    async with connect() as connection:
        found = await approvals.find(connection, approval_id)
        why, stale = why_not(found, principal), None
        if why is None:
            # the subject is locked before its approval, as by whoever changes the subject
            there = await _subject(found).digest(connection, found.subject)
            found = await approvals.lock(connection, approval_id)
            stale = await _stale(connection, found, seen, there, now)
            if stale is None:
                await _settle(connection, found, principal, approve=approve, reason=reason)
                return await approvals.find(connection, approval_id)
        await audit.record(
            connection,
            actor=principal.actor,
            action="approval.refused",
            object_=found.subject,
            detail={"approval": approval_id, "approve": approve, "why": why or stale},
        )
    if why is not None:
        raise NotYours(why)
    raise Changed(stale or "")


async def void(connection: Connection, subject: str, *, reason: str, actor: str) -> None:
    """Nothing of the subject is approved any longer, or waits for it. In a transaction."""
    for number in await approvals.void(connection, subject, reason=reason):
        await audit.record(
            connection,
            actor=actor,
            action="approval.void",
            object_=subject,
            detail={"approval": number, "why": reason},
        )


async def expire(connection: Connection, now: datetime) -> int:
    """What nobody decided in time is over; how many. In a transaction."""
    overdue = await approvals.overdue(connection, now=now, limit=_AT_ONCE)
    for number in overdue:
        found = await approvals.find(connection, number)
        await _subject(found).digest(connection, found.subject)
        found = await approvals.lock(connection, number)
        if found.state is ApprovalState.WAITING:
            await _over(connection, found, ApprovalState.EXPIRED, "nobody decided in time")
    return len(overdue)


def why_not(approval: Approval, principal: Principal) -> str | None:
    """Why he may not decide of it; None where he may."""
    if principal.account is None:
        return (
            "who approves is a person with an account: the host's command line and tokens of nobody cannot; "
            "log in (`headend login`, or the API's session)"
        )
    if principal.account == approval.requested_account or principal.actor == approval.requested_by:
        return "who asked for it cannot approve it: another person with the permission has to"
    if is_own(approval, principal.account):
        return "nobody decides of his own roles, whoever asked for them: another person has to"
    lacking = [one for one in (Permission.APPROVE, approval.needs) if not principal.may(one)]
    if lacking:
        return f"deciding of this needs the permissions {Permission.APPROVE} and {approval.needs}"
    if principal.at(Permission.APPROVE, approval.needs).areas is not None:
        return "who is limited to areas cannot decide what is done to meters that may lie elsewhere"
    return None


async def _stale(
    connection: Connection, approval: Approval, seen: bytes, there: bytes | None, now: datetime
) -> str | None:
    """Why there is nothing to decide any longer; what has changed meanwhile is void."""
    if approval.state is not ApprovalState.WAITING:
        return f"approval {approval.approval_id} waits no longer: it is {approval.state}"
    if not hmac.compare_digest(seen, approval.digest):
        return "that is not the digest of what is to be approved: look at it again"
    if approval.expires_at <= now:
        why = "nobody decided in time: propose it again"
        await _over(connection, approval, ApprovalState.EXPIRED, why)
        return why
    if there is None or not hmac.compare_digest(there, approval.digest):
        why = "it was changed since it was put forward: propose it again"
        await _over(connection, approval, ApprovalState.VOID, why)
        return why
    return None


async def _settle(
    connection: Connection, approval: Approval, principal: Principal, *, approve: bool, reason: str | None
) -> None:
    state = ApprovalState.APPROVED if approve else ApprovalState.REFUSED
    await approvals.decide(
        connection,
        approval.approval_id,
        state,
        by=principal.actor,
        account=principal.account,
        reason=reason,
    )
    await audit.record(
        connection,
        actor=principal.actor,
        action="approval.approve" if approve else "approval.refuse",
        object_=approval.subject,
        detail={"approval": approval.approval_id, "digest": approval.digest.hex(), "reason": reason},
    )
    if approve:
        await _subject(approval).approved(connection, approval)
    else:
        told = f"refused by {principal.actor}" + (f": {reason}" if reason else "")
        await _subject(approval).refused(connection, approval, told)


async def _over(connection: Connection, approval: Approval, state: ApprovalState, why: str) -> None:
    await approvals.decide(connection, approval.approval_id, state, by=BY_POLICY, account=None, reason=why)
    await audit.record(
        connection,
        actor=BY_POLICY,
        action=f"approval.{state}",
        object_=approval.subject,
        detail={"approval": approval.approval_id, "why": why},
    )
    await _subject(approval).refused(connection, approval, why)


def _subject(approval: Approval) -> Subject:
    return SUBJECTS[approval.subject.partition(":")[0]]
