"""ACTION: six requests and four responses (IEC 62056-5-3, ACTION service).

Parameters stay undecoded A-XDR bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from protocols.dlms import axdr
from protocols.dlms.apdu.fields import (
    INVOKE,
    InvokeIdAndPriority,
    Raw,
    Reader,
    encode_block,
    encode_data_or_refusal,
    encode_descriptor,
    encode_uint,
    encode_values,
)
from protocols.dlms.cosem import Method
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.errors import LocalProtocolError

REQUEST_TAG = 0xC3
RESPONSE_TAG = 0xC7


@dataclass(frozen=True, slots=True)
class ActionRequestNormal:
    """Invoke one method."""

    invoke: InvokeIdAndPriority
    method: Method
    parameters: Raw | None = None

    def to_bytes(self) -> bytes:
        """The APDU."""
        parameters = b"\x00" if self.parameters is None else b"\x01" + self.parameters.data
        return bytes((REQUEST_TAG, 1, self.invoke.to_byte())) + encode_descriptor(self.method) + parameters


@dataclass(frozen=True, slots=True)
class ActionRequestNextPBlock:
    """Ask for the response block after ``block_number``."""

    invoke: InvokeIdAndPriority
    block_number: int

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((REQUEST_TAG, 2, self.invoke.to_byte())) + encode_uint(
            self.block_number, 4, "block number"
        )


@dataclass(frozen=True, slots=True)
class ActionRequestWithList:
    """Invoke several methods; ``parameters`` has one for each of ``methods``, null-data for none."""

    invoke: InvokeIdAndPriority
    methods: tuple[Method, ...]
    parameters: tuple[Raw, ...]

    def to_bytes(self) -> bytes:
        """The APDU."""
        if len(self.methods) != len(self.parameters):
            raise LocalProtocolError(f"{len(self.parameters)} parameters for {len(self.methods)} methods")
        head = bytes((REQUEST_TAG, 3, self.invoke.to_byte()))
        return head + _encode_methods(self.methods) + encode_values(self.parameters)


@dataclass(frozen=True, slots=True)
class ActionRequestWithFirstPBlock:
    """The method to invoke and the first part of its parameters."""

    invoke: InvokeIdAndPriority
    method: Method
    last: bool
    block_number: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((REQUEST_TAG, 4, self.invoke.to_byte()))
            + encode_descriptor(self.method)
            + encode_block(self.last, self.block_number, self.data)
        )


@dataclass(frozen=True, slots=True)
class ActionRequestWithListAndFirstPBlock:
    """The methods to invoke and the first part of the list of their parameters."""

    invoke: InvokeIdAndPriority
    methods: tuple[Method, ...]
    last: bool
    block_number: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((REQUEST_TAG, 5, self.invoke.to_byte()))
            + _encode_methods(self.methods)
            + encode_block(self.last, self.block_number, self.data)
        )


@dataclass(frozen=True, slots=True)
class ActionRequestWithPBlock:
    """A further part of the parameters."""

    invoke: InvokeIdAndPriority
    last: bool
    block_number: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((REQUEST_TAG, 6, self.invoke.to_byte())) + encode_block(
            self.last, self.block_number, self.data
        )


class ActionOutcome(NamedTuple):
    """Action-Response-With-Optional-Data: the result, and what the method returned (None: nothing)."""

    result: ActionResult
    return_parameters: Raw | DataAccessResult | None = None


@dataclass(frozen=True, slots=True)
class ActionResponseNormal:
    """What became of one method, and what it returned (None: nothing)."""

    invoke: InvokeIdAndPriority
    result: ActionResult
    return_parameters: Raw | DataAccessResult | None = None

    def to_bytes(self) -> bytes:
        """The APDU."""
        head = bytes((RESPONSE_TAG, 1, self.invoke.to_byte()))
        return head + _encode_outcome(ActionOutcome(self.result, self.return_parameters))


@dataclass(frozen=True, slots=True)
class ActionResponseWithPBlock:
    """A part of the response: the blocks joined are one outcome, or the list of them."""

    invoke: InvokeIdAndPriority
    last: bool
    block_number: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((RESPONSE_TAG, 2, self.invoke.to_byte())) + encode_block(
            self.last, self.block_number, self.data
        )


@dataclass(frozen=True, slots=True)
class ActionResponseWithList:
    """What became of each method, in the order of the request."""

    invoke: InvokeIdAndPriority
    results: tuple[ActionOutcome, ...]

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((RESPONSE_TAG, 3, self.invoke.to_byte()))
            + axdr.encode_length(len(self.results))
            + b"".join([_encode_outcome(outcome) for outcome in self.results])
        )


@dataclass(frozen=True, slots=True)
class ActionResponseNextPBlock:
    """Parameter block ``block_number`` arrived, the next may come."""

    invoke: InvokeIdAndPriority
    block_number: int

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((RESPONSE_TAG, 4, self.invoke.to_byte())) + encode_uint(
            self.block_number, 4, "block number"
        )


ActionRequest = (
    ActionRequestNormal
    | ActionRequestNextPBlock
    | ActionRequestWithList
    | ActionRequestWithFirstPBlock
    | ActionRequestWithListAndFirstPBlock
    | ActionRequestWithPBlock
)
ActionResponse = (
    ActionResponseNormal | ActionResponseWithPBlock | ActionResponseWithList | ActionResponseNextPBlock
)


def _encode_methods(methods: tuple[Method, ...]) -> bytes:
    return axdr.encode_length(len(methods)) + b"".join([encode_descriptor(method) for method in methods])


def _encode_outcome(outcome: ActionOutcome) -> bytes:
    if outcome.return_parameters is None:
        return bytes((outcome.result, 0))
    return bytes((outcome.result, 1)) + encode_data_or_refusal(outcome.return_parameters)


def decode_request(data: bytes) -> ActionRequest:
    """Decode an action-request, its tag already looked at; a normal request's parameters are not looked into.

    Raises RemoteProtocolError.
    """
    reader = Reader(data, "action-request", 1)
    kind = reader.u8("request type")
    decode = _REQUESTS.get(kind)
    if decode is None:
        raise reader.fail(f"request type {kind} is not in the standard", 1)
    request = decode(reader, reader.invoke())
    reader.end()
    return request


def _request_normal(reader: Reader, invoke: InvokeIdAndPriority) -> ActionRequest:
    method = reader.method()
    return ActionRequestNormal(
        invoke, method, reader.rest("parameters") if reader.optional("parameters") else None
    )


def _request_next(reader: Reader, invoke: InvokeIdAndPriority) -> ActionRequest:
    return ActionRequestNextPBlock(invoke, reader.u32("block number"))


def _request_with_list(reader: Reader, invoke: InvokeIdAndPriority) -> ActionRequest:
    methods = reader.many(reader.method, "method list")
    start = reader.offset
    parameters = reader.many(lambda: reader.value("parameters"), "parameter list")
    if len(parameters) != len(methods):
        raise reader.fail(f"{len(parameters)} parameters for {len(methods)} methods", start)
    return ActionRequestWithList(invoke, methods, parameters)


def _request_with_first_block(reader: Reader, invoke: InvokeIdAndPriority) -> ActionRequest:
    return ActionRequestWithFirstPBlock(invoke, reader.method(), *reader.block())


def _request_with_list_and_first_block(reader: Reader, invoke: InvokeIdAndPriority) -> ActionRequest:
    return ActionRequestWithListAndFirstPBlock(
        invoke, reader.many(reader.method, "method list"), *reader.block()
    )


def _request_with_block(reader: Reader, invoke: InvokeIdAndPriority) -> ActionRequest:
    return ActionRequestWithPBlock(invoke, *reader.block())


_REQUESTS: dict[int, Callable[[Reader, InvokeIdAndPriority], ActionRequest]] = {
    1: _request_normal,
    2: _request_next,
    3: _request_with_list,
    4: _request_with_first_block,
    5: _request_with_list_and_first_block,
    6: _request_with_block,
}


_WITH_DATA = b"\x01\x00"  # return parameters are there, and are data


def decode_response(data: bytes) -> ActionResponse:
    """Decode an action-response, its tag already looked at; a normal one's return value is not looked into.

    Raises RemoteProtocolError.
    """
    if len(data) > 6 and data[1] == 1 and data[3] == 0 and data[4:6] == _WITH_DATA:  # as proofs come
        return ActionResponseNormal(INVOKE[data[2]], ActionResult.SUCCESS, Raw(data[6:]))
    reader = Reader(data, "action-response", 1)
    kind = reader.u8("response type")
    decode = _RESPONSES.get(kind)
    if decode is None:
        raise reader.fail(f"response type {kind} is not in the standard", 1)
    response = decode(reader, reader.invoke())
    reader.end()
    return response


def _outcome(reader: Reader, read: Callable[[str], Raw]) -> ActionOutcome:
    result = reader.action_result()
    return ActionOutcome(
        result, reader.data_or_refusal(read) if reader.optional("return parameters") else None
    )


def _response_normal(reader: Reader, invoke: InvokeIdAndPriority) -> ActionResponse:
    return ActionResponseNormal(invoke, *_outcome(reader, reader.rest))


def _response_with_block(reader: Reader, invoke: InvokeIdAndPriority) -> ActionResponse:
    return ActionResponseWithPBlock(invoke, *reader.block())


def _response_with_list(reader: Reader, invoke: InvokeIdAndPriority) -> ActionResponse:
    return ActionResponseWithList(invoke, reader.many(lambda: _outcome(reader, reader.value), "result list"))


def _response_next(reader: Reader, invoke: InvokeIdAndPriority) -> ActionResponse:
    return ActionResponseNextPBlock(invoke, reader.u32("block number"))


_RESPONSES: dict[int, Callable[[Reader, InvokeIdAndPriority], ActionResponse]] = {
    1: _response_normal,
    2: _response_with_block,
    3: _response_with_list,
    4: _response_next,
}
