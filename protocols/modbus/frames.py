"""Modbus frames for `headend decode`: RTU with its CRC, TCP with its header. The driver has its library's.

An RTU frame says neither its length nor whether it asks or answers; both follow from the function, and the
CRC decides. The frame's own layouts are those of the Modbus application protocol, functions 1 to 6, 15, 16,
20, 21.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocols.errors import RemoteProtocolError

#: Address, PDU of at most 253 bytes, CRC.
MAX_RTU: Final = 256
_MIN_RTU: Final = 4
_HEADER: Final = 7
_MAX_PDU: Final = 253

EXCEPTIONS: Final[dict[int, str]] = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure",
    5: "acknowledged, still at work", 6: "device busy", 8: "memory parity error",
    10: "gateway path unavailable", 11: "gateway target did not respond",
}  # fmt: skip

_READS: Final = frozenset({1, 2, 3, 4})
_WRITES_ONE: Final = frozenset({5, 6})
_WRITES_MANY: Final = frozenset({15, 16})
#: Records of files; a group of a request begins with the reference type 6, one of an answer with its length,
#: which is odd.
_FILES: Final = frozenset({20, 21})
_WRITE_FILE: Final = 21
_FILE_GROUP: Final = 7
_REFERENCE: Final = 6


class Kind(StrEnum):
    """What a frame is. The answer to a single write, or to one of files, repeats its request: an ``echo``."""

    REQUEST = "request"
    ANSWER = "answer"
    ECHO = "echo"
    EXCEPTION = "exception"


@dataclass(frozen=True, slots=True)
class ModbusFrame:
    """One frame. ``address`` and ``count`` as a request has them, ``data`` the bytes an answer or a write
    carries (of files: the groups), ``exception`` the code of a refusal, ``transaction`` the number of a TCP
    frame."""

    unit: int
    function: int
    kind: Kind
    address: int | None = None
    count: int | None = None
    data: bytes = b""
    exception: int | None = None
    transaction: int | None = None

    @property
    def registers(self) -> tuple[int, ...]:
        """The registers of an answer or a write of registers; empty for coils."""
        if self.function not in (3, 4, 6, 16):
            return ()
        return tuple(int.from_bytes(self.data[at : at + 2], "big") for at in range(0, len(self.data), 2))

    def __str__(self) -> str:
        head = f"unit {self.unit} function {self.function} {self.kind}"
        if self.exception is not None:
            return f"{head} {self.exception}: {EXCEPTIONS.get(self.exception, 'unknown code')}"
        place = "" if self.address is None else f" {self.count} at {self.address}"
        return f"{head}{place}" + (f" {self.data.hex()}" if self.data else "")


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_CRCS: Final = tuple(_crc_of(byte) for byte in range(256))


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS; sent low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRCS[(crc ^ byte) & 0xFF]
    return crc


def parse_rtu(data: bytes, start: int = 0) -> tuple[ModbusFrame, int] | None:
    """The RTU frame that begins at ``start`` and the index behind it, None where no frame verifies there."""
    for length in _lengths(data[start : start + MAX_RTU]):
        frame = data[start : start + length]
        if len(frame) == length and crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
            try:
                return _pdu(frame[0], frame[1:-2]), start + length
            except RemoteProtocolError:
                continue  # the CRC holds by chance, or the function's layout does not fit
    return None


def parse_tcp(data: bytes, start: int = 0) -> tuple[ModbusFrame, int]:
    """The TCP frame (MBAP header) that begins at ``start`` and the index behind it.

    Raises:
        RemoteProtocolError: cut short, no header of Modbus, or a PDU that is none.
    """
    if len(data) - start < _HEADER + 1:
        raise RemoteProtocolError("cut short: no whole Modbus TCP header", offset=start)
    transaction, protocol, length = (
        int.from_bytes(data[at : at + 2], "big") for at in range(start, start + 6, 2)
    )
    if protocol != 0:
        raise RemoteProtocolError(f"protocol {protocol} is not Modbus", offset=start + 2)
    if not 3 <= length <= _MAX_PDU + 1:
        raise RemoteProtocolError(f"length {length} is not 3 to {_MAX_PDU + 1}", offset=start + 4)
    end = start + 6 + length
    if len(data) < end:
        raise RemoteProtocolError(f"cut short: {end - len(data)} bytes missing", offset=start)
    return _pdu(data[start + 6], data[start + _HEADER : end], transaction), end


def _lengths(data: bytes) -> list[int]:
    """Lengths that a frame beginning here may have, the likeliest first."""
    if len(data) < _MIN_RTU:
        return []
    function = data[1]
    if function & 0x80:
        return [5]
    if function in _READS:
        return [5 + data[2], 8]
    if function in _WRITES_ONE:
        return [8]
    if function in _WRITES_MANY:
        return [8, 9 + data[6]] if len(data) > 6 else [8]
    if function in _FILES:
        return [5 + data[2]]
    return []


def _pdu(unit: int, pdu: bytes, transaction: int | None = None) -> ModbusFrame:
    function, body = pdu[0], pdu[1:]
    if function & 0x80:
        if len(body) != 1:
            raise RemoteProtocolError("an exception has one byte of code")
        return ModbusFrame(unit, function & 0x7F, Kind.EXCEPTION, exception=body[0], transaction=transaction)
    if not body:
        raise RemoteProtocolError(f"function {function} without anything")
    if function in _READS:
        if body[0] and len(body) == body[0] + 1 and (function in (1, 2) or body[0] % 2 == 0):
            return ModbusFrame(unit, function, Kind.ANSWER, data=body[1:], transaction=transaction)
        if len(body) == 4:
            address, count = _pair(body)
            return ModbusFrame(unit, function, Kind.REQUEST, address, count, transaction=transaction)
    elif function in _WRITES_ONE and len(body) == 4:
        address, _ = _pair(body)
        return ModbusFrame(unit, function, Kind.ECHO, address, 1, body[2:], transaction=transaction)
    elif function in _WRITES_MANY:
        if len(body) == 4:
            address, count = _pair(body)
            return ModbusFrame(unit, function, Kind.ANSWER, address, count, transaction=transaction)
        if len(body) > 5 and len(body) == 5 + body[4]:
            address, count = _pair(body)
            return ModbusFrame(
                unit, function, Kind.REQUEST, address, count, body[5:], transaction=transaction
            )
    elif function in _FILES and len(body) > 1 and len(body) == body[0] + 1:
        asks = body[1] == _REFERENCE and body[0] >= _FILE_GROUP
        kind = Kind.ANSWER if not asks else Kind.ECHO if function == _WRITE_FILE else Kind.REQUEST
        return ModbusFrame(unit, function, kind, data=body[1:], transaction=transaction)
    raise RemoteProtocolError(f"{len(body)} bytes do not fit function {function}")


def _pair(body: bytes) -> tuple[int, int]:
    return int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
