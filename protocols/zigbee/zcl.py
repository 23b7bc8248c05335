"""ZCL frames and the attributes they carry (Zigbee Cluster Library: frame format, read and report commands).

Two global commands tell attribute values: the answer to Read Attributes (01) and Report Attributes (0A). All
numbers are sent low byte first. Each type has a pattern that means "no value"; it becomes None, and zero
stays zero. Composite types (arrays, structures) do not occur in the clusters that we read: refused by name.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from protocols.dlms.axdr import Real
from protocols.errors import RemoteProtocolError

READ_ATTRIBUTES_RESPONSE: Final = 0x01
REPORT_ATTRIBUTES: Final = 0x0A

#: Longest ASDU that a Zigbee fragment chain carries in practice; a report is far shorter.
MAX_FRAME: Final = 1024

_SUCCESS: Final = 0x00
_BOOLEAN: Final = 0x10
_CHARACTERS: Final = frozenset({0x42, 0x44})
_LONG: Final = frozenset({0x43, 0x44})
_STRINGS: Final = frozenset({0x41, 0x42, 0x43, 0x44})
_FLOATS: Final = {0x39: 4, 0x3A: 8}
_UNSIGNED: Final = {0x1F + width: width for width in range(1, 9)}
_SIGNED: Final = {0x27 + width: width for width in range(1, 9)}
_OPAQUE: Final = {
    **{0x07 + width: width for width in range(1, 9)},  # general data
    **{0x17 + width: width for width in range(1, 9)},  # bitmaps
}
#: Enumerations, time of day, date, UTC, cluster and attribute ids: unsigned, all ones is "no value".
_COUNTED: Final = {0x30: 1, 0x31: 2, 0xE0: 4, 0xE1: 4, 0xE2: 4, 0xE8: 2, 0xE9: 2, 0xEA: 4, 0xF0: 8}

Value = int | bool | Decimal | str | bytes | None


class ZclFrame(NamedTuple):
    """One frame: header fields and what follows them."""

    sequence: int
    command: int
    manufacturer: int | None
    cluster_specific: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. ``value`` None: the device has no value, or refused with ``status`` (0 is success)."""

    id: int
    type: int | None
    value: Value
    status: int = _SUCCESS


def parse_frame(data: bytes) -> ZclFrame:
    """The frame that is exactly ``data``.

    Raises:
        RemoteProtocolError: cut short, too long, or of a reserved frame type.
    """
    if len(data) > MAX_FRAME:
        raise RemoteProtocolError(f"a ZCL frame of {len(data)} bytes")
    if not data:
        raise RemoteProtocolError("an empty ZCL frame", offset=0)
    kind = data[0] & 0x03
    if kind > 1:
        raise RemoteProtocolError(f"frame type {kind} is reserved", offset=0)
    at = 3 if data[0] & 0x04 else 1
    if len(data) < at + 2:
        raise RemoteProtocolError("cut short: no whole ZCL header", offset=len(data))
    manufacturer = int.from_bytes(data[1:3], "little") if at == 3 else None
    return ZclFrame(data[at], data[at + 1], manufacturer, kind == 1, data[at + 2 :])


def attributes(frame: ZclFrame) -> tuple[Attribute, ...]:
    """The attributes that a read answer or a report carries.

    Raises:
        RemoteProtocolError: another command, a type that is not read here, or cut short. Offsets count from
            the start of the payload.
    """
    if frame.cluster_specific or frame.command not in (READ_ATTRIBUTES_RESPONSE, REPORT_ATTRIBUTES):
        what = "cluster command" if frame.cluster_specific else "command"
        raise RemoteProtocolError(f"{what} {frame.command:02x} carries no attributes")
    answer = frame.command == READ_ATTRIBUTES_RESPONSE
    data, at = frame.payload, 0
    found: list[Attribute] = []
    while at < len(data):
        number = int.from_bytes(_take(data, at, 2), "little")
        at += 2
        if answer:
            status = _take(data, at, 1)[0]
            at += 1
            if status != _SUCCESS:
                found.append(Attribute(number, None, None, status))
                continue
        kind = _take(data, at, 1)[0]
        value, at = decode_value(kind, data, at + 1)
        found.append(Attribute(number, kind, value))
    if not found:
        raise RemoteProtocolError("no attributes", offset=0)
    return tuple(found)


def decode_value(kind: int, data: bytes, at: int) -> tuple[Value, int]:
    """The value of type ``kind`` at ``at`` and the index behind it.

    Raises:
        RemoteProtocolError: cut short, text that is not UTF-8, or a type that is not read here.
    """
    if kind in _STRINGS:
        return _string(kind, data, at)
    if kind == _BOOLEAN:
        (byte,) = _take(data, at, 1)
        if byte > 1 and byte != 0xFF:
            raise RemoteProtocolError(f"a boolean of {byte}", offset=at)
        return (None if byte == 0xFF else bool(byte)), at + 1
    if width := _FLOATS.get(kind):
        number = Real(_take(data, at, width)[::-1]).decimal()
        return (number if number.is_finite() else None), at + width
    if width := _SIGNED.get(kind):
        signed = int.from_bytes(_take(data, at, width), "little", signed=True)
        return (None if signed == -(1 << 8 * width - 1) else signed), at + width
    if width := _UNSIGNED.get(kind) or _COUNTED.get(kind):
        unsigned = int.from_bytes(_take(data, at, width), "little")
        return (None if unsigned == (1 << 8 * width) - 1 else unsigned), at + width
    if width := _OPAQUE.get(kind):
        return int.from_bytes(_take(data, at, width), "little"), at + width
    raise RemoteProtocolError(f"attribute type {kind:02x} is not read here", offset=at - 1)


def _string(kind: int, data: bytes, at: int) -> tuple[Value, int]:
    width = 2 if kind in _LONG else 1
    length = int.from_bytes(_take(data, at, width), "little")
    at += width
    if length == (1 << 8 * width) - 1:
        return None, at
    body = _take(data, at, length)
    if kind not in _CHARACTERS:
        return body, at + length
    try:
        return body.decode("utf-8"), at + length
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("text is not UTF-8", offset=at) from error


def _take(data: bytes, at: int, count: int) -> bytes:
    part = data[at : at + count]
    if len(part) != count:
        raise RemoteProtocolError(f"cut short: {count - len(part)} bytes missing", offset=at)
    return part
