"""How a server lets a client in and out: AARQ and AARE, the client's HLS proof, RLRQ and RLRE."""

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import acse, action, initiate
from protocols.dlms.apdu.fields import Raw
from protocols.dlms.association.cipher import RepeatedMessage
from protocols.dlms.association.events import ClientAssociated, ClientReleased, Refused, ServerEvent, Transmit
from protocols.dlms.association.handshake import Offer, Refusal, judge, negotiate, rejection
from protocols.dlms.association.server_exchange import ServerExchange
from protocols.dlms.association.states import ServerInput, ServerState
from protocols.dlms.ciphering import CIPHERED_TAGS
from protocols.dlms.cosem import REPLY_TO_HLS
from protocols.dlms.enums import AcseDiagnostic, ActionResult, ApplicationContext, AssociationResult
from protocols.dlms.hls import Party, is_high_level, prove, verify
from protocols.dlms.security import Key, Protection, ReplayedCounter, check_policy
from protocols.errors import CommunicationError, RemoteProtocolError, SecurityError


class ServerSetup(ServerExchange):
    """Association and release of one client."""

    __slots__ = ()

    def _on_aarq(self, apdu: bytes) -> list[ServerEvent]:
        self._clear()
        context = ApplicationContext.LN
        try:
            try:
                aarq = acse.decode_aarq(apdu)
                context = aarq.context
                return self._accept(aarq)
            except ReplayedCounter:
                raise  # its Exception-Response tells the counter that we expect
            except CommunicationError as exc:
                failed = isinstance(exc, SecurityError)
                diagnostic = (
                    AcseDiagnostic.AUTHENTICATION_FAILURE if failed else AcseDiagnostic.NO_REASON_GIVEN
                )
                raise Refusal(exc.reason, diagnostic) from exc
        except Refusal as refusal:
            self._clear()
            self._move(ServerInput.REJECT)
            return [Transmit(rejection(refusal, context).to_bytes()), Refused(refusal.reason)]

    def _accept(self, aarq: acse.Aarq) -> list[ServerEvent]:
        offer = judge(self.settings, aarq)
        request = self._initiate(aarq, offer)
        response, self._limit = negotiate(self.settings, request, ciphered=offer.ciphered)
        self.conformance = response.conformance
        self._services = int(response.conformance)
        self._offer = offer
        self._ciphered = offer.ciphered
        challenge = None
        if is_high_level(offer.mechanism):
            challenge = self.settings.random(self.settings.challenge_length)
            self._party = Party(
                offer.mechanism,
                self.settings.title,
                offer.title or b"",
                challenge,
                aarq.calling_authentication_value or b"",
                self.settings.secrets.get(offer.mechanism),
                None if self.settings.cipher is None else self.settings.cipher.keys,
            )
        information = response.to_bytes()
        protection = self._protection()
        if self._cipher is not None and offer.ciphered and protection:
            information = self._cipher.seal(information, protection=protection, use_global=True)
        aare = acse.Aare(
            aarq.context,
            AssociationResult.ACCEPTED,
            acse.Diagnostic(
                acse.DiagnosticSource.USER,
                AcseDiagnostic.NULL if challenge is None else AcseDiagnostic.AUTHENTICATION_REQUIRED,
            ),
            responding_ap_title=self.settings.title or None,
            mechanism=None if challenge is None else offer.mechanism,
            responding_authentication_value=challenge,
            acse_requirements=None if challenge is None else True,
            user_information=information,
        )
        self._move(ServerInput.ACCEPT if challenge is None else ServerInput.CHALLENGE)
        events: list[ServerEvent] = [Transmit(aare.to_bytes())]
        return events if challenge is not None else [*events, self._associated(offer)]

    def _initiate(self, aarq: acse.Aarq, offer: Offer) -> initiate.InitiateRequest:
        information = aarq.user_information
        if not information:
            raise RemoteProtocolError("AARQ without an InitiateRequest")
        self._control = None
        cipher = self._cipher
        if offer.ciphered and cipher is not None:
            cipher.peer_title = offer.title
            if information[0] in CIPHERED_TAGS:
                try:
                    opened = cipher.open(information, least=self._request)
                except RepeatedMessage:
                    last = cipher.peer_counter.last or 0
                    raise ReplayedCounter(last, last) from None
                cipher.follow(opened)
                information, self._control = opened.plain, opened.control
            else:
                check_policy(Protection(self._request), None)
        if information[0] != initiate.REQUEST_TAG:
            raise RemoteProtocolError(f"AARQ carries {apdus.name_of(information[0])}, not an InitiateRequest")
        request = initiate.decode_request(information)
        if request.dedicated_key is not None:
            if cipher is None or self._control is None:
                raise SecurityError("a dedicated key came in the clear")
            cipher.agree_dedicated(Key(request.dedicated_key))
        return request

    def _associated(self, offer: Offer) -> ClientAssociated:
        return ClientAssociated(offer.mechanism, offer.title, self.conformance, offer.public)

    def _on_proof(self, request: action.ActionRequest) -> list[ServerEvent]:
        if (
            not isinstance(request, action.ActionRequestNormal)
            or request.method != REPLY_TO_HLS
            or self._party is None
            or self._offer is None
        ):
            return self._not_allowed("the client has not proven itself yet")
        raw = b"" if request.parameters is None else request.parameters.data
        try:
            if len(raw) < 2 or raw[0] != 0x09 or raw[1] != len(raw) - 2:
                raise SecurityError("the client's HLS proof is not an octet-string")
            verify(self._party, raw[2:])
        except SecurityError as exc:
            refused = action.ActionResponseNormal(request.invoke, ActionResult.OTHER_REASON)
            apdu = self._seal(refused.to_bytes())
            self._clear()
            self._move(ServerInput.PROOF_REFUSED)
            return [Transmit(apdu), Refused(exc.reason)]
        proof = prove(self._party, self._counter)
        answer = Raw(bytes((0x09, len(proof))) + proof)
        granted = action.ActionResponseNormal(request.invoke, ActionResult.SUCCESS, answer)
        self._party = None
        self._move(ServerInput.PROOF_ACCEPTED)
        return [Transmit(self._seal(granted.to_bytes())), self._associated(self._offer)]

    def _on_rlrq(self, apdu: bytes) -> list[ServerEvent]:
        acse.decode_rlrq(apdu)
        events: list[ServerEvent] = [Transmit(acse.Rlre(0).to_bytes())]
        if self.state is not ServerState.IDLE:
            self._clear()
            self._move(ServerInput.RELEASE)
            events.append(ClientReleased())
        return events
