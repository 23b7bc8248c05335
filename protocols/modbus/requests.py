"""Requests of the Modbus application protocol (V1.1b3), each with the answer that fits it, and no other.

Registers are read and written (functions 3, 4, 16), and so are file records (20, 21): a file has 10,000
registers, a record number is the first of those that are meant. Of the groups that a request for files may
have, these have one.
"""

import struct
from typing import Final, NamedTuple

from protocols.errors import LocalProtocolError, RemoteProtocolError

READ_FILE: Final = 20
WRITE_FILE: Final = 21
WRITE_REGISTERS: Final = 16
#: Registers that one request writes at most (6.12): the PDU has no room for more.
MAX_WRITTEN: Final = 123
#: Registers of a file that one answer carries (6.14: 245 bytes), and one request (6.15: 251 bytes).
MAX_FILE_READ: Final = 121
MAX_FILE_WRITTEN: Final = 122
#: Registers of a file; record numbers are 0 to 9999.
FILE_REGISTERS: Final = 10_000
#: The only reference type that there is.
_TYPE: Final = 6
_ADDRESS: Final = struct.Struct(">BHH")
_GROUP: Final = struct.Struct(">BHHH")


class Request(NamedTuple):
    """``pdu`` is sent; the PDU of its answer begins with ``head`` and has ``length`` bytes in all."""

    pdu: bytes
    head: bytes
    length: int


class FilePart(NamedTuple):
    """Registers of a file: so many from ``record`` on, and what is written to them."""

    file: int
    record: int
    registers: int
    data: bytes = b""


def read_registers(function: int, address: int, count: int) -> Request:
    """``count`` registers from ``address`` on; ``function`` 3 or 4."""
    return Request(_ADDRESS.pack(function, address, count), bytes((function, 2 * count)), 2 + 2 * count)


def write_registers(address: int, data: bytes) -> Request:
    """``data`` into the holding registers from ``address`` on. Raises LocalProtocolError."""
    count = _registers(data, MAX_WRITTEN)
    head = _ADDRESS.pack(WRITE_REGISTERS, address, count)
    return Request(head + bytes((len(data),)) + data, head, len(head))


def read_file(file: int, record: int, count: int) -> Request:
    """``count`` registers of a file. Raises LocalProtocolError."""
    if not 1 <= count <= MAX_FILE_READ:
        raise LocalProtocolError(f"{count} registers of a file: not 1 to {MAX_FILE_READ}")
    group = _group(file, record, count)
    size = 2 * count
    head = bytes((READ_FILE, size + 2, size + 1, _TYPE))
    return Request(bytes((READ_FILE, len(group))) + group, head, len(head) + size)


def write_file(file: int, record: int, data: bytes) -> Request:
    """``data`` into registers of a file; the answer repeats all of it. Raises LocalProtocolError."""
    group = _group(file, record, _registers(data, MAX_FILE_WRITTEN)) + data
    pdu = bytes((WRITE_FILE, len(group))) + group
    return Request(pdu, pdu, len(pdu))


def _registers(data: bytes, most: int) -> int:
    count, odd = divmod(len(data), 2)
    if odd or not 1 <= count <= most:
        raise LocalProtocolError(f"{len(data)} bytes are not 1 to {most} registers")
    return count


def _group(file: int, record: int, count: int) -> bytes:
    if not 1 <= file <= 0xFFFF or not 0 <= record <= FILE_REGISTERS - count:
        raise LocalProtocolError(f"no file has registers {record} to {record + count - 1} of file {file}")
    return _GROUP.pack(_TYPE, file, record, count)


# ---- what a slave gets ------------------------------------------------------------------------------


def file_parts(function: int, body: bytes) -> tuple[FilePart, ...]:
    """The groups of a request for files; ``body`` is what stands behind its byte count.

    Raises:
        RemoteProtocolError: they are none.
    """
    parts, at = [], 0
    while at < len(body):
        group = body[at : at + _GROUP.size]
        if len(group) < _GROUP.size or group[0] != _TYPE:
            raise RemoteProtocolError("no group of a request for files", offset=at)
        _, file, record, count = _GROUP.unpack(group)
        at += _GROUP.size
        size = 2 * count if function == WRITE_FILE else 0
        data, at = body[at : at + size], at + size
        if at > len(body):
            raise RemoteProtocolError("cut short: a group of a file", offset=len(body))
        parts.append(FilePart(file, record, count, data))
    return tuple(parts)


def file_answer(parts: tuple[bytes, ...]) -> bytes:
    """The PDU that answers a read of files: the registers of each group."""
    body = b"".join(bytes((len(data) + 1, _TYPE)) + data for data in parts)
    return bytes((READ_FILE, len(body))) + body
