"""GET: request normal, next, with-list; response normal, with-block, with-list (IEC 62056-5-3, GET service).

The data of a response stay undecoded A-XDR bytes (``Raw``): a load profile goes to the vectorised decoder as
it came.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from protocols.dlms import axdr
from protocols.dlms.apdu.fields import (
    INVOKE,
    AttributeItem,
    InvokeIdAndPriority,
    Raw,
    Reader,
    Selection,
    encode_data_or_refusal,
    encode_descriptor,
    encode_items,
    encode_octets,
    encode_selection,
    encode_uint,
)
from protocols.dlms.cosem import Attribute
from protocols.dlms.enums import DataAccessResult

REQUEST_TAG = 0xC0
RESPONSE_TAG = 0xC4

# A length below 0x80 stands for itself; 0x82 says that it follows in two bytes, as it does in a full block.
_LENGTH_LONG = 0x80
_LENGTH_IN_TWO = 0x82
# tag, response type, invoke id, last-block, block-number, result choice
_BLOCK_HEAD = struct.Struct(">BBBBIB")
_NEXT = struct.Struct(">BBBI")
_WITH_BLOCK = 2  # both the response with a block, and the request for the next one


@dataclass(frozen=True, slots=True)
class GetRequestNormal:
    """Ask for one attribute, or for the part of it that ``selection`` names."""

    invoke: InvokeIdAndPriority
    attribute: Attribute
    selection: Selection | None = None

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((REQUEST_TAG, 1, self.invoke.to_byte()))
            + encode_descriptor(self.attribute)
            + encode_selection(self.selection)
        )


@dataclass(frozen=True, slots=True)
class GetRequestNext:
    """Ask for the block after ``block_number``, the one just received."""

    invoke: InvokeIdAndPriority
    block_number: int

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((REQUEST_TAG, 2, self.invoke.to_byte())) + encode_uint(
            self.block_number, 4, "block number"
        )


@dataclass(frozen=True, slots=True)
class GetRequestWithList:
    """Ask for several attributes at once."""

    invoke: InvokeIdAndPriority
    items: tuple[AttributeItem, ...]

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((REQUEST_TAG, 3, self.invoke.to_byte())) + encode_items(self.items)


@dataclass(frozen=True, slots=True)
class GetResponseNormal:
    """The value, or why there is none."""

    invoke: InvokeIdAndPriority
    result: Raw | DataAccessResult

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((RESPONSE_TAG, 1, self.invoke.to_byte())) + encode_data_or_refusal(self.result)


@dataclass(frozen=True, slots=True)
class GetResponseWithBlock:
    """One block: a part of the A-XDR bytes, or why the transfer stops."""

    invoke: InvokeIdAndPriority
    last: bool
    block_number: int
    result: bytes | DataAccessResult

    def __repr__(self) -> str:
        result = f"<{len(self.result)} bytes>" if isinstance(self.result, bytes) else repr(self.result)
        return (
            f"GetResponseWithBlock(invoke={self.invoke!r}, last={self.last}, "
            f"block_number={self.block_number}, result={result})"
        )

    def to_bytes(self) -> bytes:
        """The APDU."""
        head = bytes((RESPONSE_TAG, 2, self.invoke.to_byte(), self.last))
        number = encode_uint(self.block_number, 4, "block number")
        if isinstance(self.result, bytes):
            return head + number + b"\x00" + encode_octets(self.result)
        return head + number + bytes((1, self.result))


@dataclass(frozen=True, slots=True)
class GetResponseWithList:
    """One result for each item of the request, in its order."""

    invoke: InvokeIdAndPriority
    results: tuple[Raw | DataAccessResult, ...]

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((RESPONSE_TAG, 3, self.invoke.to_byte()))
            + axdr.encode_length(len(self.results))
            + b"".join([encode_data_or_refusal(result) for result in self.results])
        )


GetRequest = GetRequestNormal | GetRequestNext | GetRequestWithList
GetResponse = GetResponseNormal | GetResponseWithBlock | GetResponseWithList


def decode_request(data: bytes) -> GetRequest:
    """Decode a get-request, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "get-request", 1)
    kind = reader.u8("request type")
    decode = _REQUESTS.get(kind)
    if decode is None:
        raise reader.fail(f"request type {kind} is not in the standard", 1)
    request = decode(reader, reader.invoke())
    reader.end()
    return request


