"""ACSE: AARQ, AARE, RLRQ, RLRE, in BER (IEC 62056-5-3, application association control).

``user_information`` is the content of the inner octet string as it came: an initiate APDU or a ciphered one.
Authentication values may be passwords and stay out of ``repr``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from protocols.dlms import ber
from protocols.dlms.enums import AcseDiagnostic, ApplicationContext, AssociationResult, Mechanism
from protocols.errors import RemoteProtocolError

AARQ_TAG = 0x60
AARE_TAG = 0x61
RLRQ_TAG = 0x62
RLRE_TAG = 0x63

# 2.16.756.5.8.1 and 2.16.756.5.8.2 as BER contents; the last arc follows.
_CONTEXT_ARC = bytes.fromhex("608574050801")
_MECHANISM_ARC = bytes.fromhex("608574050802")

_CHARSTRING = 0x80  # Authentication-value ::= CHOICE, charstring [0]
_VERSION = 0x80
_CONTEXT = 0xA1
_USER_INFORMATION = 0xBE
# ASN.1 says [29] IMPLICIT of a string, that is 0x9d; some peers write it constructed.
_IMPLEMENTATION_INFORMATION = (0x9D, 0xBD)


class DiagnosticSource(IntEnum):
    """Who speaks in result-source-diagnostic: the choice's number."""

    USER = 1
    PROVIDER = 2


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """result-source-diagnostic: who says it and the code, kept as a number since makers invent their own."""

    source: DiagnosticSource
    value: int

    def __str__(self) -> str:
        table = AcseDiagnostic if self.source is DiagnosticSource.USER else ProviderDiagnostic
        try:
            name = table(self.value).name.lower().replace("_", " ")
        except ValueError:
            name = "not in the standard"
        return f"{name} ({self.source.name.lower()} {self.value})"


class ProviderDiagnostic(IntEnum):
    """Acse-service-provider diagnostics."""

    NULL = 0
    NO_REASON_GIVEN = 1
    NO_COMMON_ACSE_VERSION = 2


@dataclass(frozen=True, slots=True)
class Aarq:
    """A-Associate request.

    ``acse_requirements``: the authentication functional unit is asked for (None: not said).
    """

    context: ApplicationContext
    mechanism: Mechanism | None = None
    calling_ap_title: bytes | None = None
    calling_authentication_value: bytes | None = field(default=None, repr=False)
    user_information: bytes | None = field(default=None, repr=False)
    called_ap_title: bytes | None = None
    called_ae_qualifier: bytes | None = None
    called_ap_invocation_id: int | None = None
    called_ae_invocation_id: int | None = None
    calling_ae_qualifier: bytes | None = None
    calling_ap_invocation_id: int | None = None
    calling_ae_invocation_id: int | None = None
    acse_requirements: bool | None = None
    implementation_information: bytes | None = None
    protocol_version: bytes | None = None

    def to_bytes(self) -> bytes:
        """The APDU."""
        return ber.encode_element(
            AARQ_TAG,
            b"".join(
                (
                    _plain(0x80, self.protocol_version),
                    _context(self.context),
                    _octets(0xA2, self.called_ap_title),
                    _octets(0xA3, self.called_ae_qualifier),
                    _integer(0xA4, self.called_ap_invocation_id),
                    _integer(0xA5, self.called_ae_invocation_id),
                    _octets(0xA6, self.calling_ap_title),
                    _octets(0xA7, self.calling_ae_qualifier),
                    _integer(0xA8, self.calling_ap_invocation_id),
                    _integer(0xA9, self.calling_ae_invocation_id),
                    _requirements(0x8A, self.acse_requirements),
                    _mechanism(0x8B, self.mechanism),
                    _authentication(0xAC, self.calling_authentication_value),
                    _plain(0x9D, self.implementation_information),
                    _octets(_USER_INFORMATION, self.user_information),
                )
            ),
        )


