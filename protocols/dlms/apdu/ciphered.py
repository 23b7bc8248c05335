"""Ciphered APDUs: service-specific glo- and ded-, general-glo-, general-ded- and general-ciphering.

Framing only: what is inside is opaque here, `protocols.dlms.security` protects and unprotects it.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from protocols.dlms.apdu.fields import Reader, encode_octets, encode_uint
from protocols.errors import LocalProtocolError

GENERAL_GLO_TAG = 0xDB
GENERAL_DED_TAG = 0xDC
GENERAL_TAG = 0xDD

GLOBAL_TAGS = {
    0x21: "glo-initiate-request",
    0x28: "glo-initiate-response",
    0x2E: "glo-confirmed-service-error",
    0xC8: "glo-get-request",
    0xC9: "glo-set-request",
    0xCA: "glo-event-notification-request",
    0xCB: "glo-action-request",
    0xCC: "glo-get-response",
    0xCD: "glo-set-response",
    0xCF: "glo-action-response",
}
DEDICATED_TAGS = {
    0x41: "ded-initiate-request",
    0x48: "ded-initiate-response",
    0x4E: "ded-confirmed-service-error",
    0xD0: "ded-get-request",
    0xD1: "ded-set-request",
    0xD2: "ded-event-notification-request",
    0xD3: "ded-action-request",
    0xD4: "ded-get-response",
    0xD5: "ded-set-response",
    0xD7: "ded-action-response",
}

_HEAD = struct.Struct(">BI")
_SYSTEM_TITLE_LENGTHS = (0, 8)


@dataclass(frozen=True, slots=True)
class SecuredBody:
    """Security header (``control`` byte, ``invocation_counter``), then ``ciphertext`` with its tag.

    With authentication alone the "ciphertext" is the plain APDU and the tag.
    """

    control: int
    invocation_counter: int
    ciphertext: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Security control, invocation counter, ciphertext; no length before them."""
        if not 0 <= self.control <= 0xFF or not 0 <= self.invocation_counter <= 0xFFFF_FFFF:
            raise LocalProtocolError("security control or invocation counter does not fit its field")
        return _HEAD.pack(self.control, self.invocation_counter) + self.ciphertext


@dataclass(frozen=True, slots=True)
class GlobalCiphered:
    """Service-specific ciphering with the global key; ``tag`` tells the service."""

    tag: int
    body: SecuredBody

    def to_bytes(self) -> bytes:
        """The APDU; LocalProtocolError when ``tag`` is not of a glo- service."""
        return _encode_specific(self.tag, GLOBAL_TAGS, self.body)


@dataclass(frozen=True, slots=True)
class DedicatedCiphered:
    """Service-specific ciphering with the dedicated key; ``tag`` tells the service."""

    tag: int
    body: SecuredBody

    def to_bytes(self) -> bytes:
        """The APDU; LocalProtocolError when ``tag`` is not of a ded- service."""
        return _encode_specific(self.tag, DEDICATED_TAGS, self.body)


@dataclass(frozen=True, slots=True)
class GeneralGloCiphering:
    """Any APDU ciphered with the global key.

    ``system_title`` of the sender: 8 bytes, or none if agreed before.
    """

    system_title: bytes
    body: SecuredBody

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((GENERAL_GLO_TAG,)) + encode_octets(self.system_title) + encode_octets(self.body.to_bytes())
        )


@dataclass(frozen=True, slots=True)
class GeneralDedCiphering:
    """Any APDU ciphered with the dedicated key.

    ``system_title`` of the sender: 8 bytes, or none if agreed before.
    """

    system_title: bytes
    body: SecuredBody

    def to_bytes(self) -> bytes:
        """The APDU."""
        return (
            bytes((GENERAL_DED_TAG,)) + encode_octets(self.system_title) + encode_octets(self.body.to_bytes())
        )


class IdentifiedKeyId(IntEnum):
    """Key-Id of an identified key."""

    GLOBAL_UNICAST_ENCRYPTION = 0
    GLOBAL_BROADCAST_ENCRYPTION = 1


@dataclass(frozen=True, slots=True)
class IdentifiedKey:
    """Key-Info: a key that both sides hold."""

    key_id: IdentifiedKeyId

    def to_bytes(self) -> bytes:
        """Key-Info, choice 0."""
        return bytes((0, self.key_id))


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """Key-Info: a key wrapped under another; ``kek_id`` 0 is the master key, the only one there is."""

    kek_id: int
    key_ciphered_data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Key-Info, choice 1."""
        return b"\x01" + encode_uint(self.kek_id, 1, "KEK id") + encode_octets(self.key_ciphered_data)


@dataclass(frozen=True, slots=True)
class AgreedKey:
    """Key-Info: a key agreed by ECDH. Read so that it can be named; not supported any further."""

    key_parameters: bytes
    key_ciphered_data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Key-Info, choice 2."""
        return b"\x02" + encode_octets(self.key_parameters) + encode_octets(self.key_ciphered_data)


