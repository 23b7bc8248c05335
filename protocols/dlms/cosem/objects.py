"""Names of attributes and methods, the classes that the head-end reads, and the objects every meter has."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocols.dlms.obis import Obis


class ClassId(IntEnum):
    """Interface classes that the head-end knows."""

    DATA = 1
    REGISTER = 3
    EXTENDED_REGISTER = 4
    DEMAND_REGISTER = 5
    REGISTER_ACTIVATION = 6
    PROFILE_GENERIC = 7
    CLOCK = 8
    SCRIPT_TABLE = 9
    SPECIAL_DAYS_TABLE = 11
    ASSOCIATION_LN = 15
    SAP_ASSIGNMENT = 17
    IMAGE_TRANSFER = 18
    SINGLE_ACTION_SCHEDULE = 22
    ACTIVITY_CALENDAR = 20
    REGISTER_MONITOR = 21
    PUSH_SETUP = 40
    SECURITY_SETUP = 64
    DISCONNECT_CONTROL = 70
    LIMITER = 71


@dataclass(frozen=True, slots=True, order=True)
class Attribute:
    """One attribute of one object: cosem-attribute-descriptor. ``index`` 1: the logical name, 0: all."""

    class_id: int
    obis: Obis
    index: int

    def __str__(self) -> str:
        return f"{self.class_id}/{self.obis}/{self.index}"


@dataclass(frozen=True, slots=True, order=True)
class Method:
    """One method of one object: cosem-method-descriptor."""

    class_id: int
    obis: Obis
    index: int

    def __str__(self) -> str:
        return f"{self.class_id}/{self.obis}/method {self.index}"


CLOCK_TIME: Final = Attribute(ClassId.CLOCK, Obis.parse("0-0:1.0.0*255"), 2)
CURRENT_ASSOCIATION: Final = Obis.parse("0-0:40.0.0*255")
LOGICAL_DEVICE_NAME: Final = Attribute(ClassId.DATA, Obis.parse("0-0:42.0.0*255"), 2)
SAP_ASSIGNMENT_LIST: Final = Attribute(ClassId.SAP_ASSIGNMENT, Obis.parse("0-0:41.0.0*255"), 2)
#: HLS step 3 and 4: reply_to_HLS_authentication of the current association.
REPLY_TO_HLS: Final = Method(ClassId.ASSOCIATION_LN, CURRENT_ASSOCIATION, 1)
