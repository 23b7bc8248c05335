"""Register Activation (class 6, version 0): which of a set of registers count, by masks with names.

Attribute 2 is the set, 3 the masks, 4 the name of the mask that holds now. Written after the Blue Book's
definition of the class; its clause is not at hand here.
"""

from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import elements_of, fields_of, logical_name_of, natural_within, octets_of
from protocols.dlms.obis import Obis

ASSIGNMENT: Final = 2
MASKS: Final = 3
ACTIVE_MASK: Final = 4


class Assigned(NamedTuple):
    """object_definition: a register of the set."""

    class_id: int
    obis: Obis

    def encode(self) -> Data:
        """A structure of long-unsigned and octet-string."""
        return axdr.structure(axdr.u16(self.class_id), axdr.octets(self.obis.raw))

    @classmethod
    def decode(cls, data: Data) -> "Assigned":
        """Raises RemoteProtocolError."""
        class_id, obis = fields_of(data, 2, "object_definition")
        return cls(natural_within(class_id, "class_id", 0, 0xFFFF), logical_name_of(obis))


class Mask(NamedTuple):
    """register_act_mask: its name, and the registers by their places in the set, from 1."""

    name: bytes
    places: tuple[int, ...]

    def encode(self) -> Data:
        """A structure of octet-string and an array of unsigned."""
        return axdr.structure(axdr.octets(self.name), axdr.array(axdr.u8(one) for one in self.places))

    @classmethod
    def decode(cls, data: Data) -> "Mask":
        """Raises RemoteProtocolError."""
        name, places = fields_of(data, 2, "register_act_mask")
        return cls(
            octets_of(name, "mask_name"),
            tuple(natural_within(one, "index", 0, 0xFF) for one in elements_of(places, "index_list")),
        )


def assignment(data: Data) -> tuple[Assigned, ...]:
    """Attribute register_assignment. Raises RemoteProtocolError."""
    return tuple(map(Assigned.decode, elements_of(data, "register_assignment")))


def masks(data: Data) -> tuple[Mask, ...]:
    """Attribute mask_list. Raises RemoteProtocolError."""
    return tuple(map(Mask.decode, elements_of(data, "mask_list")))
