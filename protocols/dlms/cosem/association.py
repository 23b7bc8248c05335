"""Association LN and SAP Assignment: which objects and which logical devices there are."""

from dataclasses import dataclass

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem.forms import elements_of, fields_of, integer_of, logical_name_of, natural_of, text
from protocols.dlms.obis import Obis


@dataclass(frozen=True, slots=True)
class AttributeAccess:
    """Access mode as sent: an enum before version 3 of the class, bits since; the ``selectors`` allowed."""

    index: int
    mode: int
    selectors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodAccess:
    """Access mode of a method as sent (versions 0 wrote a boolean: 0 or 1)."""

    index: int
    mode: int


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object that the association can see."""

    class_id: int
    version: int
    obis: Obis
    attributes: tuple[AttributeAccess, ...]
    methods: tuple[MethodAccess, ...]

    @classmethod
    def decode(cls, data: Data) -> "ObjectEntry":
        """From one element of object_list."""
        class_id, version, name, rights = fields_of(data, 4, "object list element")
        attributes, methods = fields_of(rights, 2, "access rights")
        return cls(
            integer_of(class_id, "class id"),
            integer_of(version, "version"),
            logical_name_of(name),
            tuple(_attribute_access(item) for item in elements_of(attributes, "attribute access")),
            tuple(_method_access(item) for item in elements_of(methods, "method access")),
        )

    def encode(self) -> Data:
        """As an element of object_list."""
        attributes = axdr.array(
            axdr.structure(
                axdr.i8(item.index),
                axdr.enum(item.mode),
                axdr.array(axdr.i8(s) for s in item.selectors) if item.selectors else axdr.NULL,
            )
            for item in self.attributes
        )
        methods = axdr.array(
            axdr.structure(axdr.i8(item.index), axdr.enum(item.mode)) for item in self.methods
        )
        name = axdr.octets(self.obis.raw)
        rights = axdr.structure(attributes, methods)
        return axdr.structure(axdr.u16(self.class_id), axdr.u8(self.version), name, rights)


def _attribute_access(data: Data) -> AttributeAccess:
    index, mode, selectors = fields_of(data, 3, "attribute access")
    allowed = () if selectors.type is DataType.NULL else elements_of(selectors, "access selectors")
    return AttributeAccess(
        integer_of(index, "attribute index"),
        integer_of(mode, "access mode"),
        tuple(integer_of(item, "access selector") for item in allowed),
    )


def _method_access(data: Data) -> MethodAccess:
    index, mode = fields_of(data, 2, "method access")
    if mode.type is DataType.BOOLEAN:
        return MethodAccess(integer_of(index, "method index"), int(mode.value))
    return MethodAccess(integer_of(index, "method index"), integer_of(mode, "access mode"))


def object_list(data: Data) -> tuple[ObjectEntry, ...]:
    """Attribute object_list of Association LN."""
    return tuple(ObjectEntry.decode(item) for item in elements_of(data, "object_list"))


@dataclass(frozen=True, slots=True)
class LogicalDevice:
    """One server SAP and the name of the logical device behind it."""

    sap: int
    name: str


def sap_assignment_list(data: Data) -> tuple[LogicalDevice, ...]:
    """Attribute SAP_assignment_list."""
    devices = []
    for item in elements_of(data, "SAP_assignment_list"):
        sap, name = fields_of(item, 2, "SAP assignment")
        devices.append(LogicalDevice(natural_of(sap, "SAP"), text(name)))
    return tuple(devices)