@dataclass(frozen=True, slots=True)
class Aare:
    """A-Associate response. ``responding_ap_title`` is the server's system title where there is ciphering."""

    context: ApplicationContext
    result: AssociationResult
    diagnostic: Diagnostic
    responding_ap_title: bytes | None = None
    mechanism: Mechanism | None = None
    responding_authentication_value: bytes | None = field(default=None, repr=False)
    user_information: bytes | None = field(default=None, repr=False)
    responding_ae_qualifier: bytes | None = None
    responding_ap_invocation_id: int | None = None
    responding_ae_invocation_id: int | None = None
    acse_requirements: bool | None = None
    implementation_information: bytes | None = None
    protocol_version: bytes | None = None

    def to_bytes(self) -> bytes:
        """The APDU."""
        source = 0xA0 | self.diagnostic.source
        return ber.encode_element(
            AARE_TAG,
            b"".join(
                (
                    _plain(0x80, self.protocol_version),
                    _context(self.context),
                    _integer(0xA2, self.result),
                    ber.encode_element(0xA3, _integer(source, self.diagnostic.value)),
                    _octets(0xA4, self.responding_ap_title),
                    _octets(0xA5, self.responding_ae_qualifier),
                    _integer(0xA6, self.responding_ap_invocation_id),
                    _integer(0xA7, self.responding_ae_invocation_id),
                    _requirements(0x88, self.acse_requirements),
                    _mechanism(0x89, self.mechanism),
                    _authentication(0xAA, self.responding_authentication_value),
                    _plain(0x9D, self.implementation_information),
                    _octets(_USER_INFORMATION, self.user_information),
                )
            ),
        )


@dataclass(frozen=True, slots=True)
class Rlrq:
    """A-Release request. ``reason``: 0 normal, 1 urgent, 30 user defined."""

    reason: int | None = None
    user_information: bytes | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return _release(RLRQ_TAG, self.reason, self.user_information)


@dataclass(frozen=True, slots=True)
class Rlre:
    """A-Release response. ``reason``: 0 normal, 1 not finished, 30 user defined."""

    reason: int | None = None
    user_information: bytes | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        return _release(RLRE_TAG, self.reason, self.user_information)


def _plain(tag: int, content: bytes | None) -> bytes:
    return b"" if content is None else ber.encode_element(tag, content)


def _octets(tag: int, content: bytes | None) -> bytes:
    return b"" if content is None else ber.encode_element(tag, ber.encode_element(ber.OCTET_STRING, content))


def _integer(tag: int, value: int | None) -> bytes:
    return b"" if value is None else ber.encode_element(tag, ber.encode_integer(value))


def _context(context: ApplicationContext) -> bytes:
    oid = ber.encode_element(ber.OBJECT_IDENTIFIER, _CONTEXT_ARC + bytes((context,)))
    return ber.encode_element(_CONTEXT, oid)


def _mechanism(tag: int, mechanism: Mechanism | None) -> bytes:
    return b"" if mechanism is None else ber.encode_element(tag, _MECHANISM_ARC + bytes((mechanism,)))


def _requirements(tag: int, wanted: bool | None) -> bytes:
    # BIT STRING, 7 bits unused: the one bit is the authentication functional unit.
    return b"" if wanted is None else ber.encode_element(tag, bytes((7, 0x80 if wanted else 0)))


def _authentication(tag: int, value: bytes | None) -> bytes:
    return b"" if value is None else ber.encode_element(tag, ber.encode_element(_CHARSTRING, value))


def _release(tag: int, reason: int | None, user_information: bytes | None) -> bytes:
    # [0] IMPLICIT INTEGER: the integer's tag gives way to 0x80.
    given = b"" if reason is None else ber.encode_element(0x80, ber.encode_integer(reason)[2:])
    return ber.encode_element(tag, given + _octets(_USER_INFORMATION, user_information))


