"""How a server judges an AARQ: accepted on which terms, or rejected with which diagnostic."""

import hmac
from typing import NamedTuple

from protocols.dlms.apdu.acse import Aare, Aarq, Diagnostic, DiagnosticSource
from protocols.dlms.apdu.initiate import (
    DLMS_VERSION,
    ConfirmedServiceError,
    InitiateRequest,
    InitiateResponse,
)
from protocols.dlms.association.settings import ServerSettings
from protocols.dlms.enums import AcseDiagnostic, ApplicationContext, AssociationResult, Mechanism
from protocols.dlms.hls import check_challenge, is_high_level
from protocols.dlms.security import SYSTEM_TITLE_LENGTH
from protocols.errors import SecurityError

# ConfirmedServiceError: service initiate, group initiate, and what is wrong.
_SERVICE_INITIATE, _GROUP_INITIATE = 1, 6
_VERSION_TOO_LOW, _INCOMPATIBLE_CONFORMANCE, _PDU_TOO_SHORT = 1, 2, 3
# A block of an answer must fit: bare, or inside the longest ciphered form.
_SMALLEST_PLAIN_PDU, _SMALLEST_CIPHERED_PDU = 32, 128
_NEEDS_TITLE = frozenset({Mechanism.HLS_GMAC, Mechanism.HLS_SHA256})


class Refusal(Exception):  # a decision on its way to the AARE, not an error of the tree
    """The AARQ is rejected with ``diagnostic``, and where the initiate failed with ``service_error``."""

    def __init__(
        self, reason: str, diagnostic: AcseDiagnostic, service_error: ConfirmedServiceError | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.diagnostic = diagnostic
        self.service_error = service_error


class Offer(NamedTuple):
    """What a client may have: mechanism, whether messages are ciphered, its title, and if it is public."""

    mechanism: Mechanism
    ciphered: bool
    title: bytes | None
    public: bool


def judge(settings: ServerSettings, aarq: Aarq) -> Offer:
    """Check context, mechanism, password and title of an AARQ. Raises Refusal."""
    mechanism = aarq.mechanism or Mechanism.NONE
    if aarq.context not in (ApplicationContext.LN, ApplicationContext.LN_CIPHERED):
        raise Refusal(
            "short-name referencing is not supported", AcseDiagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED
        )
    ciphered = aarq.context is ApplicationContext.LN_CIPHERED
    public = mechanism is Mechanism.NONE and not ciphered and settings.public_objects is not None
    unfit = settings.cipher is None if ciphered else bool(settings.policy.request) and not public
    if unfit:
        raise Refusal(
            "no keys for a ciphered context" if ciphered else "the security policy wants a ciphered context",
            AcseDiagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED,
        )
    if not public and mechanism not in settings.mechanisms:
        raise Refusal(
            f"mechanism {mechanism.name} is not accepted",
            AcseDiagnostic.AUTHENTICATION_REQUIRED
            if mechanism is Mechanism.NONE
            else AcseDiagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED,
        )
    title = aarq.calling_ap_title or None
    if title is None and (ciphered or mechanism in _NEEDS_TITLE):
        raise Refusal(
            "the client does not tell its system title", AcseDiagnostic.CALLING_AP_TITLE_NOT_RECOGNIZED
        )
    if title is not None and len(title) != SYSTEM_TITLE_LENGTH:
        raise Refusal(
            f"the client's system title has {len(title)} bytes",
            AcseDiagnostic.CALLING_AP_TITLE_NOT_RECOGNIZED,
        )
    _check_authentication(settings, mechanism, aarq.calling_authentication_value)
    return Offer(mechanism, ciphered, title, public)


def _check_authentication(settings: ServerSettings, mechanism: Mechanism, value: bytes | None) -> None:
    if mechanism is Mechanism.LLS and not hmac.compare_digest(
        value or b"", settings.secrets[mechanism].reveal()
    ):
        raise Refusal("the password is wrong", AcseDiagnostic.AUTHENTICATION_FAILURE)
    if is_high_level(mechanism):
        try:
            check_challenge(value, ours=b"")
        except SecurityError as exc:
            raise Refusal(exc.reason, AcseDiagnostic.AUTHENTICATION_FAILURE) from exc


def negotiate(
    settings: ServerSettings, request: InitiateRequest, *, ciphered: bool
) -> tuple[InitiateResponse, int]:
    """The InitiateResponse, and the longest APDU in bytes that we may send. Raises Refusal."""
    if request.dlms_version != DLMS_VERSION:
        raise _initiate_refusal(f"DLMS version {request.dlms_version}", _VERSION_TOO_LOW)
    conformance = settings.conformance & request.conformance
    if not conformance:
        raise _initiate_refusal("no service in common", _INCOMPATIBLE_CONFORMANCE)
    theirs = request.max_receive_pdu
    smallest = _SMALLEST_CIPHERED_PDU if ciphered else _SMALLEST_PLAIN_PDU
    if theirs != 0 and theirs < smallest:
        raise _initiate_refusal(f"a PDU size of {theirs} bytes", _PDU_TOO_SHORT)
    limit = min(settings.max_pdu, theirs) if theirs else settings.max_pdu
    return InitiateResponse(conformance, settings.max_pdu), limit


def _initiate_refusal(reason: str, value: int) -> Refusal:
    error = ConfirmedServiceError(_SERVICE_INITIATE, _GROUP_INITIATE, value)
    return Refusal(reason, AcseDiagnostic.NO_REASON_GIVEN, error)


def rejection(refusal: Refusal, context: ApplicationContext) -> Aare:
    """The AARE that tells a client why it is rejected."""
    error = refusal.service_error
    return Aare(
        context,
        AssociationResult.REJECTED_PERMANENT,
        Diagnostic(DiagnosticSource.USER, refusal.diagnostic),
        user_information=None if error is None else error.to_bytes(),
    )
