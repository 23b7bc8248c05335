"""What is approved of: which state it is in now, and what becomes of it with the decision.

A subject is named ``campaign:12``: what stands before the colon says who knows of it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from headend.approvals.campaigns import CampaignSubject
from headend.people.role_subject import RoleSubject
from headend.store.approvals import Approval
from headend.store.sql import Connection
from headend.switching.mass import MassDisconnection
from headend.switching.rules import MASS


class Subject(Protocol):
    """One sort of things that are approved of."""

    async def digest(self, connection: Connection, name: str) -> bytes | None:
        """The digest of what is there now, kept from change until the transaction ends; None where it is
        there no longer, or waits for nobody's approval."""

    async def approved(self, connection: Connection, approval: Approval) -> None:
        """It may be done. In the decision's transaction."""

    async def refused(self, connection: Connection, approval: Approval, reason: str) -> None:
        """It shall not be done: refused by a person, changed since, or out of time. In the transaction."""


#: By what stands before the colon.
SUBJECTS: Final[Mapping[str, Subject]] = MappingProxyType(
    {"campaign": CampaignSubject(), MASS: MassDisconnection(), "role": RoleSubject()}
)
