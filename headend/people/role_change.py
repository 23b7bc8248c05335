"""Somebody wants an account to have other roles: a second person approves, but of the first administrator."""

from collections.abc import Iterable
from datetime import datetime

from headend.approvals import four_eyes
from headend.approvals.policy import Policy
from headend.people import changes
from headend.people.role_subject import RoleSubject, digest_of, shown, subject_of
from headend.store import accounts, audit
from headend.store.accounts import Account
from headend.store.approvals import Approval, ApprovalState
from headend.store.sql import Connection
from schemas.people import Grant, Permission, Principal


async def ask_roles(
    connection: Connection,
    account: Account,
    grants: Iterable[Grant],
    who: Principal,
    *,
    policy: Policy,
    now: datetime,
) -> Approval | None:
    """Put it before a second person: the approval that waits; None where the account has them now.

    Raises ConflictError for an area that is none, LastAdministrator, and where another change of the same
    account waits.
    """
    wanted = sorted(set(grants), key=str)
    async with connection.transaction():
        await accounts.lock(connection, account.account_id)
        account = await accounts.get(connection, account.account_id)
        if tuple(wanted) == tuple(sorted(account.grants, key=str)):
            return None
        if not await changes.needs_second(connection, account, wanted):
            await changes.set_grants(connection, account, wanted, actor=who.actor)
            return None
        await accounts.check_areas(connection, wanted)
        step = shown(account, wanted)
        approval = await four_eyes.ask(
            connection,
            subject_of(account),
            digest_of(step),
            step,
            who,
            needs=Permission.PEOPLE,
            policy=policy,
            kind="role",
            now=now,
        )
        await audit.record(
            connection,
            actor=who.actor,
            action="account.roles.ask",
            object_=f"account:{account.login}",
            detail={"from": step["from"], "to": step["to"], "approval": approval.approval_id},
        )
        if approval.state is ApprovalState.APPROVED:
            await RoleSubject().approved(connection, approval)
            return None
    return approval