KeyInfo = IdentifiedKey | WrappedKey | AgreedKey


@dataclass(frozen=True, slots=True)
class GeneralCiphering:
    """Any APDU ciphered with a key that the message itself names. ``date_time`` raw as sent, mostly empty."""

    transaction_id: bytes
    originator: bytes
    recipient: bytes
    date_time: bytes
    other_information: bytes
    key_info: KeyInfo | None
    body: SecuredBody

    @property
    def header(self) -> bytes:
        """The five octet strings, lengths included, as the additional authenticated data need them."""
        return b"".join(
            [
                encode_octets(value)
                for value in (
                    self.transaction_id,
                    self.originator,
                    self.recipient,
                    self.date_time,
                    self.other_information,
                )
            ]
        )

    def to_bytes(self) -> bytes:
        """The APDU."""
        key_info = b"\x00" if self.key_info is None else b"\x01" + self.key_info.to_bytes()
        return bytes((GENERAL_TAG,)) + self.header + key_info + encode_octets(self.body.to_bytes())


def _encode_specific(tag: int, allowed: dict[int, str], body: SecuredBody) -> bytes:
    if tag not in allowed:
        raise LocalProtocolError(f"tag 0x{tag:02x} is not one of {allowed[min(allowed)][:3]}- ciphering")
    return bytes((tag,)) + encode_octets(body.to_bytes())


def decode_global(data: bytes) -> GlobalCiphered:
    """Decode a glo- APDU, its tag already looked at. Raises RemoteProtocolError."""
    return GlobalCiphered(data[0], _last_body(Reader(data, GLOBAL_TAGS[data[0]], 1)))


def decode_dedicated(data: bytes) -> DedicatedCiphered:
    """Decode a ded- APDU, its tag already looked at. Raises RemoteProtocolError."""
    return DedicatedCiphered(data[0], _last_body(Reader(data, DEDICATED_TAGS[data[0]], 1)))


def decode_general_glo(data: bytes) -> GeneralGloCiphering:
    """Decode a general-glo-ciphering, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "general-glo-ciphering", 1)
    title = _system_title(reader, "system title")
    return GeneralGloCiphering(title, _last_body(reader))


def decode_general_ded(data: bytes) -> GeneralDedCiphering:
    """Decode a general-ded-ciphering, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "general-ded-ciphering", 1)
    title = _system_title(reader, "system title")
    return GeneralDedCiphering(title, _last_body(reader))


def decode_general(data: bytes) -> GeneralCiphering:
    """Decode a general-ciphering, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "general-ciphering", 1)
    transaction_id = reader.octets("transaction id")
    originator = _system_title(reader, "originator system title")
    recipient = _system_title(reader, "recipient system title")
    date_time = reader.octets("date-time")
    other_information = reader.octets("other information")
    key_info = _key_info(reader) if reader.optional("key info") else None
    return GeneralCiphering(
        transaction_id=transaction_id,
        originator=originator,
        recipient=recipient,
        date_time=date_time,
        other_information=other_information,
        key_info=key_info,
        body=_last_body(reader),
    )


def _system_title(reader: Reader, what: str) -> bytes:
    start = reader.offset
    title = reader.octets(what)
    if len(title) not in _SYSTEM_TITLE_LENGTHS:
        raise reader.fail(f"{what} of {len(title)} bytes, it has 8 (or 0)", start)
    return title


def _key_info(reader: Reader) -> KeyInfo:
    choice = reader.u8("key info choice")
    if choice == 0:
        key_id = reader.u8("key id")
        if key_id not in _KEY_IDS:
            raise reader.fail(f"key id {key_id}, it has 0 and 1", reader.offset - 1)
        return IdentifiedKey(_KEY_IDS[key_id])
    if choice == 1:
        return WrappedKey(reader.u8("KEK id"), reader.octets("wrapped key"))
    if choice == 2:
        return AgreedKey(reader.octets("key parameters"), reader.octets("key ciphered data"))
    raise reader.fail(f"key info choice {choice}, it has 0 to 2", reader.offset - 1)


_KEY_IDS = {int(key_id): key_id for key_id in IdentifiedKeyId}


def _last_body(reader: Reader) -> SecuredBody:
    """The secured octet string that ends the APDU."""
    content = reader.octets("secured content")
    reader.end()
    if len(content) < _HEAD.size:
        raise reader.fail(f"secured content of {len(content)} bytes has no whole security header")
    control, counter = _HEAD.unpack_from(content)
    return SecuredBody(control, counter, content[_HEAD.size :])
