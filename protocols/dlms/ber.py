"""The small part of BER that ACSE uses: definite lengths, one-byte tags, object identifiers as raw bytes.

Everything is bounded by the input: an element that claims to end behind its container is an error at once.
Reads bytes, gives slices; raises RemoteProtocolError with the offset of the offending byte.
"""

from collections.abc import Iterator
from typing import NamedTuple

from protocols.errors import LocalProtocolError, RemoteProtocolError

INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06

_MAX_LENGTH_BYTES = 4
_MAX_INTEGER_BYTES = 4


class Element(NamedTuple):
    """One tag-length-value: ``tag`` at ``offset``, its content is ``data[start:stop]``."""

    tag: int
    offset: int
    start: int
    stop: int


def read_element(data: bytes, offset: int, end: int) -> Element:
    """Read the element at ``offset`` whose container ends at ``end`` (<= len(data)).

    Accepts short and long definite lengths of up to 4 bytes, minimal or not. Indefinite lengths and tag
    numbers of 31 and more do not occur in ACSE as DLMS uses it and are refused. Raises RemoteProtocolError.
    """
    if offset >= end:
        raise RemoteProtocolError("BER element is cut short before its tag", offset=offset)
    tag = data[offset]
    if tag & 0x1F == 0x1F:
        raise RemoteProtocolError(
            f"BER tag 0x{tag:02x} has more than one byte, which ACSE does not use", offset=offset
        )
    start = offset + 1
    if start >= end:
        raise RemoteProtocolError(f"BER element 0x{tag:02x} is cut short before its length", offset=start)
    length = data[start]
    start += 1
    if length & 0x80:
        size = length & 0x7F
        if size == 0:
            raise RemoteProtocolError(f"BER element 0x{tag:02x} has an indefinite length", offset=start - 1)
        if size > _MAX_LENGTH_BYTES:
            raise RemoteProtocolError(
                f"BER element 0x{tag:02x} has a length of {size} bytes", offset=start - 1
            )
        if start + size > end:
            raise RemoteProtocolError(f"BER element 0x{tag:02x} is cut short in its length", offset=end)
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    stop = start + length
    if stop > end:
        raise RemoteProtocolError(
            f"BER element 0x{tag:02x} claims {length} bytes, {end - start} are there", offset=offset
        )
    return Element(tag, offset, start, stop)


def elements(data: bytes, start: int, stop: int) -> Iterator[Element]:
    """Yield the elements that fill ``data[start:stop]`` exactly, one after the other."""
    while start < stop:
        element = read_element(data, start, stop)
        yield element
        start = element.stop


def only(data: bytes, container: Element, tag: int) -> bytes:
    """Content of the one element ``tag`` that fills an explicitly tagged ``container``."""
    inner = read_element(data, container.start, container.stop)
    if inner.tag != tag:
        raise RemoteProtocolError(
            f"BER element 0x{container.tag:02x} holds 0x{inner.tag:02x} where 0x{tag:02x} belongs",
            offset=inner.offset,
        )
    if inner.stop != container.stop:
        raise RemoteProtocolError(
            f"BER element 0x{container.tag:02x} holds more than one element", offset=inner.stop
        )
    return data[inner.start : inner.stop]


def integer(content: bytes, offset: int) -> int:
    """Two's complement INTEGER of 1 to 4 bytes; ``offset`` is only for the error."""
    if not 1 <= len(content) <= _MAX_INTEGER_BYTES:
        raise RemoteProtocolError(f"BER integer of {len(content)} bytes", offset=offset)
    return int.from_bytes(content, "big", signed=True)


def encode_element(tag: int, content: bytes) -> bytes:
    """Tag, minimal definite length, content."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    if size > _MAX_LENGTH_BYTES:
        raise LocalProtocolError(f"BER element of {length} bytes is longer than this codec writes")
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content


def encode_integer(value: int) -> bytes:
    """INTEGER element in the fewest bytes: -128 and 127 take one, 128 takes two."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    if size > _MAX_INTEGER_BYTES:
        raise LocalProtocolError(f"integer {value} takes more than {_MAX_INTEGER_BYTES} bytes in BER")
    return encode_element(INTEGER, value.to_bytes(size, "big", signed=True))
