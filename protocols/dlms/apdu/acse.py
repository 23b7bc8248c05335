"""ACSE: AARQ, AARE, RLRQ, RLRE, in BER (IEC 62056-5-3, application association control).

``user_information`` is the content of the inner octet string as it came: an initiate APDU or a ciphered one.
Authentication values may be passwords and stay out of ``repr``.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from protocols.dlms import ber
from protocols.dlms.apdu import acse_elements as el
from protocols.dlms.enums import AcseDiagnostic, ApplicationContext, AssociationResult, Mechanism
from protocols.errors import RemoteProtocolError

_T = TypeVar("_T")

AARQ_TAG = 0x60
AARE_TAG = 0x61
RLRQ_TAG = 0x62
RLRE_TAG = 0x63

_PROTOCOL_VERSION = 0x80
_CONTEXT = 0xA1
_USER_INFORMATION = 0xBE
# ASN.1 says [29] IMPLICIT of a string, that is 0x9d; some peers write it constructed.
_IMPLEMENTATION = 0x9D
_IMPLEMENTATION_CONSTRUCTED = 0xBD
_COMMON = {_PROTOCOL_VERSION, _CONTEXT, _IMPLEMENTATION, _IMPLEMENTATION_CONSTRUCTED, _USER_INFORMATION}


class DiagnosticSource(IntEnum):
    """Who speaks in result-source-diagnostic: the choice's number."""

    USER = 1
    PROVIDER = 2


class ProviderDiagnostic(IntEnum):
    """Acse-service-provider diagnostics."""

    NULL = 0
    NO_REASON_GIVEN = 1
    NO_COMMON_ACSE_VERSION = 2


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


