"""Data as trees that people write and JSON holds: one key a node, its type.

`schemas.programs.parameter_value` checks them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType

_INTEGERS: Final[Mapping[str, DataType]] = MappingProxyType(
    {
        "i8": DataType.INTEGER, "i16": DataType.LONG, "i32": DataType.DOUBLE_LONG, "i64": DataType.LONG64,
        "u8": DataType.UNSIGNED, "u16": DataType.LONG_UNSIGNED, "u32": DataType.DOUBLE_LONG_UNSIGNED,
        "u64": DataType.LONG64_UNSIGNED, "enum": DataType.ENUM,
    }
)  # fmt: skip
_NAMES: Final = {type_: name for name, type_ in _INTEGERS.items()}
_TIMES: Final = frozenset({DataType.DATE_TIME, DataType.DATE, DataType.TIME})


def data_of(value: Mapping[str, Any]) -> Data:
    """The Data of a checked tree. Raises KeyError for a type that no tree has."""
    ((kind, content),) = value.items()
    match kind:
        case "array":
            return axdr.array(data_of(one) for one in content)
        case "structure":
            return axdr.structure(*(data_of(one) for one in content))
        case "octets":
            return axdr.octets(bytes.fromhex(content))
        case "text":
            return axdr.visible(content)
        case "bits":
            return axdr.bits(content)
        case "boolean":
            return axdr.boolean(content)
        case "null":
            return axdr.NULL
        case _:
            return Data(_INTEGERS[kind], content)


def plain(data: Data) -> dict[str, Any]:
    """The tree of any Data. What no tree of ours writes (floats, BCD, deltas) is named by its type, as hex of
    its A-XDR bytes."""
    match data.type:
        case DataType.ARRAY | DataType.STRUCTURE:
            kind = "array" if data.type is DataType.ARRAY else "structure"
            return {kind: [plain(one) for one in data.value]}
        case DataType.COMPACT_ARRAY:
            return {"array": [plain(one) for one in data.value.elements]}
        case DataType.OCTET_STRING:
            return {"octets": data.value.hex().upper()}
        case DataType.VISIBLE_STRING if data.value.isascii():
            return {"text": data.value}
        case DataType.BIT_STRING:
            return {"bits": str(data.value)}
        case DataType.BOOLEAN:
            return {"boolean": data.value}
        case DataType.NULL:
            return {"null": True}
        case _ if data.type in _NAMES:
            return {_NAMES[data.type]: data.value}
        case _ if data.type in _TIMES:
            return {data.type.name.lower(): data.value.hex().upper()}
        case _:
            return {data.type.name.lower(): axdr.encode(data).hex().upper()}


def is_same(wanted: Data, found: Data) -> bool:
    """Whether both say the same: integers by value in whatever width, strings and times by their octets,
    compact arrays by their elements."""
    return _essence(wanted) == _essence(found)


def _essence(data: Data) -> object:
    match data.type:
        case DataType.ARRAY | DataType.STRUCTURE:
            return (data.type is DataType.ARRAY, tuple(_essence(one) for one in data.value))
        case DataType.COMPACT_ARRAY:
            return (True, tuple(_essence(one) for one in data.value.elements))
        case _ if data.type in _NAMES:
            return data.value
        case DataType.OCTET_STRING | DataType.DATE_TIME | DataType.DATE | DataType.TIME:
            return ("octets", bytes(data.value))
        case DataType.VISIBLE_STRING:
            return ("octets", data.value.encode("latin-1"))
        case DataType.BOOLEAN:
            return ("boolean", data.value)
        case _:
            return (data.type, axdr.encode(data))
