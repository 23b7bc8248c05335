"""How a client gets in and out: AARQ and AARE, the proofs of an HLS mechanism, RLRQ and RLRE."""

from functools import lru_cache
from typing import Final

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import acse, initiate
from protocols.dlms.apdu.aare_forms import AareForms, Answer
from protocols.dlms.apdu.action import RESPONSE_TAG as ACTION_RESPONSE
from protocols.dlms.apdu.action import ActionRequestNormal, ActionResponse, ActionResponseNormal
from protocols.dlms.apdu.fields import INVOKE, Raw
from protocols.dlms.association.cipher import CipherContext, RepeatedMessage
from protocols.dlms.association.client_exchange import ClientExchange, Pending
from protocols.dlms.association.events import Associated, ClientEvent, Released, Stale, Transmit
from protocols.dlms.association.states import ClientInput, ClientState
from protocols.dlms.ciphering import CIPHERED_TAGS
from protocols.dlms.cosem import REPLY_TO_HLS
from protocols.dlms.enums import AcseDiagnostic, ActionResult, AssociationResult, Mechanism
from protocols.dlms.hls import Party, check_challenge, is_high_level, prove, verify
from protocols.dlms.security import check_policy
from protocols.errors import (
    AssociationRejected,
    LocalProtocolError,
    RemoteProtocolError,
    SecurityError,
    ServiceRefused,
)

_SMALLEST_PDU: Final = 16  # less carries no request at all
_PLAIN_RELEASE = acse.Rlrq(0).to_bytes()
_USUAL_RLRE = acse.Rlre(0).to_bytes()
_NEEDS_TITLE = frozenset({Mechanism.HLS_GMAC, Mechanism.HLS_SHA256})

#: Shared by all associations: most of the cost of a plain session was to decode the same AARE again.
_AARES: Final = AareForms()
_decode_initiate_response = lru_cache(maxsize=64)(initiate.decode_response)


@lru_cache(maxsize=16)
def _release_head(length: int) -> bytes:
    """An RLRQ up to its user information of ``length`` bytes, which comes last."""
    return acse.Rlrq(0, bytes(length)).to_bytes()[:-length]


@lru_cache(maxsize=64)
def _proof_head(invoke: int, length: int) -> bytes:
    """The ACTION that brings our proof of ``length`` bytes, which comes last."""
    raw = Raw(bytes((0x09, length)) + bytes(length))
    return ActionRequestNormal(INVOKE[invoke], REPLY_TO_HLS, raw).to_bytes()[:-length]


