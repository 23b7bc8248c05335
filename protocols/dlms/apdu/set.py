"""SET: five requests and five responses (IEC 62056-5-3, SET service). Values stay undecoded A-XDR bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.dlms import axdr
from protocols.dlms.apdu.fields import (
    AttributeItem,
    InvokeIdAndPriority,
    Raw,
    Reader,
    Selection,
    encode_block,
    encode_descriptor,
    encode_items,
    encode_selection,
    encode_uint,
    encode_values,
)
from protocols.dlms.cosem import Attribute
from protocols.dlms.enums import DataAccessResult
from protocols.errors import LocalProtocolError

REQUEST_TAG = 0xC1
RESPONSE_TAG = 0xC5


@dataclass(frozen=True, slots=True)
class SetRequestNormal:
    """Write ``value`` to one attribute, or to the part of it that ``selection`` names."""

    invoke: InvokeIdAndPriority
    attribute: Attribute
    selection: Selection | None
    value: Raw

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((REQUEST_TAG, 1, self.invoke.to_byte()))
            + encode_descriptor(self.attribute)
            + encode_selection(self.selection)
            + self.value.data
        )


@dataclass(frozen=True, slots=True)
class SetRequestWithFirstBlock:
    """The attribute to write and the first part of its value."""

    invoke: InvokeIdAndPriority
    attribute: Attribute
    selection: Selection | None
    last: bool
    block_number: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((REQUEST_TAG, 2, self.invoke.to_byte()))
            + encode_descriptor(self.attribute)
            + encode_selection(self.selection)
            + encode_block(self.last, self.block_number, self.data)
        )


@dataclass(frozen=True, slots=True)
class SetRequestWithBlock:
    """A further part of the value or values."""

    invoke: InvokeIdAndPriority
    last: bool
    block_number: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((REQUEST_TAG, 3, self.invoke.to_byte())) + encode_block(
            self.last, self.block_number, self.data
        )


@dataclass(frozen=True, slots=True)
class SetRequestWithList:
    """Write several attributes; ``values`` has one for each of ``items``."""

    invoke: InvokeIdAndPriority
    items: tuple[AttributeItem, ...]
    values: tuple[Raw, ...]

    def to_bytes(self) -> bytes:
        """The APDU; LocalProtocolError when the two lists differ in length."""
        if len(self.items) != len(self.values):
            raise LocalProtocolError(f"{len(self.values)} values for {len(self.items)} attributes")
        return (
            bytes((REQUEST_TAG, 4, self.invoke.to_byte()))
            + encode_items(self.items)
            + encode_values(self.values)
        )


@dataclass(frozen=True, slots=True)
class SetRequestWithListAndFirstBlock:
    """The attributes to write and the first part of the list of their values."""

    invoke: InvokeIdAndPriority
    items: tuple[AttributeItem, ...]
    last: bool
    block_number: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((REQUEST_TAG, 5, self.invoke.to_byte()))
            + encode_items(self.items)
            + encode_block(self.last, self.block_number, self.data)
        )


@dataclass(frozen=True, slots=True)
class SetResponseNormal:
    """What became of one attribute."""

    invoke: InvokeIdAndPriority
    result: DataAccessResult

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((RESPONSE_TAG, 1, self.invoke.to_byte(), self.result))


@dataclass(frozen=True, slots=True)
class SetResponseBlock:
    """Block ``block_number`` arrived, the next may come."""

    invoke: InvokeIdAndPriority
    block_number: int

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((RESPONSE_TAG, 2, self.invoke.to_byte())) + encode_uint(
            self.block_number, 4, "block number"
        )


@dataclass(frozen=True, slots=True)
class SetResponseLastBlock:
    """The last block arrived, and what became of the attribute."""

    invoke: InvokeIdAndPriority
    result: DataAccessResult
    block_number: int

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((RESPONSE_TAG, 3, self.invoke.to_byte(), self.result)) + encode_uint(
            self.block_number, 4, "block number"
        )


@dataclass(frozen=True, slots=True)
class SetResponseLastBlockWithList:
    """The last block arrived, and what became of each attribute."""

    invoke: InvokeIdAndPriority
    results: tuple[DataAccessResult, ...]
    block_number: int

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((RESPONSE_TAG, 4, self.invoke.to_byte()))
            + axdr.encode_length(len(self.results))
            + bytes(self.results)
            + encode_uint(self.block_number, 4, "block number")
        )


@dataclass(frozen=True, slots=True)
class SetResponseWithList:
    """What became of each attribute, in the order of the request."""

    invoke: InvokeIdAndPriority
    results: tuple[DataAccessResult, ...]

    def to_bytes(self) -> bytes:
        """The APDU."""
        head = bytes((RESPONSE_TAG, 5, self.invoke.to_byte()))
        return head + axdr.encode_length(len(self.results)) + bytes(self.results)


SetRequest = (
    SetRequestNormal
    | SetRequestWithFirstBlock
    | SetRequestWithBlock
    | SetRequestWithList
    | SetRequestWithListAndFirstBlock
)
SetResponse = (
    SetResponseNormal
    | SetResponseBlock
    | SetResponseLastBlock
    | SetResponseLastBlockWithList
    | SetResponseWithList
)


def decode_request(data: bytes) -> SetRequest:
    """Decode a set-request, its tag already looked at; a normal request's value is not looked into.

    Raises RemoteProtocolError.
    """
    reader = Reader(data, "set-request", 1)
    kind = reader.u8("request type")
    decode = _REQUESTS.get(kind)
    if decode is None:
        raise reader.fail(f"request type {kind} is not in the standard", 1)
    request = decode(reader, reader.invoke())
    reader.end()
    return request


def _request_normal(reader: Reader, invoke: InvokeIdAndPriority) -> SetRequest:
    return SetRequestNormal(invoke, reader.attribute(), reader.selection(), reader.rest("value"))


def _request_with_first_block(reader: Reader, invoke: InvokeIdAndPriority) -> SetRequest:
    return SetRequestWithFirstBlock(invoke, reader.attribute(), reader.selection(), *reader.block())


def _request_with_block(reader: Reader, invoke: InvokeIdAndPriority) -> SetRequest:
    return SetRequestWithBlock(invoke, *reader.block())


def _request_with_list(reader: Reader, invoke: InvokeIdAndPriority) -> SetRequest:
    items = reader.many(reader.attribute_item, "attribute list")
    start = reader.offset
    values = reader.many(lambda: reader.value("value"), "value list")
    if len(values) != len(items):
        raise reader.fail(f"{len(values)} values for {len(items)} attributes", start)
    return SetRequestWithList(invoke, items, values)


def _request_with_list_and_first_block(reader: Reader, invoke: InvokeIdAndPriority) -> SetRequest:
    return SetRequestWithListAndFirstBlock(
        invoke, reader.many(reader.attribute_item, "attribute list"), *reader.block()
    )


_REQUESTS: dict[int, Callable[[Reader, InvokeIdAndPriority], SetRequest]] = {
    1: _request_normal,
    2: _request_with_first_block,
    3: _request_with_block,
    4: _request_with_list,
    5: _request_with_list_and_first_block,
}


def decode_response(data: bytes) -> SetResponse:
    """Decode a set-response, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "set-response", 1)
    kind = reader.u8("response type")
    decode = _RESPONSES.get(kind)
    if decode is None:
        raise reader.fail(f"response type {kind} is not in the standard", 1)
    response = decode(reader, reader.invoke())
    reader.end()
    return response


def _response_normal(reader: Reader, invoke: InvokeIdAndPriority) -> SetResponse:
    return SetResponseNormal(invoke, reader.data_access_result())


def _response_block(reader: Reader, invoke: InvokeIdAndPriority) -> SetResponse:
    return SetResponseBlock(invoke, reader.u32("block number"))


def _response_last_block(reader: Reader, invoke: InvokeIdAndPriority) -> SetResponse:
    return SetResponseLastBlock(invoke, reader.data_access_result(), reader.u32("block number"))


def _response_last_block_with_list(reader: Reader, invoke: InvokeIdAndPriority) -> SetResponse:
    results = reader.many(reader.data_access_result, "result list")
    return SetResponseLastBlockWithList(invoke, results, reader.u32("block number"))


def _response_with_list(reader: Reader, invoke: InvokeIdAndPriority) -> SetResponse:
    return SetResponseWithList(invoke, reader.many(reader.data_access_result, "result list"))


_RESPONSES: dict[int, Callable[[Reader, InvokeIdAndPriority], SetResponse]] = {
    1: _response_normal,
    2: _response_block,
    3: _response_last_block,
    4: _response_last_block_with_list,
    5: _response_with_list,
}
