"""Other roles of an account, under four eyes: what is approved of is the step from these roles to those.

What is wanted stands in the approval itself. Where the account's roles have changed meanwhile, by whatever
way, the step is another one, and the approval is void.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from headend.people import changes
from headend.store import accounts, approvals
from headend.store.accounts import Account
from headend.store.approvals import Approval, ApprovalState
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from schemas.people import Grant
from schemas.program import canonical


class RoleSubject:
    """See `headend.approvals.subjects.Subject`."""

    async def digest(self, connection: Connection, name: str) -> bytes | None:
        """Of the account's roles now and of those that it shall have."""
        waiting = await approvals.newest(connection, name)
        if waiting is None or waiting.state is not ApprovalState.WAITING:
            return None
        try:
            account = await _locked(connection, name)
        except UnknownError:
            return None
        return digest_of(shown(account, _wanted(waiting)))

    async def approved(self, connection: Connection, approval: Approval) -> None:
        """It has them from now on."""
        account = await _locked(connection, approval.subject)
        await changes.set_grants(
            connection,
            account,
            _wanted(approval),
            actor=f"approval:{approval.approval_id}",
            asked_by=approval.requested_by,
        )

    async def refused(self, connection: Connection, approval: Approval, reason: str) -> None:
        """It keeps those that it has."""


def subject_of(account: Account) -> str:
    """As approvals and the audit trail name it."""
    return f"role:{account.login}"


def shown(account: Account, wanted: Iterable[Grant]) -> dict[str, Any]:
    """Exactly what will be done, for people: JSON."""
    return {
        "account": account.account_id,
        "login": account.login,
        "title": account.title,
        "from": [str(one) for one in account.grants],
        "to": sorted({str(one) for one in wanted}),
    }


def is_own(approval: Approval, account: int) -> bool:
    """Whether it is the roles of this account that would change: whoever asked, nobody decides of his own."""
    return approval.subject.startswith("role:") and approval.shown["account"] == account


def digest_of(step: dict[str, Any]) -> bytes:
    """Of what is shown."""
    return hashlib.sha256(canonical(step)).digest()


async def _locked(connection: Connection, subject: str) -> Account:
    account = await accounts.by_login(connection, subject.partition(":")[2])
    await accounts.lock(connection, account.account_id)
    return await accounts.get(connection, account.account_id)


def _wanted(approval: Approval) -> list[Grant]:
    return [Grant.parse(one) for one in approval.shown["to"]]