class _Fields:
    """The elements of one ACSE APDU by tag; each may come once, and none that the caller did not announce."""

    def __init__(self, data: bytes, name: str, allowed: frozenset[int]) -> None:
        self._data = data
        self._name = name
        whole = ber.read_element(data, 0, len(data))
        if whole.stop != len(data):
            raise RemoteProtocolError(
                f"{name}: {len(data) - whole.stop} bytes follow the complete APDU", offset=whole.stop
            )
        self._end = whole.stop
        self._elements: dict[int, ber.Element] = {}
        for element in ber.elements(data, whole.start, whole.stop):
            if element.tag not in allowed:
                raise RemoteProtocolError(
                    f"{name}: element 0x{element.tag:02x} has no place", offset=element.offset
                )
            if element.tag in self._elements:
                raise RemoteProtocolError(
                    f"{name}: element 0x{element.tag:02x} comes twice", offset=element.offset
                )
            self._elements[element.tag] = element

    def required(self, tag: int, what: str) -> ber.Element:
        element = self._elements.get(tag)
        if element is None:
            raise RemoteProtocolError(f"{self._name}: the {what} is missing", offset=self._end)
        return element

    def plain(self, *tags: int) -> bytes | None:
        for tag in tags:
            element = self._elements.get(tag)
            if element is not None:
                return self._data[element.start : element.stop]
        return None

    def octets(self, tag: int) -> bytes | None:
        element = self._elements.get(tag)
        return None if element is None else ber.only(self._data, element, ber.OCTET_STRING)

    def integer(self, tag: int) -> int | None:
        element = self._elements.get(tag)
        return None if element is None else self._integer_in(element)

    def context(self) -> ApplicationContext:
        element = self.required(_CONTEXT, "application context name")
        oid = ber.only(self._data, element, ber.OBJECT_IDENTIFIER)
        if oid[:-1] == _CONTEXT_ARC and oid[-1] in _CONTEXTS:
            return _CONTEXTS[oid[-1]]
        raise RemoteProtocolError(
            f"{self._name}: application context {oid.hex()} is not one of DLMS", offset=element.start
        )

    def mechanism(self, tag: int) -> Mechanism | None:
        element = self._elements.get(tag)
        if element is None:
            return None
        oid = self._data[element.start : element.stop]
        if oid[:-1] == _MECHANISM_ARC and oid[-1] in _MECHANISMS:
            return _MECHANISMS[oid[-1]]
        raise RemoteProtocolError(
            f"{self._name}: authentication mechanism {oid.hex()} is not one of DLMS", offset=element.start
        )

    def requirements(self, tag: int) -> bool | None:
        element = self._elements.get(tag)
        if element is None:
            return None
        if element.stop - element.start != 2:
            raise RemoteProtocolError(
                f"{self._name}: ACSE requirements are not one byte of bits", offset=element.start
            )
        return bool(self._data[element.start + 1] & 0x80)

    def authentication(self, tag: int) -> bytes | None:
        element = self._elements.get(tag)
        return None if element is None else ber.only(self._data, element, _CHARSTRING)

    def result(self) -> AssociationResult:
        element = self.required(0xA2, "result")
        code = self._integer_in(element)
        try:
            return AssociationResult(code)
        except ValueError:
            raise RemoteProtocolError(
                f"{self._name}: association result {code} is not in the standard", offset=element.start
            ) from None

    def diagnostic(self) -> Diagnostic:
        element = self.required(0xA3, "result source diagnostic")
        choice = ber.read_element(self._data, element.start, element.stop)
        if choice.tag not in (0xA1, 0xA2) or choice.stop != element.stop:
            raise RemoteProtocolError(
                f"{self._name}: result source diagnostic is neither of the user nor of the provider",
                offset=choice.offset,
            )
        return Diagnostic(DiagnosticSource(choice.tag & 0x1F), self._integer_in(choice))

    def reason(self) -> int | None:
        element = self._elements.get(0x80)
        return (
            None if element is None else ber.integer(self._data[element.start : element.stop], element.start)
        )

    def _integer_in(self, element: ber.Element) -> int:
        return ber.integer(ber.only(self._data, element, ber.INTEGER), element.start)