@dataclass(frozen=True, slots=True)
class Aarq:
    """A-Associate request.

    ``acse_requirements``: the authentication functional unit is asked for (None: not said). Invocation ids
    are signed integers. ``protocol_version`` is the BIT STRING's content, None for the default (version 1).
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
        elements = (
            el.plain(_PROTOCOL_VERSION, self.protocol_version),
            el.context_name(_CONTEXT, self.context),
            el.octets(0xA2, self.called_ap_title),
            el.octets(0xA3, self.called_ae_qualifier),
            el.integer(0xA4, self.called_ap_invocation_id),
            el.integer(0xA5, self.called_ae_invocation_id),
            el.octets(0xA6, self.calling_ap_title),
            el.octets(0xA7, self.calling_ae_qualifier),
            el.integer(0xA8, self.calling_ap_invocation_id),
            el.integer(0xA9, self.calling_ae_invocation_id),
            el.requirements(0x8A, self.acse_requirements),
            el.mechanism_name(0x8B, self.mechanism),
            el.authentication(0xAC, self.calling_authentication_value),
            el.plain(_IMPLEMENTATION, self.implementation_information),
            el.octets(_USER_INFORMATION, self.user_information),
        )
        return ber.encode_element(AARQ_TAG, b"".join(elements))


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
        diagnostic = el.integer(0xA0 | self.diagnostic.source, self.diagnostic.value)
        elements = (
            el.plain(_PROTOCOL_VERSION, self.protocol_version),
            el.context_name(_CONTEXT, self.context),
            el.integer(0xA2, self.result),
            ber.encode_element(0xA3, diagnostic),
            el.octets(0xA4, self.responding_ap_title),
            el.octets(0xA5, self.responding_ae_qualifier),
            el.integer(0xA6, self.responding_ap_invocation_id),
            el.integer(0xA7, self.responding_ae_invocation_id),
            el.requirements(0x88, self.acse_requirements),
            el.mechanism_name(0x89, self.mechanism),
            el.authentication(0xAA, self.responding_authentication_value),
            el.plain(_IMPLEMENTATION, self.implementation_information),
            el.octets(_USER_INFORMATION, self.user_information),
        )
        return ber.encode_element(AARE_TAG, b"".join(elements))


@dataclass(frozen=True, slots=True)
class Rlrq:
    """A-Release request. ``reason``: 0 normal, 1 urgent, 30 user defined."""

    reason: int | None = None
    user_information: bytes | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        elements = el.plain_integer(0x80, self.reason) + el.octets(_USER_INFORMATION, self.user_information)
        return ber.encode_element(RLRQ_TAG, elements)


@dataclass(frozen=True, slots=True)
class Rlre:
    """A-Release response. ``reason``: 0 normal, 1 not finished, 30 user defined."""

    reason: int | None = None
    user_information: bytes | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        elements = el.plain_integer(0x80, self.reason) + el.octets(_USER_INFORMATION, self.user_information)
        return ber.encode_element(RLRE_TAG, elements)


_AARQ_ELEMENTS = frozenset(_COMMON | {*range(0xA2, 0xAA), 0x8A, 0x8B, 0xAC})
_AARE_ELEMENTS = frozenset(_COMMON | {*range(0xA2, 0xA8), 0x88, 0x89, 0xAA})
_RELEASE_ELEMENTS = frozenset({0x80, _USER_INFORMATION})
_RESULTS = {int(result): result for result in AssociationResult}
_DIAGNOSTIC_SOURCES = {0xA0 | source: source for source in DiagnosticSource}


def _named(name: str) -> Callable[[Callable[[bytes], _T]], Callable[[bytes], _T]]:
    """Put the APDU's name before the reason of whatever its decoder finds wrong."""

    def wrap(decode: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
        @functools.wraps(decode)
        def named(data: bytes) -> _T:
            try:
                return decode(data)
            except RemoteProtocolError as exc:
                raise RemoteProtocolError(f"{name}: {exc.reason}", offset=exc.offset) from exc

        return named

    return wrap


@_named("AARQ")
def decode_aarq(data: bytes) -> Aarq:
    """Decode an AARQ, its tag already looked at. Raises RemoteProtocolError.

    Elements may come in any order, each once. An authentication value other than a charstring is refused.
    """
    elements = el.Elements(data, _AARQ_ELEMENTS)
    return Aarq(
        context=elements.context(_CONTEXT),
        mechanism=elements.mechanism(0x8B),
        calling_ap_title=elements.octets(0xA6),
        calling_authentication_value=elements.authentication(0xAC),
        user_information=elements.octets(_USER_INFORMATION),
        called_ap_title=elements.octets(0xA2),
        called_ae_qualifier=elements.octets(0xA3),
        called_ap_invocation_id=elements.integer(0xA4),
        called_ae_invocation_id=elements.integer(0xA5),
        calling_ae_qualifier=elements.octets(0xA7),
        calling_ap_invocation_id=elements.integer(0xA8),
        calling_ae_invocation_id=elements.integer(0xA9),
        acse_requirements=elements.requirements(0x8A),
        implementation_information=_implementation(elements),
        protocol_version=elements.plain(_PROTOCOL_VERSION),
    )


@_named("AARE")
def decode_aare(data: bytes) -> Aare:
    """Decode an AARE, its tag already looked at. Raises RemoteProtocolError."""
    elements = el.Elements(data, _AARE_ELEMENTS)
    context = elements.context(_CONTEXT)
    code = elements.integer(0xA2)
    if code is None:
        raise elements.missing("result")
    result = _RESULTS.get(code)
    if result is None:
        raise RemoteProtocolError(
            f"association result {code} is not in the standard", offset=elements.offset(0xA2)
        )
    diagnostic = elements.choice_of_integer(0xA3, (0xA1, 0xA2))
    if diagnostic is None:
        raise elements.missing("result source diagnostic")
    return Aare(
        context=context,
        result=result,
        diagnostic=Diagnostic(_DIAGNOSTIC_SOURCES[diagnostic[0]], diagnostic[1]),
        responding_ap_title=elements.octets(0xA4),
        mechanism=elements.mechanism(0x89),
        responding_authentication_value=elements.authentication(0xAA),
        user_information=elements.octets(_USER_INFORMATION),
        responding_ae_qualifier=elements.octets(0xA5),
        responding_ap_invocation_id=elements.integer(0xA6),
        responding_ae_invocation_id=elements.integer(0xA7),
        acse_requirements=elements.requirements(0x88),
        implementation_information=_implementation(elements),
        protocol_version=elements.plain(_PROTOCOL_VERSION),
    )


def places_in_aare(data: bytes, aare: Aare) -> tuple[slice | None, slice | None, slice | None]:
    """Where title, authentication value and user information of ``aare``, decoded from ``data``, are in it.

    They end where their elements end, and nothing in them was looked at: other bytes there decode alike.
    """
    elements = el.Elements(data, _AARE_ELEMENTS)
    title, challenge, information = [
        None if value is None else slice(elements.end(tag) - len(value), elements.end(tag))
        for tag, value in (
            (0xA4, aare.responding_ap_title),
            (0xAA, aare.responding_authentication_value),
            (_USER_INFORMATION, aare.user_information),
        )
    ]
    return title, challenge, information


@_named("RLRQ")
def decode_rlrq(data: bytes) -> Rlrq:
    """Decode an RLRQ, its tag already looked at. Raises RemoteProtocolError."""
    elements = el.Elements(data, _RELEASE_ELEMENTS)
    return Rlrq(elements.plain_integer(0x80), elements.octets(_USER_INFORMATION))


@_named("RLRE")
def decode_rlre(data: bytes) -> Rlre:
    """Decode an RLRE, its tag already looked at. Raises RemoteProtocolError."""
    elements = el.Elements(data, _RELEASE_ELEMENTS)
    return Rlre(elements.plain_integer(0x80), elements.octets(_USER_INFORMATION))


def _implementation(elements: el.Elements) -> bytes | None:
    content = elements.plain(_IMPLEMENTATION)
    return elements.plain(_IMPLEMENTATION_CONSTRUCTED) if content is None else content


DECODERS: dict[int, Callable[[bytes], Aarq | Aare | Rlrq | Rlre]] = {
    AARQ_TAG: decode_aarq,
    AARE_TAG: decode_aare,
    RLRQ_TAG: decode_rlrq,
    RLRE_TAG: decode_rlre,
}