def _request_normal(reader: Reader, invoke: InvokeIdAndPriority) -> GetRequest:
    return GetRequestNormal(invoke, reader.attribute(), reader.selection())


def _request_next(reader: Reader, invoke: InvokeIdAndPriority) -> GetRequest:
    return GetRequestNext(invoke, reader.u32("block number"))


def _request_with_list(reader: Reader, invoke: InvokeIdAndPriority) -> GetRequest:
    return GetRequestWithList(invoke, reader.many(reader.attribute_item, "attribute list"))


_REQUESTS: dict[int, Callable[[Reader, InvokeIdAndPriority], GetRequest]] = {
    1: _request_normal,
    2: _request_next,
    3: _request_with_list,
}


def decode_response(data: bytes) -> GetResponse:
    """Decode a get-response, its tag already looked at; the data of a normal response are not looked into.

    Raises RemoteProtocolError.
    """
    # What carries profiles takes a straight way; all else falls through to the reader, which finds words.
    if len(data) > 4 and data[1] == 1 and data[3] == 0:
        return GetResponseNormal(INVOKE[data[2]], Raw(data[4:]))
    block = block_of(data)
    if block is not None:
        return GetResponseWithBlock(INVOKE[data[2]], *block)
    reader = Reader(data, "get-response", 1)
    kind = reader.u8("response type")
    decode = _RESPONSES.get(kind)
    if decode is None:
        raise reader.fail(f"response type {kind} is not in the standard", 1)
    response = decode(reader, reader.invoke())
    reader.end()
    return response


def block_of(data: bytes) -> tuple[bool, int, bytes] | None:
    """Whether it is the last, its number and the bytes of a get-response with a block, as most are written.

    None for all else: `decode_response` says what it is.
    """
    if len(data) <= _BLOCK_HEAD.size or data[1] != _WITH_BLOCK:
        return None
    _, _, _, last, block_number, choice = _BLOCK_HEAD.unpack_from(data)
    if choice != 0:
        return None
    length, start = data[_BLOCK_HEAD.size], _BLOCK_HEAD.size + 1
    if length == _LENGTH_IN_TWO:
        length, start = int.from_bytes(data[start : start + 2], "big"), start + 2
    elif length >= _LENGTH_LONG:
        return None
    return (last != 0, block_number, data[start:]) if start + length == len(data) else None


def next_request(invoke: int, block_number: int) -> bytes:
    """The APDU of `GetRequestNext` for the invoke byte and the number of a block that came."""
    return _NEXT.pack(REQUEST_TAG, _WITH_BLOCK, invoke, block_number)


def _response_normal(reader: Reader, invoke: InvokeIdAndPriority) -> GetResponse:
    return GetResponseNormal(invoke, reader.data_or_refusal(reader.rest))


def _response_with_block(reader: Reader, invoke: InvokeIdAndPriority) -> GetResponse:
    last = reader.boolean("last-block")
    block_number = reader.u32("block number")
    choice = reader.u8("result choice")
    if choice == 0:
        return GetResponseWithBlock(invoke, last, block_number, reader.octets("raw data"))
    if choice == 1:
        return GetResponseWithBlock(invoke, last, block_number, reader.data_access_result())
    raise reader.fail(
        f"result choice {choice}, it has 0 (raw-data) and 1 (data-access-result)", reader.offset - 1
    )


def _response_with_list(reader: Reader, invoke: InvokeIdAndPriority) -> GetResponse:
    return GetResponseWithList(
        invoke, reader.many(lambda: reader.data_or_refusal(reader.value), "result list")
    )


_RESPONSES: dict[int, Callable[[Reader, InvokeIdAndPriority], GetResponse]] = {
    1: _response_normal,
    2: _response_with_block,
    3: _response_with_list,
}
