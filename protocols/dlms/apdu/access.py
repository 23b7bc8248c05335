"""ACCESS: many GET, SET and ACTION in one exchange (IEC 62056-5-3, ACCESS service).

A request is a list of what to do and, beside it, a list of data with one value for each entry: null-data for
a GET.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from protocols.dlms import axdr
from protocols.dlms.apdu.fields import (
    LongInvokeIdAndPriority,
    Raw,
    Reader,
    Selection,
    encode_date_time,
    encode_descriptor,
    encode_selective_access,
    encode_values,
)
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.errors import LocalProtocolError

REQUEST_TAG = 0xD9
RESPONSE_TAG = 0xDA

_GET, _SET, _ACTION, _GET_SELECTED, _SET_SELECTED = 1, 2, 3, 4, 5


class AccessGet(NamedTuple):
    """Read an attribute or the part of it that ``selection`` names."""

    attribute: Attribute
    selection: Selection | None = None

    def to_bytes(self) -> bytes:
        """Access-Request-Specification: choice 1, or 4 with a selection."""
        return _attribute_access(_GET, _GET_SELECTED, self.attribute, self.selection)


class AccessSet(NamedTuple):
    """Write an attribute or the part of it that ``selection`` names."""

    attribute: Attribute
    selection: Selection | None = None

    def to_bytes(self) -> bytes:
        """Access-Request-Specification: choice 2, or 5 with a selection."""
        return _attribute_access(_SET, _SET_SELECTED, self.attribute, self.selection)


class AccessAction(NamedTuple):
    """Invoke a method."""

    method: Method

    def to_bytes(self) -> bytes:
        """Access-Request-Specification: choice 3."""
        return bytes((_ACTION,)) + encode_descriptor(self.method)


AccessSpec = AccessGet | AccessSet | AccessAction


class AccessGetResult(NamedTuple):
    """What became of one AccessGet."""

    result: DataAccessResult


class AccessSetResult(NamedTuple):
    """What became of one AccessSet."""

    result: DataAccessResult


class AccessActionResult(NamedTuple):
    """What became of one AccessAction."""

    result: ActionResult


AccessResult = AccessGetResult | AccessSetResult | AccessActionResult


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """``specs`` and ``data`` belong together entry by entry; ``date_time`` 12 raw bytes or None."""

    long_invoke: LongInvokeIdAndPriority
    date_time: bytes | None
    specs: tuple[AccessSpec, ...]
    data: tuple[Raw, ...]

    def to_bytes(self) -> bytes:
        """The APDU; LocalProtocolError when the two lists differ in length."""
        if len(self.specs) != len(self.data):
            raise LocalProtocolError(f"{len(self.data)} data for {len(self.specs)} access specifications")
        return (
            bytes((REQUEST_TAG,))
            + self.long_invoke.to_bytes()
            + encode_date_time(self.date_time)
            + _encode_specs(self.specs)
            + encode_values(self.data)
        )


@dataclass(frozen=True, slots=True)
class AccessResponse:
    """``data`` and ``results`` go together entry by entry; ``specs`` repeats the request, or is None."""

    long_invoke: LongInvokeIdAndPriority
    date_time: bytes | None
    specs: tuple[AccessSpec, ...] | None
    data: tuple[Raw, ...]
    results: tuple[AccessResult, ...]

    def to_bytes(self) -> bytes:
        """The APDU; LocalProtocolError when the lists differ in length."""
        if len(self.data) != len(self.results) or (
            self.specs is not None and len(self.specs) != len(self.results)
        ):
            raise LocalProtocolError(
                "specifications, data and results of an access response differ in number"
            )
        return (
            bytes((RESPONSE_TAG,))
            + self.long_invoke.to_bytes()
            + encode_date_time(self.date_time)
            + (b"\x00" if self.specs is None else b"\x01" + _encode_specs(self.specs))
            + encode_values(self.data)
            + axdr.encode_length(len(self.results))
            + b"".join([bytes((_RESULT_CHOICE[type(result)], result.result)) for result in self.results])
        )


_RESULT_CHOICE: dict[type[AccessResult], int] = {
    AccessGetResult: _GET,
    AccessSetResult: _SET,
    AccessActionResult: _ACTION,
}


def _attribute_access(plain: int, selected: int, attribute: Attribute, selection: Selection | None) -> bytes:
    if selection is None:
        return bytes((plain,)) + encode_descriptor(attribute)
    return bytes((selected,)) + encode_descriptor(attribute) + encode_selective_access(selection)


def _encode_specs(specs: tuple[AccessSpec, ...]) -> bytes:
    return axdr.encode_length(len(specs)) + b"".join([spec.to_bytes() for spec in specs])


def decode_request(data: bytes) -> AccessRequest:
    """Decode an access-request, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "access-request", 1)
    long_invoke = reader.long_invoke()
    date_time = reader.date_time()
    specs = _specs(reader)
    values = _values(reader, len(specs))
    reader.end()
    return AccessRequest(long_invoke, date_time, specs, values)


def decode_response(data: bytes) -> AccessResponse:
    """Decode an access-response, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "access-response", 1)
    long_invoke = reader.long_invoke()
    date_time = reader.date_time()
    specs = _specs(reader) if reader.optional("specification list") else None
    values = _values(reader, None if specs is None else len(specs))
    start = reader.offset
    results = reader.many(lambda: _result(reader), "result list")
    if len(results) != len(values):
        raise reader.fail(f"{len(results)} results for {len(values)} data", start)
    reader.end()
    return AccessResponse(long_invoke, date_time, specs, values, results)


def _specs(reader: Reader) -> tuple[AccessSpec, ...]:
    return reader.many(lambda: _spec(reader), "specification list")


def _spec(reader: Reader) -> AccessSpec:
    choice = reader.u8("access choice")
    read = _SPECS.get(choice)
    if read is None:
        raise reader.fail(f"access choice {choice}, it has 1 to 5", reader.offset - 1)
    return read(reader)


_SPECS: dict[int, Callable[[Reader], AccessSpec]] = {
    _GET: lambda reader: AccessGet(reader.attribute()),
    _SET: lambda reader: AccessSet(reader.attribute()),
    _ACTION: lambda reader: AccessAction(reader.method()),
    _GET_SELECTED: lambda reader: AccessGet(reader.attribute(), reader.selective_access()),
    _SET_SELECTED: lambda reader: AccessSet(reader.attribute(), reader.selective_access()),
}


def _values(reader: Reader, expected: int | None) -> tuple[Raw, ...]:
    start = reader.offset
    values = reader.many(lambda: reader.value("data"), "data list")
    if expected is not None and len(values) != expected:
        raise reader.fail(f"{len(values)} data for {expected} access specifications", start)
    return values


def _result(reader: Reader) -> AccessResult:
    choice = reader.u8("result choice")
    if choice == _GET:
        return AccessGetResult(reader.data_access_result())
    if choice == _SET:
        return AccessSetResult(reader.data_access_result())
    if choice == _ACTION:
        return AccessActionResult(reader.action_result())
    raise reader.fail(f"result choice {choice}, it has 1 to 3", reader.offset - 1)
