"""The small part of BER that ACSE uses: definite lengths, one-byte tags, object identifiers as raw bytes.

Everything is bounded by the input: an element that claims to end behind its container is an error at once.
Reads bytes, gives offsets and slices; raises RemoteProtocolError with the offset of the offending byte.
"""

from protocols.errors import LocalProtocolError, RemoteProtocolError

INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06

_LONG_FORM = 0x80
_MAX_LENGTH_BYTES = 4
_MAX_INTEGER_BYTES = 4


def span(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Where the content of the element at ``offset`` starts and stops.

    Its container ends at ``end`` <= len(data). Accepts short and long definite lengths of up to 4 bytes,
    minimal or not. Indefinite lengths and tag numbers of 31 and more do not occur in ACSE as DLMS uses it and
    are refused. Raises RemoteProtocolError.
    """
    start = offset + 2
    if start > end:
        raise RemoteProtocolError("BER element is cut short before its length", offset=max(offset, end))
    tag, length = data[offset], data[offset + 1]
    if tag & 0x1F == 0x1F:
        raise RemoteProtocolError(
            f"BER tag 0x{tag:02x} of more than one byte, unknown to ACSE", offset=offset
        )
    if length >= _LONG_FORM:
        size = length - _LONG_FORM
        if not 1 <= size <= _MAX_LENGTH_BYTES:
            what = f"a length of {size} bytes" if size else "an indefinite length"
            raise RemoteProtocolError(f"BER element 0x{tag:02x} has {what}", offset=offset + 1)
        if start + size > end:
            raise RemoteProtocolError(f"BER element 0x{tag:02x} is cut short in its length", offset=end)
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    stop = start + length
    if stop > end:
        reason = f"BER element 0x{tag:02x} claims {length} bytes, {end - start} are there"
        raise RemoteProtocolError(reason, offset=offset)
    return start, stop


def only(data: bytes, start: int, stop: int, tag: int) -> bytes:
    """Content of the one element ``tag`` that has to fill the explicitly tagged ``data[start:stop]``."""
    inner_start, inner_stop = span(data, start, stop)
    if data[start] != tag:
        reason = f"BER element 0x{data[start]:02x} where 0x{tag:02x} belongs"
        raise RemoteProtocolError(reason, offset=start)
    if inner_stop != stop:
        raise RemoteProtocolError("more than one BER element where one belongs", offset=inner_stop)
    return data[inner_start:inner_stop]


def integer(content: bytes, offset: int) -> int:
    """Two's complement INTEGER of 1 to 4 bytes; ``offset`` is only for the error."""
    if not 1 <= len(content) <= _MAX_INTEGER_BYTES:
        raise RemoteProtocolError(f"BER integer of {len(content)} bytes", offset=offset)
    return int.from_bytes(content, "big", signed=True)


def encode_element(tag: int, content: bytes) -> bytes:
    """Tag, minimal definite length, content."""
    length = len(content)
    if length < _LONG_FORM:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    if size > _MAX_LENGTH_BYTES:
        raise LocalProtocolError(f"BER element of {length} bytes is longer than this codec writes")
    return bytes((tag, _LONG_FORM | size)) + length.to_bytes(size, "big") + content


def encode_integer(value: int) -> bytes:
    """Content of an INTEGER in the fewest bytes: -128 and 127 take one, 128 takes two."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    if size > _MAX_INTEGER_BYTES:
        raise LocalProtocolError(f"integer {value} takes more than {_MAX_INTEGER_BYTES} bytes in BER")
    return value.to_bytes(size, "big", signed=True)
