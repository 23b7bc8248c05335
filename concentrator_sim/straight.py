"""The conversation of a night by the straight way: a server that knows by heart what meters are asked most.

`Straight` answers five messages in one step each, where they come as head-ends send them (HLS-GMAC, all of it
authenticated and encrypted in service-specific APDUs, one attribute at a time): AARQ, proof, GET of one
attribute, next block, release. All else it leaves, untouched, to the general way of its base class, whose
state it shares: message by message, either way may be gone. A test holds that both give the same bytes.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from hmac import compare_digest
from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.apdu import acse, action, get, initiate
from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.association import ServerAssociation, ServerSettings
from protocols.dlms.association.handshake import Offer, Refusal, negotiate
from protocols.dlms.association.settings import CipherForm
from protocols.dlms.association.states import ServerState
from protocols.dlms.blocks import split
from protocols.dlms.ciphering import GLOBAL_TAG, KeyUse
from protocols.dlms.cosem import REPLY_TO_HLS
from protocols.dlms.enums import AcseDiagnostic, ApplicationContext, AssociationResult, Conformance, Mechanism
from protocols.dlms.hls import MAX_CHALLENGE, MIN_CHALLENGE, Party
from protocols.dlms.security import SYSTEM_TITLE_LENGTH, PeerCounter, Protection
from protocols.errors import LocalProtocolError, RemoteProtocolError

Read = Callable[[AttributeItem], object]
Met = Callable[[bytes], None]

_BOTH: Final = int(Protection.AUTHENTICATED_ENCRYPTED)
_AUTHENTICATED: Final = int(Protection.AUTHENTICATED)
_GET: Final = GLOBAL_TAG[get.REQUEST_TAG]
_ACTION: Final = GLOBAL_TAG[action.REQUEST_TAG]
_INITIATE: Final = GLOBAL_TAG[initiate.REQUEST_TAG]
_INITIATED: Final = bytes((GLOBAL_TAG[initiate.RESPONSE_TAG],))
_GOT: Final = bytes((GLOBAL_TAG[get.RESPONSE_TAG],))
_ACTED: Final = bytes((GLOBAL_TAG[action.RESPONSE_TAG],))
_SERVICE_GET: Final = int(Conformance.GET)
_SERVICE_BLOCKS: Final = int(Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ)

_SHORT: Final = 0x80  # lengths below are one byte
_TAG: Final = 12  # bytes of an authentication tag; AES-GCM gives 16
_OCTETS: Final = 0x09
_PROOF: Final = 17
_AUTHENTICATION, _INFORMATION = 0xAC, 0xBE  # elements of an AARQ
#: Everything of the ACTION with a proof between its invoke id and the proof itself.
_PROOF_HEAD: Final = (
    struct.pack(">H6sb", REPLY_TO_HLS.class_id, REPLY_TO_HLS.obis.raw, REPLY_TO_HLS.index)
    + bytes((1, _OCTETS, _PROOF))
)  # fmt: skip
_CONFIRMED: Final = 0x40
_INVOKE_BITS: Final = 0xCF  # an invoke id and its flags; the others are reserved
# tag, type, invoke id, last block, number, choice of raw data
_BLOCK: Final = struct.Struct(">BBBBIB")
_NEXT: Final = struct.Struct(">BBBI")
_RELEASED: Final = acse.Rlre(0).to_bytes()

_decoded_get = lru_cache(maxsize=1024)(get.decode_request)


class _Terms(NamedTuple):
    """What a client asked for with an InitiateRequest, and gets."""

    conformance: Conformance
    services: int
    limit: int
    response: bytes


class Straight(ServerAssociation):
    """An association of a device with ``settings`` that `fits`. ``read`` gives an attribute's A-XDR bytes or
    anything else where there are none; ``met`` is told the title of a client that has proven itself."""

    __slots__ = ("_aad", "_context", "_encrypt", "_met", "_proof_aad", "_read", "_title")

    def __init__(
        self,
        settings: ServerSettings,
        *,
        next_counter: Callable[[], int],
        peer_counter: PeerCounter,
        read: Read,
        met: Met,
    ) -> None:
        super().__init__(settings, next_counter=next_counter, peer_counter=peer_counter)
        cipher = settings.cipher
        if cipher is None or self._cipher is None:
            raise LocalProtocolError("the straight way is for devices with keys")
        self._context = self._cipher
        suite, authentication = int(cipher.suite), cipher.keys.aad or b""
        self._encrypt = cipher.keys.encryption.aead().encrypt
        self._aad = bytes((_BOTH | suite,)) + authentication
        self._proof_aad = bytes((_AUTHENTICATED | suite,)) + authentication
        self._title = cipher.our_system_title
        self._read = read
        self._met = met

    @staticmethod
    def fits(settings: ServerSettings) -> bool:
        """Whether the straight way is that of such a device."""
        return (
            settings.cipher is not None
            and settings.mechanisms == {Mechanism.HLS_GMAC}
            and settings.policy.request == settings.policy.response == _BOTH
            and settings.public_objects is None
            and not settings.prefer_gbt
        )

    def answer(self, apdu: bytes) -> bytes | None:
        """The APDU that answers; None where it is for `receive` to do, and nothing has happened yet."""
        tag = apdu[0]
        if tag == _GET:
            return self._on_get_straight(apdu)
        if tag == _ACTION:
            return self._on_proof_straight(apdu)
        if tag == acse.AARQ_TAG:
            return self._on_aarq_straight(apdu)
        return self._on_rlrq_straight(apdu) if tag == acse.RLRQ_TAG else None

    # ---- the ways ------------------------------------------------------------------------------------

    def _on_aarq_straight(self, apdu: bytes) -> bytes | None:
        if self.state is not ServerState.IDLE:
            return None
        spans = _variable(apdu)
        if spans is None:
            return None
        settings, (begin, end, last) = self.settings, spans
        challenge, information = apdu[begin:end], apdu[last:]
        title = _caller(apdu[:begin], len(challenge), apdu[end:last], len(information))
        plain = None if title is None else self._opened(information, title)
        if title is None or plain is None or plain[1]:  # with a dedicated key
            return None
        terms = _terms(plain, settings.max_pdu, settings.conformance)
        if terms is None:
            return None
        self._clear()
        self._accepted(information)
        self._context.peer_title = title
        self._offer, self._ciphered = Offer(Mechanism.HLS_GMAC, True, title, public=False), True
        self.conformance, self._services, self._limit, response = terms
        ours = settings.random(settings.challenge_length)
        keys = self._context.settings.keys
        self._party = Party(Mechanism.HLS_GMAC, self._title, title, ours, challenge, keys=keys)
        self.state = ServerState.HLS_PENDING
        sealed = self._sealed(_INITIATED, response)
        before, between, behind = _aare(len(ours), len(sealed))
        return before + self._title + between + ours + behind + sealed

    def _on_proof_straight(self, apdu: bytes) -> bytes | None:
        party = self._party
        if self.state is not ServerState.HLS_PENDING or party is None or self._offer is None:
            return None
        plain = self._opened(apdu, party.peer_title)
        if plain is None or plain[1] != 1 or plain[3:-_PROOF] != _PROOF_HEAD:
            return None
        proof = plain[-_PROOF:]
        expected = self._encrypt(party.peer_title + proof[1:5], b"", self._proof_aad + party.my_challenge)
        if proof[0] != self._proof_aad[0] or not compare_digest(expected[:_TAG], proof[5:]):
            return None
        self._accepted(apdu)
        count = self._counter().to_bytes(4, "big")
        tag = self._encrypt(self._title + count, b"", self._proof_aad + party.peer_challenge)[:_TAG]
        head = bytes((action.RESPONSE_TAG, 1, plain[2] & _INVOKE_BITS, 0, 1, 0, _OCTETS, _PROOF))
        self._party = None
        self.state = ServerState.ASSOCIATED
        self._met(party.peer_title)
        return self._sealed(_ACTED, head + self._proof_aad[:1] + count + tag)

    def _on_get_straight(self, apdu: bytes) -> bytes | None:
        title = self._context.peer_title
        if self.state is not ServerState.ASSOCIATED or title is None:
            return None
        plain = self._opened(apdu, title)
        if plain is None or not plain[2] & _CONFIRMED or not self._services & _SERVICE_GET:
            return None
        if plain[1] == 2 and len(plain) == _NEXT.size:
            *_, number = _NEXT.unpack(plain)
            if not self._chunks or number != self._chunks_sent:
                return None
            self._accepted(apdu)
            return self._sealed(_GOT, self._block(plain[2]))
        try:
            request = _decoded_get(plain)
        except RemoteProtocolError:
            return None
        if not isinstance(request, get.GetRequestNormal):
            return None
        value = self._read(AttributeItem(request.attribute, request.selection))
        if not isinstance(value, bytes):
            return None
        room = self._room()
        if len(value) + 4 <= room:
            self._accepted(apdu)
            self._chunks = []
            head = bytes((get.RESPONSE_TAG, 1, plain[2] & _INVOKE_BITS, 0))
            return self._sealed(_GOT, head + value)
        if not self._services & _SERVICE_BLOCKS:
            return None
        self._accepted(apdu)
        self._chunks, self._chunks_sent = split(value, self._chunk_size()), 0
        return self._sealed(_GOT, self._block(plain[2]))

    def _on_rlrq_straight(self, apdu: bytes) -> bytes | None:
        if self.state is not ServerState.ASSOCIATED:
            return None
        try:
            acse.decode_rlrq(apdu)
        except RemoteProtocolError:
            return None
        self._clear()
        self.state = ServerState.IDLE
        return _RELEASED

    # ---- what they have in common --------------------------------------------------------------------

    def _opened(self, apdu: bytes, title: bytes) -> bytes | None:
        """The plain bytes, three at least, of a short APDU that the peer ``title`` ciphered, of the kind that
        its tag says; its counter is not yet taken."""
        size = len(apdu)
        if not 2 + 5 + 3 + _TAG <= size < _SHORT or apdu[1] != size - 2 or apdu[2] != self._aad[0]:
            return None
        last = self._context.peer_counter.last
        if last is not None and int.from_bytes(apdu[3:7], "big") <= last:
            return None
        nonce = title + apdu[3:7]
        plain = self._encrypt(nonce, apdu[7:-_TAG], None)[:-16]
        if not compare_digest(self._encrypt(nonce, plain, self._aad)[-16:-4], apdu[-_TAG:]):
            return None
        return plain if GLOBAL_TAG.get(plain[0]) == apdu[0] else None

    def _accepted(self, apdu: bytes) -> None:
        """What the general way leaves behind when it has opened ``apdu``."""
        self._context.peer_counter.accept(int.from_bytes(apdu[3:7], "big"), authenticated=True)
        self._gbt_request = None
        self._control, self._key_use = apdu[2], KeyUse.GLOBAL
        self._context.form = CipherForm.SERVICE_SPECIFIC

    def _block(self, invoke: int) -> bytes:
        number, chunk, last = self._take_chunk()
        head = _BLOCK.pack(get.RESPONSE_TAG, 2, invoke & _INVOKE_BITS, last, number, 0)
        return head + axdr.encode_length(len(chunk)) + chunk

    def _sealed(self, tag: bytes, plain: bytes) -> bytes:
        count = self._counter().to_bytes(4, "big")
        body = self._encrypt(self._title + count, plain, self._aad)[: _TAG - 16]
        return b"".join((tag, axdr.encode_length(5 + len(body)), self._aad[:1], count, body))


def _variable(apdu: bytes) -> tuple[int, int, int] | None:
    """Where the challenge of an AARQ begins and ends, and where its user information begins, the last."""
    size, at = len(apdu), 2
    if not 2 < size < _SHORT or apdu[1] != size - 2:
        return None
    begin = end = 0
    while at + 1 < size:
        tag, behind = apdu[at], at + 2 + apdu[at + 1]
        if tag == _AUTHENTICATION:
            begin, end = at + 4, behind
        elif tag == _INFORMATION and behind == size and 0 < begin < end:
            return begin, end, at + 4
        at = behind
    return None


@lru_cache(maxsize=64)
def _caller(head: bytes, challenge: int, between: bytes, information: int) -> bytes | None:
    """Title of a client that sends such an AARQ, where it asks for what a device that `fits` has."""
    try:
        aarq = acse.decode_aarq(head + bytes(challenge) + between + bytes(information))
    except RemoteProtocolError:
        return None
    asks = (aarq.context, aarq.mechanism) == (ApplicationContext.LN_CIPHERED, Mechanism.HLS_GMAC)
    title = aarq.calling_ap_title
    if not asks or title is None or len(title) != SYSTEM_TITLE_LENGTH:
        return None
    return title if MIN_CHALLENGE <= challenge <= MAX_CHALLENGE else None


@lru_cache(maxsize=64)
def _terms(plain: bytes, max_pdu: int, conformance: Conformance) -> _Terms | None:
    """What an InitiateRequest without a key leads to."""
    settings = ServerSettings(max_pdu=max_pdu, conformance=conformance)
    try:
        response, limit = negotiate(settings, initiate.decode_request(plain), ciphered=True)
    except (RemoteProtocolError, Refusal):
        return None
    return _Terms(response.conformance, int(response.conformance), limit, response.to_bytes())


@lru_cache(maxsize=64)
def _aare(challenge: int, information: int) -> tuple[bytes, bytes, bytes]:
    """The AARE that wants a proof: up to our title, up to our challenge, up to the user information."""
    title, ours = b"T" * SYSTEM_TITLE_LENGTH, b"C" * challenge
    whole = acse.Aare(
        ApplicationContext.LN_CIPHERED,
        AssociationResult.ACCEPTED,
        acse.Diagnostic(acse.DiagnosticSource.USER, AcseDiagnostic.AUTHENTICATION_REQUIRED),
        responding_ap_title=title,
        mechanism=Mechanism.HLS_GMAC,
        responding_authentication_value=ours,
        acse_requirements=True,
        user_information=bytes(information),
    ).to_bytes()
    at, challenged = whole.index(title), whole.index(ours)
    end = len(whole) - information
    return whole[:at], whole[at + len(title) : challenged], whole[challenged + challenge : end]
