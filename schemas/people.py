"""Who may do what: permissions, and the roles that are sets of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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


def lacking(*any_of: Permission) -> str:
    """What somebody is told who has none of these permissions: which roles have one."""
    roles = [role for role, has in ROLES.items() if has.intersection(any_of)]
    return f"this needs the permission {' or '.join(sorted(any_of))}, of a role that is {' or '.join(roles)}"


def approver(needs: Permission) -> str:
    """Who may approve of what needs this permission beside `Permission.APPROVE`."""
    roles = [role for role, has in ROLES.items() if has.issuperset({Permission.APPROVE, needs})]
    return f"another person with the permissions {Permission.APPROVE} and {needs}: {' or '.join(roles)}"


#: A login: lower case, so that no two differ by that alone; it stands in paths of the API.
LOGIN_PATTERN: Final = r"^[a-z0-9][a-z0-9._@+-]{0,63}$"


class AccountState(StrEnum):
    """Whether a person may act: locked for now, disabled for good (its entries in the audit trail stay)."""

    ACTIVE = "active"
    LOCKED = "locked"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A role, and where: the name of a group or the code of a concentrator, gateway or substation; ``area``
    None: everywhere."""

    role: Role
    area: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Grant":
        """``role`` or ``role:area``. Raises ValueError naming the roles."""
        name, colon, area = text.partition(":")
        try:
            role = Role(name)
        except ValueError:
            raise ValueError(f"{name!r} is no role: they are {', '.join(Role)}") from None
        if colon and not area:
            raise ValueError(f"{text!r} names no area behind its colon: leave the colon out for everywhere")
        return cls(role, area or None)

    def __str__(self) -> str:
        return self.role if self.area is None else f"{self.role}:{self.area}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. ``actor`` is how the audit trail names him; ``account`` the number of the account that is
    behind it, whatever it came by (None: a token of nobody, or the host's own command line), and so what must
    differ between who asks and who approves. ``areas``: names of groups and codes of stations that it is
    limited to; None: everything. Where roles of one person are limited to different areas, ``areas`` is what
    they have in common, and ``at`` tells those of one permission. ``token``: the number of the API token."""

    actor: str
    permissions: frozenset[Permission]
    account: int | None = None
    areas: frozenset[str] | None = None
    grants: tuple[Grant, ...] = ()
    token: int | None = None

    def may(self, permission: Permission) -> bool:
        """Whether he has it."""
        return permission in self.permissions

    def at(self, *permissions: Permission) -> "Principal":
        """The same one, ``areas`` being where he has all of these permissions."""
        if not self.grants:
            return self
        areas: frozenset[str] | None = None
        for permission in permissions:
            where = {one.area for one in self.grants if permission in ROLES[one.role]}
            if None not in where:
                named = frozenset(area for area in where if area is not None)
                areas = named if areas is None else areas & named
        return replace(self, areas=areas)
