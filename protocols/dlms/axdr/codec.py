"""Values to bytes and back, and past a value without building it."""

from protocols.dlms.axdr.compact import decode_compact, encode_description
from protocols.dlms.axdr.contents import (
    cut_short,
    data_type,
    decode_contents,
    decode_length,
    element_count,
    encode_contents,
    encode_length,
)
from protocols.dlms.axdr.values import FIXED_SIZE, MAX_DEPTH, Buffer, Data, DataType
from protocols.errors import LocalProtocolError, RemoteProtocolError

# To look a member up in its enum costs more than the rest of a step.
_ARRAY, _STRUCTURE, _COMPACT_ARRAY = DataType.ARRAY, DataType.STRUCTURE, DataType.COMPACT_ARRAY
_BIT_STRING = DataType.BIT_STRING


def decode(buf: Buffer, offset: int = 0) -> tuple[Data, int]:
    """One value that starts at ``offset``, and the offset behind it.

    Raises:
        RemoteProtocolError: malformed, unknown or cut short; its offset is where in ``buf``.
    """
    if offset < 0:
        raise LocalProtocolError(f"negative offset {offset}")
    return _decode(buf, offset, 0)


def decode_exact(buf: Buffer) -> Data:
    """The one value that ``buf`` is; bytes behind it are an error."""
    data, end = _decode(buf, 0, 0)
    if end != len(buf):
        raise RemoteProtocolError(f"{len(buf) - end} bytes after the value", offset=end)
    return data


def _decode(buf: Buffer, offset: int, depth: int) -> tuple[Data, int]:
    kind = data_type(buf, offset)
    if kind is _ARRAY or kind is _STRUCTURE:
        if depth >= MAX_DEPTH:
            raise RemoteProtocolError(f"nested deeper than {MAX_DEPTH}", offset=offset)
        count, at = element_count(buf, offset + 1)
        items = []
        for _ in range(count):
            item, at = _decode(buf, at, depth + 1)
            items.append(item)
        return Data(kind, tuple(items)), at
    if kind is _COMPACT_ARRAY:
        value, at = decode_compact(buf, offset, depth)
        return Data(kind, value), at
    return decode_contents(kind, buf, offset + 1)


def skip(buf: Buffer, offset: int = 0) -> int:
    """Offset behind the value at ``offset``, without building it: structure and lengths are checked,
    contents of strings are not."""
    if offset < 0:
        raise LocalProtocolError(f"negative offset {offset}")
    size = len(buf)
    open_counts: list[int] = []  # elements still to come at each open level
    while True:
        kind = data_type(buf, offset)
        width = FIXED_SIZE.get(kind)
        if width is not None:
            end = offset + 1 + width
        elif kind is _ARRAY or kind is _STRUCTURE:
            if len(open_counts) >= MAX_DEPTH:
                raise RemoteProtocolError(f"nested deeper than {MAX_DEPTH}", offset=offset)
            count, end = element_count(buf, offset + 1)
            if count:
                open_counts.append(count)
                offset = end
                continue
        elif kind is _COMPACT_ARRAY:
            _, end = decode_compact(buf, offset, len(open_counts))
        else:
            length, start = decode_length(buf, offset + 1)
            end = start + (-(-length // 8) if kind is _BIT_STRING else length)
        if end > size:
            raise cut_short(offset, end - offset, size)
        offset = end
        while open_counts:
            open_counts[-1] -= 1
            if open_counts[-1]:
                break
            open_counts.pop()
        if not open_counts:
            return offset


def encode(data: Data) -> bytes:
    """The bytes of ``data``, lengths in their shortest form.

    Raises:
        LocalProtocolError: a value that its type cannot hold.
    """
    out = bytearray()
    _encode(data, out, 0)
    return bytes(out)


def _encode(data: Data, out: bytearray, depth: int) -> None:
    kind, value = data
    out.append(kind)
    if kind is _ARRAY or kind is _STRUCTURE:
        if depth >= MAX_DEPTH:
            raise LocalProtocolError(f"nested deeper than {MAX_DEPTH}")
        out += encode_length(len(value))
        for item in value:
            _encode(item, out, depth + 1)
    elif kind is _COMPACT_ARRAY:
        encode_description(value.description, out)
        out += encode_length(len(value.contents))
        out += value.contents
    else:
        encode_contents(kind, value, out)
