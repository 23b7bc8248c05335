"""xDLMS InitiateRequest, InitiateResponse and ConfirmedServiceError (IEC 62056-5-3, xDLMS initiate)."""

from dataclasses import dataclass, field

from protocols.dlms.apdu.fields import Reader, encode_octets, encode_uint
from protocols.dlms.enums import Conformance
from protocols.errors import LocalProtocolError

REQUEST_TAG = 0x01
RESPONSE_TAG = 0x08
SERVICE_ERROR_TAG = 0x0E

DLMS_VERSION = 6
VAA_LOGICAL_NAME = 0x0007

# [APPLICATION 31] BIT STRING of 24 bits: tag 5f 1f, 4 bytes, no bit unused.
_CONFORMANCE_HEAD = bytes.fromhex("5f1f0400")


@dataclass(frozen=True, slots=True)
class InitiateRequest:
    """What the client proposes.

    ``max_receive_pdu`` in bytes, 0: no limit. The dedicated key stays out of ``repr``.
    """

    conformance: Conformance
    max_receive_pdu: int
    dedicated_key: bytes | None = field(default=None, repr=False)
    response_allowed: bool = True
    quality_of_service: int | None = None
    dlms_version: int = DLMS_VERSION

    def to_bytes(self) -> bytes:
        """The APDU; response-allowed is left out where it is its default, true."""
        return b"".join(
            (
                bytes((REQUEST_TAG,)),
                b"\x00" if self.dedicated_key is None else b"\x01" + encode_octets(self.dedicated_key),
                b"\x00" if self.response_allowed else b"\x01\x00",
                _encode_quality(self.quality_of_service),
                encode_uint(self.dlms_version, 1, "DLMS version"),
                _encode_conformance(self.conformance),
                encode_uint(self.max_receive_pdu, 2, "maximum PDU size"),
            )
        )


@dataclass(frozen=True, slots=True)
class InitiateResponse:
    """What the server agrees to. ``vaa_name`` as unsigned: 0x0007 says logical names, 0xfa00 short names."""

    conformance: Conformance
    max_receive_pdu: int
    vaa_name: int = VAA_LOGICAL_NAME
    quality_of_service: int | None = None
    dlms_version: int = DLMS_VERSION

    def to_bytes(self) -> bytes:
        """The APDU."""
        return b"".join(
            (
                bytes((RESPONSE_TAG,)),
                _encode_quality(self.quality_of_service),
                encode_uint(self.dlms_version, 1, "DLMS version"),
                _encode_conformance(self.conformance),
                encode_uint(self.max_receive_pdu, 2, "maximum PDU size"),
                encode_uint(self.vaa_name, 2, "VAA name"),
            )
        )


# ConfirmedServiceError: the service it answers, the group of ServiceError, and for initiate what the values
# say.
_SERVICES = {1: "initiate", 5: "read", 6: "write"}
_ERROR_GROUPS = {
    0: "application reference",
    1: "hardware resource",
    2: "VDE state",
    3: "service",
    4: "definition",
    5: "access",
    6: "initiate",
    7: "load data set",
    9: "task",
}
_INITIATE_GROUP = 6
_INITIATE_VALUES = {
    0: "other",
    1: "DLMS version too low",
    2: "incompatible conformance",
    3: "PDU size too short",
    4: "refused by the VDE handler",
}


@dataclass(frozen=True, slots=True)
class ConfirmedServiceError:
    """The peer could not serve: ``service`` 1 and ``error_group`` 6 are initiate, ``value`` says what."""

    service: int
    error_group: int
    value: int

    def __str__(self) -> str:
        service = _SERVICES.get(self.service, f"service {self.service}")
        group = _ERROR_GROUPS.get(self.error_group, f"group {self.error_group}")
        values = _INITIATE_VALUES if self.error_group == _INITIATE_GROUP else {}
        return f"{service} failed, {group} error: {values.get(self.value, self.value)}"

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((SERVICE_ERROR_TAG,))
            + encode_uint(self.service, 1, "service")
            + encode_uint(self.error_group, 1, "error group")
            + encode_uint(self.value, 1, "error value")
        )


def _encode_quality(quality: int | None) -> bytes:
    if quality is None:
        return b"\x00"
    if not -128 <= quality <= 127:
        raise LocalProtocolError(f"quality of service {quality} does not fit a signed byte")
    return b"\x01" + quality.to_bytes(1, "big", signed=True)


def _encode_conformance(conformance: Conformance) -> bytes:
    return _CONFORMANCE_HEAD + encode_uint(int(conformance), 3, "conformance block")


def decode_request(data: bytes) -> InitiateRequest:
    """Decode an InitiateRequest, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "initiate-request", 1)
    dedicated_key = reader.octets("dedicated key") if reader.optional("dedicated key") else None
    response_allowed = reader.boolean("response-allowed") if reader.optional("response-allowed") else True
    quality = _quality(reader)
    version = reader.u8("DLMS version")
    conformance = _conformance(reader)
    max_receive_pdu = reader.u16("maximum PDU size")
    reader.end()
    return InitiateRequest(
        conformance=conformance,
        max_receive_pdu=max_receive_pdu,
        dedicated_key=dedicated_key,
        response_allowed=response_allowed,
        quality_of_service=quality,
        dlms_version=version,
    )


def decode_response(data: bytes) -> InitiateResponse:
    """Decode an InitiateResponse, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "initiate-response", 1)
    quality = _quality(reader)
    version = reader.u8("DLMS version")
    conformance = _conformance(reader)
    max_receive_pdu = reader.u16("maximum PDU size")
    vaa_name = reader.u16("VAA name")
    reader.end()
    return InitiateResponse(
        conformance=conformance,
        max_receive_pdu=max_receive_pdu,
        vaa_name=vaa_name,
        quality_of_service=quality,
        dlms_version=version,
    )


def decode_service_error(data: bytes) -> ConfirmedServiceError:
    """Decode a ConfirmedServiceError, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "confirmed-service-error", 1)
    error = ConfirmedServiceError(reader.u8("service"), reader.u8("error group"), reader.u8("error value"))
    reader.end()
    return error


def _quality(reader: Reader) -> int | None:
    if not reader.optional("quality of service"):
        return None
    return int.from_bytes(reader.take(1, "quality of service"), "big", signed=True)


def _conformance(reader: Reader) -> Conformance:
    start = reader.offset
    head = reader.take(3, "conformance block")
    # The tag in one byte (5f 04 00) instead of two (5f 1f 04 00) is an old habit that the Green Book lets
    # live.
    if head != b"\x5f\x04\x00" and head + reader.take(1, "conformance block") != _CONFORMANCE_HEAD:
        raise reader.fail(f"conformance block does not begin with {_CONFORMANCE_HEAD.hex()}", start)
    return Conformance(int.from_bytes(reader.take(3, "conformance block"), "big"))
