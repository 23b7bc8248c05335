"""Script Table (class 9, version 0): what happens when a script is run, by its identifier.

Attribute 2 is the table, method 1 runs a script. Written after the Blue Book's definition of the class; its
clause is not at hand here.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import elements_of, fields_of, logical_name_of, natural_within
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

SCRIPTS: Final = 2
EXECUTE: Final = 1


class Service(IntEnum):
    """What an action does to its attribute, or method."""

    WRITE = 1
    EXECUTE = 2


class ScriptAction(NamedTuple):
    """action_specification: ``member``: which attribute or method."""

    service: Service
    class_id: int
    obis: Obis
    member: int
    parameter: Data

    def encode(self) -> Data:
        """A structure of five."""
        return axdr.structure(
            axdr.enum(self.service),
            axdr.u16(self.class_id),
            axdr.octets(self.obis.raw),
            axdr.i8(self.member),
            self.parameter,
        )

    @classmethod
    def decode(cls, data: Data) -> "ScriptAction":
        """Raises RemoteProtocolError."""
        service, class_id, obis, member, parameter = fields_of(data, 5, "action_specification")
        number = natural_within(service, "service_id", 0, 0xFF)
        if number not in (Service.WRITE, Service.EXECUTE):
            raise RemoteProtocolError(f"service_id {number} is neither write (1) nor execute (2)")
        return cls(
            Service(number),
            natural_within(class_id, "class_id", 0, 0xFFFF),
            logical_name_of(obis),
            natural_within(member, "index", 0, 0x7F),
            parameter,
        )


class Script(NamedTuple):
    """script: its identifier, which selectors name, and its actions."""

    identifier: int
    actions: tuple[ScriptAction, ...]

    def encode(self) -> Data:
        """A structure of long-unsigned and an array."""
        return axdr.structure(axdr.u16(self.identifier), axdr.array(one.encode() for one in self.actions))

    @classmethod
    def decode(cls, data: Data) -> "Script":
        """Raises RemoteProtocolError."""
        number, actions = fields_of(data, 2, "script")
        return cls(
            natural_within(number, "script_identifier", 0, 0xFFFF),
            tuple(ScriptAction.decode(one) for one in elements_of(actions, "actions")),
        )


def scripts(data: Data) -> tuple[Script, ...]:
    """Attribute scripts. Raises RemoteProtocolError."""
    return tuple(map(Script.decode, elements_of(data, "scripts")))