class ClientSetup(ClientExchange):
    """Association with one server, and release."""

    __slots__ = ()

    def associate(self) -> bytes:
        """The AARQ."""
        self._move(ClientInput.ASSOCIATE)
        settings = self.settings
        cipher = self._cipher
        if cipher is not None:
            cipher.reset()
        self._abandoned.clear()
        self._gbt_late = {}
        self._used_gbt = False
        self.server_system_title = None
        self._challenge = (
            self._random(settings.challenge_length) if is_high_level(settings.mechanism) else b""
        )
        if cipher is None or not settings.ciphered:
            return settings.aarq(self._challenge, settings.initiate_request)
        information = settings.initiate_request
        if cipher.settings.use_dedicated_key:
            key = cipher.fresh_key()
            information = settings.initiate(key)
            sealed = cipher.seal(information)
            cipher.agree_dedicated(key)
            return settings.aarq(self._challenge, sealed)
        return settings.aarq(self._challenge, cipher.seal(information))

    def release(self) -> bytes:
        """The RLRQ; in a ciphered association with a ciphered InitiateRequest inside."""
        self._move(ClientInput.RELEASE)
        if self._cipher is None or not self.settings.ciphered:
            return _PLAIN_RELEASE
        information = self._cipher.seal(self.settings.initiate_request, use_global=True)
        return _release_head(len(information)) + information

    def _on_aare(self, apdu: bytes) -> list[ClientEvent]:
        if self.state is not ClientState.ASSOCIATING:
            return [Stale("an AARE came while no association was asked for")]
        answer = _AARES.read(apdu)
        try:
            return self._accept(answer)
        except (AssociationRejected, ServiceRefused):
            self._move(ClientInput.REJECTED)
            raise
        except RemoteProtocolError:
            self._fail()
            raise

    def _accept(self, answer: Answer) -> list[ClientEvent]:
        settings = self.settings
        aare = answer.like
        if aare.result is not AssociationResult.ACCEPTED:
            raise _rejected(aare, answer.information)
        if aare.context is not settings.application_context:
            raise SecurityError(f"the server changed the application context to {aare.context.name}")
        title = answer.title or None
        self.server_system_title = title
        information = answer.information
        if not information:
            raise RemoteProtocolError("AARE accepts without an InitiateResponse")
        if settings.ciphered and self._cipher is not None:
            if title is None:
                raise SecurityError("the server did not tell its system title")
            self._cipher.peer_title = title
            information = self._open_initiate(information, self._cipher)
        if information[0] == initiate.SERVICE_ERROR_TAG:
            raise service_refused(information)
        if information[0] != initiate.RESPONSE_TAG:
            raise RemoteProtocolError(
                f"AARE carries {apdus.name_of(information[0])}, not an InitiateResponse"
            )
        response = _decode_initiate_response(information)
        if response.vaa_name != initiate.VAA_LOGICAL_NAME:
            raise RemoteProtocolError(
                f"the server answers for VAA 0x{response.vaa_name:04x}, not logical names"
            )
        if 0 < response.max_receive_pdu < _SMALLEST_PDU:
            raise RemoteProtocolError(f"the server takes APDUs of {response.max_receive_pdu} bytes only")
        self.conformance = response.conformance & settings.conformance
        self.peer_max_pdu = response.max_receive_pdu
        self._accepted = Associated(self.conformance, self.peer_max_pdu, title, response.vaa_name)
        if not is_high_level(settings.mechanism):
            self._move(ClientInput.ACCEPTED)
            return [self._accepted]
        return [Transmit(self._prove(answer, title))]

    def _open_initiate(self, information: bytes, cipher: CipherContext) -> bytes:
        if information[0] not in CIPHERED_TAGS:
            check_policy(cipher.settings.least, None)
            return information
        try:
            return cipher.open(information).plain
        except RepeatedMessage:
            raise SecurityError("the AARE repeats the invocation counter of an earlier message") from None

    def _prove(self, answer: Answer, title: bytes | None) -> bytes:
        settings = self.settings
        mechanism = answer.like.mechanism
        if mechanism is not None and mechanism is not settings.mechanism:
            raise SecurityError(f"the server changed the mechanism to {mechanism.name}")
        if title is None and settings.mechanism in _NEEDS_TITLE:
            raise SecurityError("the server did not tell its system title")
        challenge = check_challenge(answer.challenge, ours=self._challenge)
        cipher = settings.cipher
        self._party = Party(
            settings.mechanism,
            settings.title,
            title or b"",
            self._challenge,
            challenge,
            settings.secret,
            None if cipher is None else cipher.keys,
        )
        proof = prove(self._party, self._counter)
        self._move(ClientInput.CHALLENGED)
        invoke = self._next_invoke()
        self._pending = Pending(ACTION_RESPONSE, invoke & 0x0F, 1, listed=False)
        return self._seal(_proof_head(invoke, len(proof)) + proof, use_global=True)

    def _on_proof(self, response: ActionResponse) -> list[ClientEvent]:
        try:
            if not isinstance(response, ActionResponseNormal):
                raise RemoteProtocolError("the server answers our HLS proof in blocks or as a list")
            returned = response.return_parameters
            if response.result is not ActionResult.SUCCESS or not isinstance(returned, Raw):
                raise AssociationRejected(
                    f"the server refused our HLS proof: {response.result.name.lower()}",
                    result=AssociationResult.REJECTED_PERMANENT,
                    diagnostic=AcseDiagnostic.AUTHENTICATION_FAILURE,
                )
            if self._party is None or self._accepted is None:
                raise LocalProtocolError("no HLS exchange is going on")
            data = returned.data
            if len(data) < 2 or data[0] != 0x09 or data[1] != len(data) - 2:
                raise RemoteProtocolError("the server's HLS proof is not an octet-string")
            verify(self._party, data[2:])
        except (RemoteProtocolError, AssociationRejected):
            self._fail()
            raise
        self._pending = self._party = None
        self._move(ClientInput.PROVEN)
        return [self._accepted]

    def _on_rlre(self, apdu: bytes) -> list[ClientEvent]:
        if self.state is not ClientState.RELEASING:
            return [Stale("an RLRE came while no release was asked for")]
        if apdu != _USUAL_RLRE:
            acse.decode_rlre(apdu)
        self._move(ClientInput.RELEASED)
        return [Released()]


def _rejected(aare: acse.Aare, information: bytes | None) -> AssociationRejected:
    reason = f"the server rejects the association ({aare.result.name.lower()}): {aare.diagnostic}"
    if information and information[0] == initiate.SERVICE_ERROR_TAG:
        reason += f"; {initiate.decode_service_error(information)}"
    return AssociationRejected(reason, result=aare.result, diagnostic=aare.diagnostic.value)


def service_refused(apdu: bytes) -> ServiceRefused:
    error = initiate.decode_service_error(apdu)
    return ServiceRefused(
        f"the peer refuses: {error}",
        service=error.service,
        error_group=error.error_group,
        value=error.value,
    )
