"""Exception-Response: the peer could not even take the request (IEC 62056-5-3)."""

from dataclasses import dataclass

from protocols.dlms.apdu.fields import Reader, encode_uint
from protocols.dlms.enums import ServiceErrorCode, StateError

TAG = 0xD8


@dataclass(frozen=True, slots=True)
class ExceptionResponseApdu:
    """Codes as numbers, since makers invent their own. ``invocation_counter``: the one the peer expects,
    where the service error is invocation-counter-error and the peer tells it (older ones do not)."""

    state_error: int
    service_error: int
    invocation_counter: int | None = None

    def __str__(self) -> str:
        state = _name(StateError, self.state_error)
        counter = "" if self.invocation_counter is None else f", it expects counter {self.invocation_counter}"
        return f"{state}, {_name(ServiceErrorCode, self.service_error)}{counter}"

    def to_bytes(self) -> bytes:
        """The APDU."""
        head = bytes((TAG,)) + encode_uint(self.state_error, 1, "state error")
        service = encode_uint(self.service_error, 1, "service error")
        counter = self.invocation_counter
        return head + service + (b"" if counter is None else encode_uint(counter, 4, "invocation counter"))


def _name(table: type[StateError] | type[ServiceErrorCode], code: int) -> str:
    try:
        return table(code).name.lower().replace("_", " ")
    except ValueError:
        return f"code {code} that is not in the standard"


def decode(data: bytes) -> ExceptionResponseApdu:
    """Decode an exception-response, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "exception-response", 1)
    state_error = reader.u8("state error")
    service_error = reader.u8("service error")
    counter = None
    if service_error == ServiceErrorCode.INVOCATION_COUNTER_ERROR and reader.offset < len(data):
        counter = reader.u32("invocation counter")
    reader.end()
    return ExceptionResponseApdu(state_error, service_error, counter)