_CONTEXTS = {int(context): context for context in ApplicationContext}
_MECHANISMS = {int(mechanism): mechanism for mechanism in Mechanism}
_AARQ_ELEMENTS = frozenset(
    {
        _VERSION,
        _CONTEXT,
        *range(0xA2, 0xAA),
        0x8A,
        0x8B,
        0xAC,
        *_IMPLEMENTATION_INFORMATION,
        _USER_INFORMATION,
    }
)
_AARE_ELEMENTS = frozenset(
    {
        _VERSION,
        _CONTEXT,
        *range(0xA2, 0xA8),
        0x88,
        0x89,
        0xAA,
        *_IMPLEMENTATION_INFORMATION,
        _USER_INFORMATION,
    }
)
_RELEASE_ELEMENTS = frozenset({0x80, _USER_INFORMATION})


def decode_aarq(data: bytes) -> Aarq:
    """Decode an AARQ, its tag already looked at. Raises RemoteProtocolError.

    Elements may come in any order, each once. An authentication value other than a charstring is refused.
    """
    fields = _Fields(data, "AARQ", _AARQ_ELEMENTS)
    return Aarq(
        context=fields.context(),
        mechanism=fields.mechanism(0x8B),
        calling_ap_title=fields.octets(0xA6),
        calling_authentication_value=fields.authentication(0xAC),
        user_information=fields.octets(_USER_INFORMATION),
        called_ap_title=fields.octets(0xA2),
        called_ae_qualifier=fields.octets(0xA3),
        called_ap_invocation_id=fields.integer(0xA4),
        called_ae_invocation_id=fields.integer(0xA5),
        calling_ae_qualifier=fields.octets(0xA7),
        calling_ap_invocation_id=fields.integer(0xA8),
        calling_ae_invocation_id=fields.integer(0xA9),
        acse_requirements=fields.requirements(0x8A),
        implementation_information=fields.plain(*_IMPLEMENTATION_INFORMATION),
        protocol_version=fields.plain(_VERSION),
    )


def decode_aare(data: bytes) -> Aare:
    """Decode an AARE, its tag already looked at. Raises RemoteProtocolError."""
    fields = _Fields(data, "AARE", _AARE_ELEMENTS)
    return Aare(
        context=fields.context(),
        result=fields.result(),
        diagnostic=fields.diagnostic(),
        responding_ap_title=fields.octets(0xA4),
        mechanism=fields.mechanism(0x89),
        responding_authentication_value=fields.authentication(0xAA),
        user_information=fields.octets(_USER_INFORMATION),
        responding_ae_qualifier=fields.octets(0xA5),
        responding_ap_invocation_id=fields.integer(0xA6),
        responding_ae_invocation_id=fields.integer(0xA7),
        acse_requirements=fields.requirements(0x88),
        implementation_information=fields.plain(*_IMPLEMENTATION_INFORMATION),
        protocol_version=fields.plain(_VERSION),
    )


def decode_rlrq(data: bytes) -> Rlrq:
    """Decode an RLRQ, its tag already looked at. Raises RemoteProtocolError."""
    fields = _Fields(data, "RLRQ", _RELEASE_ELEMENTS)
    return Rlrq(fields.reason(), fields.octets(_USER_INFORMATION))


def decode_rlre(data: bytes) -> Rlre:
    """Decode an RLRE, its tag already looked at. Raises RemoteProtocolError."""
    fields = _Fields(data, "RLRE", _RELEASE_ELEMENTS)
    return Rlre(fields.reason(), fields.octets(_USER_INFORMATION))


DECODERS: dict[int, Callable[[bytes], Aarq | Aare | Rlrq | Rlre]] = {
    AARQ_TAG: decode_aarq,
    AARE_TAG: decode_aare,
    RLRQ_TAG: decode_rlrq,
    RLRE_TAG: decode_rlre,
}
