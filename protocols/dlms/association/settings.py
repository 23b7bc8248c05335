"""What a client and a server are configured with before the first byte. Secrets are `Key` objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import cached_property, lru_cache
from secrets import token_bytes

from protocols.dlms.apdu.acse import Aarq
from protocols.dlms.apdu.initiate import InitiateRequest
from protocols.dlms.blocks import MAX_TOTAL, MAX_WINDOW
from protocols.dlms.cosem import Attribute
from protocols.dlms.enums import ApplicationContext, Conformance, Mechanism, SecuritySuite
from protocols.dlms.hls import check_mechanism
from protocols.dlms.security import SYSTEM_TITLE_LENGTH, CipherKeys, Key, Policy, Protection
from protocols.errors import LocalProtocolError

#: What this client can do. Bits that we do not propose are services that we never use.
CLIENT_CONFORMANCE = (
    Conformance.GENERAL_PROTECTION
    | Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.PRIORITY_MGMT
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.DATA_NOTIFICATION
    | Conformance.ACCESS
    | Conformance.GET
    | Conformance.SET
    | Conformance.SELECTIVE_ACCESS
    | Conformance.EVENT_NOTIFICATION
    | Conformance.ACTION
)
MIN_CHALLENGE_LENGTH = 8
MAX_CHALLENGE_LENGTH = 64
_SMALLEST_PDU = 64
_SMALLEST_CIPHERED_PDU = 128
_AUTHENTICATED = int(Protection.AUTHENTICATED)


class CipherForm(StrEnum):
    """Which APDU carries a ciphered message."""

    SERVICE_SPECIFIC = auto()  # glo-/ded-get-request and its kin
    GENERAL = auto()  # general-glo-/general-ded-ciphering
    GENERAL_CIPHERING = auto()  # general-ciphering with identified key
    GENERAL_CIPHERING_WRAPPED = auto()  # general-ciphering with a key of ours wrapped under the master key


@dataclass(frozen=True)
class CipherSettings:
    """Keys and habits of one side of a ciphered association.

    ``protection`` is what our messages carry, ``required`` the least that the peer's must (default: the
    same).
    """

    our_system_title: bytes
    encryption_key: Key
    authentication_key: Key | None = None
    suite: SecuritySuite = SecuritySuite.SUITE_0
    form: CipherForm = CipherForm.SERVICE_SPECIFIC
    protection: Protection = Protection.AUTHENTICATED_ENCRYPTED
    required: Protection | None = None
    use_dedicated_key: bool = False
    master_key: Key | None = None
    #: The global unicast keys together.
    keys: CipherKeys = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.our_system_title) != SYSTEM_TITLE_LENGTH:
            raise LocalProtocolError(f"a system title has 8 bytes, got {len(self.our_system_title)}")
        # Plain integers: with the operators of flags, plans cost a third more.
        if (int(self.protection) | int(self.least)) & _AUTHENTICATED and self.authentication_key is None:
            raise LocalProtocolError("authenticated messages need an authentication key")
        general = self.form in (CipherForm.GENERAL_CIPHERING, CipherForm.GENERAL_CIPHERING_WRAPPED)
        if self.use_dedicated_key and general:
            raise LocalProtocolError(
                "general-ciphering names its key: a dedicated key cannot be used with it"
            )
        if self.form is CipherForm.GENERAL_CIPHERING_WRAPPED and self.master_key is None:
            raise LocalProtocolError("wrapping a key needs a master key")
        if not self.protection:
            raise LocalProtocolError("a ciphered message must be authenticated, encrypted or both")
        keys = CipherKeys(self.encryption_key, self.authentication_key, self.suite)
        object.__setattr__(self, "keys", keys)

    @property
    def least(self) -> Protection:
        """The least protection that we accept from the peer."""
        return self.protection if self.required is None else self.required


@dataclass(frozen=True)
class ClientSettings:
    """One client's way to associate with one meter.

    ``secret`` is the LLS password or the secret of HLS 3, 4 and 6; HLS 5 uses the keys of ``cipher``.
    ``context`` defaults to ciphered when there is a ``cipher``. ``max_pdu`` is the longest APDU in bytes that
    we receive (0: no bound). ``gbt_window`` not None sends every request in general block transfer and grants
    that many blocks.
    """

    mechanism: Mechanism = Mechanism.NONE
    secret: Key | None = None
    cipher: CipherSettings | None = None
    context: ApplicationContext | None = None
    conformance: Conformance = CLIENT_CONFORMANCE
    max_pdu: int = 1024
    challenge_length: int = 16
    gbt_window: int | None = None
    max_total: int = MAX_TOTAL
    system_title: bytes = b""  # ours where there is no ``cipher`` to name it: HLS-SHA256 hashes it
    #: Whether messages of this association are ciphered.
    ciphered: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_mechanism(self.mechanism)
        if self.mechanism in _WITH_SECRET and self.secret is None:
            raise LocalProtocolError(f"mechanism {self.mechanism.name} needs a secret")
        if self.mechanism is Mechanism.HLS_GMAC and (
            self.cipher is None or self.cipher.authentication_key is None
        ):
            raise LocalProtocolError("HLS-GMAC needs an encryption and an authentication key")
        context = self.application_context
        object.__setattr__(self, "ciphered", context is ApplicationContext.LN_CIPHERED)
        if context not in (ApplicationContext.LN, ApplicationContext.LN_CIPHERED):
            raise LocalProtocolError("short-name referencing is not supported")
        if self.ciphered and self.cipher is None:
            raise LocalProtocolError("a ciphered application context needs keys")
        if not MIN_CHALLENGE_LENGTH <= self.challenge_length <= MAX_CHALLENGE_LENGTH:
            raise LocalProtocolError("an HLS challenge has 8 to 64 bytes")
        if self.max_pdu != 0 and not _SMALLEST_PDU <= self.max_pdu <= 0xFFFF:
            raise LocalProtocolError(f"max_pdu must be 0 or {_SMALLEST_PDU} to 65535, not {self.max_pdu}")
        if self.gbt_window is not None and not 1 <= self.gbt_window <= MAX_WINDOW:
            raise LocalProtocolError(f"gbt_window must be 1 to {MAX_WINDOW}")

    @property
    def title(self) -> bytes:
        """Our system title, empty where we have none."""
        return self.system_title if self.cipher is None else self.cipher.our_system_title

    @property
    def application_context(self) -> ApplicationContext:
        """The application context that we propose."""
        if self.context is not None:
            return self.context
        return ApplicationContext.LN if self.cipher is None else ApplicationContext.LN_CIPHERED

    @cached_property
    def initiate_request(self) -> bytes:
        """The plain InitiateRequest without a dedicated key."""
        return _initiate_request(int(self.conformance), self.max_pdu)

    def initiate(self, dedicated_key: Key) -> bytes:
        """The plain InitiateRequest with ``dedicated_key`` inside: to be ciphered before it goes anywhere."""
        return InitiateRequest(self.conformance, self.max_pdu, dedicated_key.reveal()).to_bytes()

    def aarq(self, challenge: bytes, user_information: bytes) -> bytes:
        """The AARQ around ``user_information``; ``challenge`` is empty without HLS."""
        value = challenge
        if self.mechanism is Mechanism.LLS and self.secret is not None:
            value = self.secret.reveal()
        before, between = _aarq_template(
            self.application_context, self.mechanism, self.title, len(value), len(user_information)
        )
        return before + value + between + user_information


@lru_cache(maxsize=256)
def _initiate_request(conformance: int, max_pdu: int) -> bytes:
    return InitiateRequest(Conformance(conformance), max_pdu).to_bytes()


@lru_cache(maxsize=256)
def _aarq_template(
    context: ApplicationContext,
    mechanism: Mechanism,
    title: bytes,
    value_length: int,
    information_length: int,
) -> tuple[bytes, bytes]:
    """What stands before the authentication value, and between it and the user information, which is last.

    All meters of a model share it, since the parts that are put in leave the lengths as they are. No secret
    is in it.
    """
    named = mechanism is not Mechanism.NONE
    aarq = Aarq(
        context,
        mechanism=mechanism if named else None,
        acse_requirements=True if named else None,
        calling_ap_title=title or None,
        calling_authentication_value=bytes(value_length) or None,
        user_information=bytes(information_length),
    )
    whole = aarq.to_bytes()
    end = len(whole) - information_length
    if not value_length:
        return whole[:end], b""
    other = replace(aarq, calling_authentication_value=b"\xff" * value_length).to_bytes()
    start = next(i for i, (a, b) in enumerate(zip(whole, other, strict=True)) if a != b)
    return whole[:start], whole[start + value_length : end]


@dataclass(frozen=True)
class ServerSettings:
    """One logical device's server side, as the client SAP at the other end sees it.

    ``secrets`` holds the LLS password and the HLS secrets by mechanism; a mechanism is accepted when it is in
    ``mechanisms``. ``cipher`` holds the server's own title and keys; ``policy`` what a Security Setup object
    asks for. ``max_pdu`` is the longest APDU we send and receive, ``block_size`` an upper bound of raw data
    per block (0: as the PDU allows). ``public_objects`` not None admits the public client (no mechanism, no
    ciphering) whatever the policy, and is all that it may read.
    """

    mechanisms: frozenset[Mechanism] = frozenset({Mechanism.NONE})
    secrets: Mapping[Mechanism, Key] = field(default_factory=dict, repr=False)
    cipher: CipherSettings | None = None
    policy: Policy = field(default_factory=Policy)
    conformance: Conformance = CLIENT_CONFORMANCE
    max_pdu: int = 1024
    block_size: int = 0
    gbt_window: int = 1
    prefer_gbt: bool = False
    challenge_length: int = 16
    system_title: bytes = b""
    public_objects: frozenset[Attribute] | None = None
    max_total: int = MAX_TOTAL
    random: Callable[[int], bytes] = field(default=token_bytes, repr=False)

    def __post_init__(self) -> None:
        for mechanism in self.mechanisms:
            check_mechanism(mechanism)
            if mechanism in _WITH_SECRET and mechanism not in self.secrets:
                raise LocalProtocolError(f"mechanism {mechanism.name} needs a secret")
        if Mechanism.HLS_GMAC in self.mechanisms and (
            self.cipher is None or self.cipher.authentication_key is None
        ):
            raise LocalProtocolError("HLS-GMAC needs an encryption and an authentication key")
        if self.policy.request and self.cipher is None:
            raise LocalProtocolError("a security policy needs keys")
        smallest = _SMALLEST_PDU if self.cipher is None else _SMALLEST_CIPHERED_PDU
        if not smallest <= self.max_pdu <= 0xFFFF:
            raise LocalProtocolError(f"max_pdu must be {smallest} to 65535, not {self.max_pdu}")
        if not 1 <= self.gbt_window <= MAX_WINDOW:
            raise LocalProtocolError(f"gbt_window must be 1 to {MAX_WINDOW}")
        if not MIN_CHALLENGE_LENGTH <= self.challenge_length <= MAX_CHALLENGE_LENGTH:
            raise LocalProtocolError("an HLS challenge has 8 to 64 bytes")

    @property
    def title(self) -> bytes:
        """The server's system title, empty where it has none."""
        return self.cipher.our_system_title if self.cipher is not None else self.system_title


_WITH_SECRET = frozenset({Mechanism.LLS, Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256})
