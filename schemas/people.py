"""Who may do what: permissions, and the roles that are sets of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from schemas.program import ProgramKind


class Permission(StrEnum):
    """One thing that a person or a program may do."""

    READ = "read"  # see meters, readings, events, jobs, campaigns
    OPERATE = "operate"  # read meters, schedules, groups, points: what the scope ``operate`` allowed
    ADMINISTER = "administer"  # what the scope ``admin`` allowed beside people
    CLOCK = "program.clock"
    TARIFF = "program.tariff"
    FIRMWARE = "program.firmware"
    SWITCH = "program.switch"
    LIMIT = "program.limit"
    KEYS = "program.keys"
    PARAMETERS = "program.parameters"
    APPROVE = "approve"  # what others have asked for, of the kinds that one may ask for oneself
    STOP = "emergency_stop"
    AUDIT = "audit"  # read and verify the audit trail
    PEOPLE = "people"  # accounts, roles, tokens of others


#: What asking for a program of each kind takes.
OF_PROGRAM: Final[Mapping[ProgramKind, Permission]] = MappingProxyType(
    {kind: Permission(f"program.{kind}") for kind in ProgramKind}
)


class Role(StrEnum):
    """A set of permissions."""

    VIEWER = "viewer"
    METERING_ENGINEER = "metering_engineer"
    OPERATOR = "operator"
    BILLING = "billing"
    SECURITY_OFFICER = "security_officer"
    ADMINISTRATOR = "administrator"


_P = Permission
ROLES: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType(
    {
        Role.VIEWER: frozenset({_P.READ}),
        Role.BILLING: frozenset({_P.READ, _P.TARIFF, _P.APPROVE}),
        Role.METERING_ENGINEER: frozenset(
            {_P.READ, _P.OPERATE, _P.CLOCK, _P.TARIFF, _P.FIRMWARE, _P.PARAMETERS, _P.APPROVE}
        ),
        Role.OPERATOR: frozenset({_P.READ, _P.OPERATE, _P.CLOCK, _P.SWITCH, _P.LIMIT, _P.STOP, _P.APPROVE}),
        Role.SECURITY_OFFICER: frozenset({_P.READ, _P.KEYS, _P.AUDIT, _P.STOP, _P.APPROVE}),
        Role.ADMINISTRATOR: frozenset(
            {_P.READ, _P.OPERATE, _P.ADMINISTER, _P.PEOPLE, _P.AUDIT, _P.STOP, _P.APPROVE}
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. ``actor`` is how the audit trail names him; ``account`` the number of the account that is
    behind it, whatever it came by (None: a token of nobody, or the host's own command line), and so what must
    differ between who asks and who approves. ``areas``: names of groups and codes of stations that it is
    limited to; None: everything."""

    actor: str
    permissions: frozenset[Permission]
    account: int | None = None
    areas: frozenset[str] | None = None

    def may(self, permission: Permission) -> bool:
        """Whether he has it."""
        return permission in self.permissions
