"""Values of parameters as people write them: a tree with one key a node, its type, and short forms.

::

    { u32 = 900 }    { enum = 1 }    { octets = "0A1B" }    { text = "sim" }    { bits = "101" }
    { structure = [ { u16 = 3 }, { obis = "1-0:1.8.0*255" } ] }    { array = [] }    { null = true }

Short forms become such trees when a program is read, so that two spellings of one value are one program:

======================================================  ==============================================
``{ obis = "1-0:1.8.0*255" }``                          the six octets
``{ objects = [{class_id, obis, attribute, index}] }``  columns of a profile (7), push_object_list (40)
``{ destination = {service, address, message} }``       send_destination_and_method (40)
``{ windows = [{from, to}] }``                          communication_window (40)
======================================================  ==============================================

Times of windows are local, ``2026-03-01T22:00:00``, with ``*`` for each part that is any: ``*-*-*T22:00:00``.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from schemas.obis_pattern import check_obis

#: Nesting, and nodes of one value: no parameter of a meter comes near.
_MOST_DEPTH: Final = 12
_MOST_NODES: Final = 2000
_LONGEST: Final = 65_536

#: Integers by their type: bounds.
INTEGERS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "i8": (-(2**7), 2**7 - 1), "i16": (-(2**15), 2**15 - 1), "i32": (-(2**31), 2**31 - 1),
        "i64": (-(2**63), 2**63 - 1), "u8": (0, 2**8 - 1), "u16": (0, 2**16 - 1), "u32": (0, 2**32 - 1),
        "u64": (0, 2**64 - 1), "enum": (0, 255),
    }
)  # fmt: skip
_MOMENT: Final = re.compile(
    r"(\d{4}|\*)-(\d\d|\*)-(\d\d|\*)T(\d\d|\*):(\d\d|\*):(\d\d|\*)", re.ASCII
)  # fmt: skip


def typed(value: Any) -> dict[str, Any]:
    """The tree that is meant, short forms written out. Raises ValueError with the place."""
    nodes = [0]
    return _node(value, "value", 0, nodes)


def _node(value: Any, where: str, depth: int, nodes: list[int]) -> dict[str, Any]:
    nodes[0] += 1
    if nodes[0] > _MOST_NODES or depth > _MOST_DEPTH:
        raise ValueError(f"{where}: the value is too large")
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f'{where}: a value is a table with one key, its type, as in {{"u32": 900}}')
    (kind, content), *_ = value.items()
    if kind in ("array", "structure"):
        if not isinstance(content, list | tuple):
            raise ValueError(f"{where}.{kind}: a list of values")
        parts = [_node(one, f"{where}.{kind}[{n}]", depth + 1, nodes) for n, one in enumerate(content)]
        return {kind: parts}
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        if not isinstance(content, int) or isinstance(content, bool) or not low <= content <= high:
            raise ValueError(f"{where}.{kind}: an integer of {low} to {high}")
        return {kind: content}
    short = _SHORT.get(kind)
    if short is not None:
        return _node(short(content, f"{where}.{kind}"), where, depth, nodes)
    check = _PLAIN.get(kind)
    if check is None:
        known = ", ".join([*INTEGERS, *_PLAIN, "array", "structure", *_SHORT])
        raise ValueError(f"{where}: {kind!r} is no type; known: {known}")
    return {kind: check(content, f"{where}.{kind}")}


def _hex(content: Any, where: str) -> str:
    if not isinstance(content, str) or len(content) > _LONGEST:
        raise ValueError(f"{where}: octets as hexadecimal digits")
    try:
        return bytes.fromhex(content).hex().upper()
    except ValueError:
        raise ValueError(f"{where}: octets as hexadecimal digits") from None


def _text(content: Any, where: str) -> str:
    if not isinstance(content, str) or len(content) > _LONGEST or not content.isascii():
        raise ValueError(f"{where}: a text of ASCII characters; others as octets")
    return content


def _bits(content: Any, where: str) -> str:
    if not isinstance(content, str) or set(content) - {"0", "1"} or len(content) > _LONGEST:
        raise ValueError(f"{where}: bits as 0 and 1, the first bit first")
    return content


def _true_or_false(content: Any, where: str) -> bool:
    if not isinstance(content, bool):
        raise ValueError(f"{where}: true or false")  # noqa: TRY004 - told with the other mistakes
    return content


def _null(content: Any, where: str) -> bool:
    if content is not True:
        raise ValueError(f"{where}: null = true")
    return True


_PLAIN: Final[Mapping[str, Callable[[Any, str], Any]]] = MappingProxyType(
    {"octets": _hex, "text": _text, "bits": _bits, "boolean": _true_or_false, "null": _null}
)


def _obis(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, str):
        raise ValueError(f"{where}: an OBIS code, as in 1-0:1.8.0*255")  # noqa: TRY004
    groups = re.split(r"[-:.*]", check_obis(content))
    return {"octets": bytes(int(one) for one in groups).hex()}


def _fields(content: Any, where: str, needed: set[str], others: set[str]) -> dict[str, Any]:
    if not isinstance(content, dict) or not needed <= set(content) <= needed | others:
        raise ValueError(f"{where}: a table with {', '.join(sorted(needed | others))}")
    return content


def _objects(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, list | tuple):
        raise ValueError(f"{where}: a list of objects")  # noqa: TRY004
    made = []
    for n, one in enumerate(content):
        told = _fields(one, f"{where}[{n}]", {"class_id", "obis", "attribute"}, {"index"})
        name = _obis(told["obis"], f"{where}[{n}].obis")
        made.append(
            {
                "structure": [
                    {"u16": told["class_id"]},
                    name,
                    {"i8": told["attribute"]},
                    {"u16": told.get("index", 0)},
                ]
            }
        )
    return {"array": made}


def _destination(content: Any, where: str) -> dict[str, Any]:
    told = _fields(content, where, {"service", "address"}, {"message"})
    address = _text(told["address"], f"{where}.address").encode("ascii").hex()
    return {"structure": [{"enum": told["service"]}, {"octets": address}, {"enum": told.get("message", 0)}]}


def _windows(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, list | tuple):
        raise ValueError(f"{where}: a list of windows")  # noqa: TRY004
    made = []
    for n, one in enumerate(content):
        told = _fields(one, f"{where}[{n}]", {"from", "to"}, set())
        ends = [{"octets": _moment(told[key], f"{where}[{n}].{key}")} for key in ("from", "to")]
        made.append({"structure": ends})
    return {"array": made}


def _moment(content: Any, where: str) -> str:
    """Twelve octets of a local time, its deviation and status not specified."""
    found = _MOMENT.fullmatch(content) if isinstance(content, str) else None
    if found is None:
        raise ValueError(f"{where}: a local time, as in 2026-03-01T22:00:00 or *-*-*T22:00:00")
    parts = [None if one == "*" else int(one) for one in found.groups()]
    bounds = ((2000, 2255), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59))
    for part, (low, high) in zip(parts, bounds, strict=True):
        if part is not None and not low <= part <= high:
            raise ValueError(f"{where}: {content!r} is no time")
    year, month, day, hour, minute, second = parts
    octets = [0xFF if one is None else one for one in (month, day)]
    clock = [0xFF if one is None else one for one in (hour, minute, second)]
    raw = (0xFFFF if year is None else year).to_bytes(2, "big") + bytes(octets) + b"\xff" + bytes(clock)
    return (raw + bytes.fromhex("ff8000ff")).hex()


_SHORT: Final[Mapping[str, Callable[[Any, str], dict[str, Any]]]] = MappingProxyType(
    {"obis": _obis, "objects": _objects, "destination": _destination, "windows": _windows}
)

#: A value, written out.
ParameterValue = Annotated[dict[str, Any], AfterValidator(typed)]
