"""The server's side of an association, sans-I/O: what a meter does with the APDUs of one client SAP.

`receive` never raises for the peer's bytes: it answers as the protocol wants it (AARE with a diagnostic,
Exception-Response, Data-Access-Result) and tells the application why in a `Refused`. A request that the
application must serve comes as an event, and one of the ``respond_...`` methods returns the APDUs of its
answer: long ones are cut into blocks of the negotiated size, ciphered ones travel in the form and with at
least the protection of the request.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, TypeVar

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import access, acse, action, block_transfer, exceptions, get, initiate, notification
from protocols.dlms.apdu import set as setting
from protocols.dlms.apdu.fields import (
    AttributeItem,
    InvokeIdAndPriority,
    LongInvokeIdAndPriority,
    Raw,
    Reader,
)
from protocols.dlms.association.cipher import CipherContext, RepeatedMessage
from protocols.dlms.association.events import (
    AccessRequested,
    ActionRequested,
    ClientAssociated,
    ClientReleased,
    Confirmed,
    GetRequested,
    MethodOutcome,
    Refused,
    ServerEvent,
    SetRequested,
    Transmit,
)
from protocols.dlms.association.handshake import Offer, Refusal, judge, negotiate, rejection
from protocols.dlms.association.settings import ServerSettings
from protocols.dlms.association.states import SERVER_TRANSITIONS, ServerInput, ServerState
from protocols.dlms.blocks import BlockJoiner, GbtReceiver, GbtSender, split
from protocols.dlms.ciphering import CIPHERED_TAGS, KeyUse
from protocols.dlms.cosem import REPLY_TO_HLS, Method
from protocols.dlms.enums import (
    AcseDiagnostic,
    ActionResult,
    ApplicationContext,
    AssociationResult,
    Conformance,
    DataAccessResult,
    ServiceErrorCode,
    StateError,
)
from protocols.dlms.hls import Party, is_high_level, prove, verify
from protocols.dlms.security import Key, PeerCounter, Protection, ReplayedCounter, check_policy
from protocols.errors import CommunicationError, LocalProtocolError, RemoteProtocolError, SecurityError

_BLOCK_OVERHEAD: Final = 13  # tag, type, invoke id, last, number, choice, length
_GBT_OVERHEAD: Final = 9
_NULL: Final = b"\x00"
_T = TypeVar("_T")

_SetStart = setting.SetRequestWithFirstBlock | setting.SetRequestWithListAndFirstBlock
_ActionStart = action.ActionRequestWithFirstPBlock | action.ActionRequestWithListAndFirstPBlock


class _Asked:
    """The request that the application is answering now."""

    __slots__ = ("block_number", "count", "invoke", "listed", "permitted", "specs", "tag")

    def __init__(
        self,
        tag: int,
        invoke: InvokeIdAndPriority | LongInvokeIdAndPriority,
        count: int,
        *,
        listed: bool,
        block_number: int | None = None,
        specs: tuple[access.AccessSpec, ...] = (),
    ) -> None:
        self.tag = tag
        self.invoke = invoke
        self.count = count
        self.listed = listed
        self.block_number = block_number
        self.specs = specs
        self.permitted: tuple[bool, ...] = ()


class ServerAssociation:
    """One client SAP's association with one logical device.

    ``next_counter`` gives the server's next invocation counter, ``peer_counter`` holds the client's last.
    """

    __slots__ = (
        "_asked",
        "_chunks",
        "_chunks_sent",
        "_cipher",
        "_ciphered",
        "_control",
        "_gbt_in",
        "_gbt_out",
        "_gbt_request",
        "_incoming",
        "_key_use",
        "_limit",
        "_next_counter",
        "_notified",
        "_offer",
        "_party",
        "_request",
        "_response",
        "_services",
        "_start",
        "conformance",
        "settings",
        "state",
    )

    def __init__(
        self,
        settings: ServerSettings,
        *,
        next_counter: Callable[[], int] | None = None,
        peer_counter: PeerCounter | None = None,
    ) -> None:
        if settings.cipher is not None and next_counter is None:
            raise LocalProtocolError("ciphering needs a source of invocation counters")
        # Plain integers: the operators of flags are slow.
        self._request = int(settings.policy.request)
        self._response = int(settings.policy.response)
        self.settings = settings
        self.state = ServerState.IDLE
        self._next_counter = next_counter
        self._cipher: CipherContext | None = None
        if settings.cipher is not None and next_counter is not None:
            self._cipher = CipherContext(
                settings.cipher,
                next_counter=next_counter,
                peer_counter=PeerCounter() if peer_counter is None else peer_counter,
                random=settings.random,
            )
        self._notified = 0
        self._clear()

    def _clear(self) -> None:
        self.conformance = Conformance(0)
        self._services = 0
        self._ciphered = False
        self._control: int | None = None
        self._key_use = KeyUse.GLOBAL
        self._limit = self.settings.max_pdu
        self._offer: Offer | None = None
        self._party: Party | None = None
        self._asked: _Asked | None = None
        self._start: _SetStart | _ActionStart | None = None
        self._incoming: BlockJoiner | None = None
        self._chunks: list[bytes] = []
        self._chunks_sent = 0
        self._gbt_in: GbtReceiver | None = None
        self._gbt_out: GbtSender | None = None
        self._gbt_request: tuple[int, int, int] | None = None
        if self._cipher is not None:
            self._cipher.reset()

    def reset(self) -> None:
        """The link is gone: no association is left."""
        self._clear()
        self._move(ServerInput.RESET)

    # ---- the peer's messages ----------------------------------------------------------------------

    def receive(self, apdu: bytes) -> list[ServerEvent]:
        """Take one whole APDU from the client; see the module for what comes back."""
        try:
            if apdu and apdu[0] == block_transfer.TAG:
                return self._on_general_block(block_transfer.decode(apdu))
            self._gbt_request = None
            return self._on_apdu(apdu)
        except ReplayedCounter as exc:
            return self._exception(exc, ServiceErrorCode.INVOCATION_COUNTER_ERROR, exc.expected)
        except SecurityError as exc:
            return self._exception(exc, ServiceErrorCode.DECIPHERING_ERROR)
        except RemoteProtocolError as exc:
            return self._exception(exc, ServiceErrorCode.OTHER_REASON, state=StateError.SERVICE_UNKNOWN)

    def _on_apdu(self, apdu: bytes) -> list[ServerEvent]:
        if not apdu:
            raise RemoteProtocolError("empty APDU", offset=0)
        tag = apdu[0]
        if tag == acse.AARQ_TAG:
            return self._on_aarq(apdu)
        if tag == acse.RLRQ_TAG:
            return self._on_rlrq(apdu)
        if self.state is ServerState.IDLE:
            return self._not_allowed("no association stands")
        self._control = None
        if tag in CIPHERED_TAGS:
            if self._cipher is None or not self._ciphered:
                raise SecurityError("ciphered message in an association without ciphering", offset=0)
            try:
                opened = self._cipher.open(apdu, least=self._request)
            except RepeatedMessage:
                return [Refused("the link doubled a ciphered message")]
            self._cipher.follow(opened)
            self._control, self._key_use = opened.control, opened.key_use
            apdu = opened.plain
        elif self._ciphered:
            check_policy(Protection(self._request), None)
        handler = self._HANDLERS.get(apdu[0])
        if handler is None:
            raise RemoteProtocolError(f"{apdus.name_of(apdu[0])} is nothing a client sends here", offset=0)
        service, handle = handler
        if self.state is ServerState.ANSWERING:
            return self._not_allowed("the request before is not answered yet")
        if self.state is ServerState.HLS_PENDING and apdu[0] != action.REQUEST_TAG:
            return self._not_allowed("the client has not proven itself yet")
        if not service & self._services and self.state is ServerState.ASSOCIATED:
            return self._not_allowed(
                f"{Conformance(service).name} is not negotiated", ServiceErrorCode.SERVICE_NOT_SUPPORTED
            )
        return handle(self, apdu)

    # ---- association ------------------------------------------------------------------------------

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

    # ---- requests ---------------------------------------------------------------------------------

    def _on_get(self, apdu: bytes) -> list[ServerEvent]:
        request = get.decode_request(apdu)
        if isinstance(request, get.GetRequestNext):
            return self._next_chunk(get.RESPONSE_TAG, request.invoke, request.block_number)
        if isinstance(request, get.GetRequestNormal):
            items: tuple[AttributeItem, ...] = (AttributeItem(request.attribute, request.selection),)
        else:
            items = request.items
        asked = self._ask(
            get.RESPONSE_TAG, request.invoke, len(items), isinstance(request, get.GetRequestWithList)
        )
        public = self.settings.public_objects
        if self._offer is not None and self._offer.public and public is not None:
            asked.permitted = tuple([item.attribute in public for item in items])
            items = tuple([item for item, granted in zip(items, asked.permitted, strict=True) if granted])
            if not items:
                return [Transmit(out) for out in self.respond_get(())]
        return [GetRequested(items)]

    def _on_set(self, apdu: bytes) -> list[ServerEvent]:
        request = setting.decode_request(apdu)
        invoke = request.invoke
        if isinstance(request, setting.SetRequestNormal):
            item = AttributeItem(request.attribute, request.selection)
            return self._set(invoke, (item,), (request.value.data,), listed=False)
        if isinstance(request, setting.SetRequestWithList):
            return self._set(invoke, request.items, tuple([v.data for v in request.values]), listed=True)
        if not isinstance(request, setting.SetRequestWithBlock):
            self._start, self._incoming = request, BlockJoiner(self.settings.max_total)
        start, joiner = self._start, self._incoming
        if joiner is None or not isinstance(start, _SetStart):
            return self._set_aborted(invoke, DataAccessResult.NO_LONG_SET_IN_PROGRESS, request.block_number)
        try:
            whole = joiner.add(request.block_number, request.data, last=request.last)
        except RemoteProtocolError:
            return self._set_aborted(invoke, DataAccessResult.DATA_BLOCK_NUMBER_INVALID, request.block_number)
        if whole is None:
            return self._reply(setting.SetResponseBlock(invoke, request.block_number).to_bytes())
        self._start = self._incoming = None
        number = request.block_number
        if isinstance(start, setting.SetRequestWithFirstBlock):
            item = AttributeItem(start.attribute, start.selection)
            return self._set(invoke, (item,), (whole,), listed=False, block_number=number)
        values = _list_of(whole, len(start.items), "set-request")
        return self._set(invoke, start.items, values, listed=True, block_number=number)

    def _set(
        self,
        invoke: InvokeIdAndPriority,
        items: tuple[AttributeItem, ...],
        values: tuple[bytes, ...],
        *,
        listed: bool,
        block_number: int | None = None,
    ) -> list[ServerEvent]:
        self._ask(setting.RESPONSE_TAG, invoke, len(items), listed, block_number)
        if self._is_public():
            denied = [DataAccessResult.READ_WRITE_DENIED] * len(items)
            return [Transmit(out) for out in self.respond_set(denied)]
        return [SetRequested(items, values)]

    def _set_aborted(
        self, invoke: InvokeIdAndPriority, why: DataAccessResult, number: int
    ) -> list[ServerEvent]:
        self._start = self._incoming = None
        aborted = setting.SetResponseLastBlock(invoke, why, number)
        return [*self._reply(aborted.to_bytes()), Refused(f"SET block {number}: {why.name.lower()}")]

    def _on_action(self, apdu: bytes) -> list[ServerEvent]:
        request = action.decode_request(apdu)
        invoke = request.invoke
        if self.state is ServerState.HLS_PENDING:
            return self._on_proof(request)
        if Conformance.ACTION not in self.conformance:
            return self._not_allowed("ACTION is not negotiated", ServiceErrorCode.SERVICE_NOT_SUPPORTED)
        if isinstance(request, action.ActionRequestNextPBlock):
            return self._next_chunk(action.RESPONSE_TAG, invoke, request.block_number)
        if isinstance(request, action.ActionRequestNormal):
            raw = None if request.parameters is None else request.parameters.data
            return self._act(invoke, (request.method,), (raw,), listed=False)
        if isinstance(request, action.ActionRequestWithList):
            return self._act(
                invoke, request.methods, tuple([p.data for p in request.parameters]), listed=True
            )
        if not isinstance(request, action.ActionRequestWithPBlock):
            self._start, self._incoming = request, BlockJoiner(self.settings.max_total)
        start, joiner = self._start, self._incoming
        if joiner is None or not isinstance(start, _ActionStart):
            return self._action_aborted(invoke, ActionResult.NO_LONG_ACTION_IN_PROGRESS, request.block_number)
        try:
            whole = joiner.add(request.block_number, request.data, last=request.last)
        except RemoteProtocolError:
            return self._action_aborted(invoke, ActionResult.LONG_ACTION_ABORTED, request.block_number)
        if whole is None:
            return self._reply(action.ActionResponseNextPBlock(invoke, request.block_number).to_bytes())
        self._start = self._incoming = None
        if isinstance(start, action.ActionRequestWithFirstPBlock):
            return self._act(invoke, (start.method,), (whole,), listed=False)
        parameters = _list_of(whole, len(start.methods), "action-request")
        return self._act(invoke, start.methods, parameters, listed=True)

    def _act(
        self,
        invoke: InvokeIdAndPriority,
        methods: tuple[Method, ...],
        parameters: tuple[bytes | None, ...],
        *,
        listed: bool,
    ) -> list[ServerEvent]:
        self._ask(action.RESPONSE_TAG, invoke, len(methods), listed)
        if self._is_public():
            denied = [MethodOutcome(ActionResult.READ_WRITE_DENIED)] * len(methods)
            return [Transmit(out) for out in self.respond_action(denied)]
        return [ActionRequested(methods, parameters)]

    def _action_aborted(
        self, invoke: InvokeIdAndPriority, why: ActionResult, number: int
    ) -> list[ServerEvent]:
        self._start = self._incoming = None
        aborted = action.ActionResponseNormal(invoke, why)
        return [*self._reply(aborted.to_bytes()), Refused(f"ACTION block {number}: {why.name.lower()}")]

    def _on_access(self, apdu: bytes) -> list[ServerEvent]:
        request = access.decode_request(apdu)
        if self._is_public():
            return self._not_allowed("the public client has no ACCESS service")
        asked = self._ask(access.RESPONSE_TAG, request.long_invoke, len(request.specs), listed=True)
        asked.specs = request.specs
        return [AccessRequested(request.specs, request.data)]

    def _on_confirm(self, apdu: bytes) -> list[ServerEvent]:
        return [Confirmed(notification.decode_confirm(apdu))]

    # ---- answers ----------------------------------------------------------------------------------

    def respond_get(self, results: Sequence[bytes | DataAccessResult]) -> list[bytes]:
        """Answer `GetRequested` with raw A-XDR bytes or a refusal for each item; gives the APDUs to send."""
        asked = self._answer(get.RESPONSE_TAG)
        if asked.permitted:
            given = iter(results)
            results = [next(given) if ok else DataAccessResult.READ_WRITE_DENIED for ok in asked.permitted]
        values = tuple([Raw(r) if isinstance(r, bytes) else r for r in _counted(results, asked.count)])
        invoke = _short(asked.invoke)
        if asked.listed:
            plain = get.GetResponseWithList(invoke, values).to_bytes()
            body = plain[3:]
        else:
            plain = get.GetResponseNormal(invoke, values[0]).to_bytes()
            body = plain[4:]
        if self._fits(plain):
            return self._emit(plain, invoke)
        if Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ not in self.conformance:
            unavailable = get.GetResponseNormal(invoke, DataAccessResult.DATA_BLOCK_UNAVAILABLE)
            return self._emit(unavailable.to_bytes(), invoke)
        self._chunks, self._chunks_sent = split(body, self._chunk_size()), 0
        return self._emit(self._get_chunk(invoke), invoke)

    def respond_set(self, results: Sequence[DataAccessResult]) -> list[bytes]:
        """Answer `SetRequested` with a result for each item; returns the APDUs to send."""
        asked = self._answer(setting.RESPONSE_TAG)
        all_results = tuple(_counted(results, asked.count))
        invoke = _short(asked.invoke)
        number = asked.block_number
        answer: setting.SetResponse
        if asked.listed:
            answer = (
                setting.SetResponseWithList(invoke, all_results)
                if number is None
                else setting.SetResponseLastBlockWithList(invoke, all_results, number)
            )
        else:
            answer = (
                setting.SetResponseNormal(invoke, all_results[0])
                if number is None
                else setting.SetResponseLastBlock(invoke, all_results[0], number)
            )
        return self._emit(answer.to_bytes(), invoke)

    def respond_action(self, outcomes: Sequence[MethodOutcome]) -> list[bytes]:
        """Answer `ActionRequested` with an outcome for each method; returns the APDUs to send."""
        asked = self._answer(action.RESPONSE_TAG)
        invoke = _short(asked.invoke)
        results = tuple(
            [
                action.ActionOutcome(
                    o.result, Raw(o.returned) if isinstance(o.returned, bytes) else o.returned
                )
                for o in _counted(outcomes, asked.count)
            ]
        )
        if asked.listed:
            plain = action.ActionResponseWithList(invoke, results).to_bytes()
        else:
            plain = action.ActionResponseNormal(invoke, *results[0]).to_bytes()
        if self._fits(plain):
            return self._emit(plain, invoke)
        if Conformance.BLOCK_TRANSFER_WITH_ACTION not in self.conformance:
            aborted = action.ActionResponseNormal(invoke, ActionResult.LONG_ACTION_ABORTED)
            return self._emit(aborted.to_bytes(), invoke)
        self._chunks, self._chunks_sent = split(plain[3:], self._chunk_size()), 0
        return self._emit(self._action_chunk(invoke), invoke)

    def respond_access(
        self, data: Sequence[bytes | None], results: Sequence[DataAccessResult | ActionResult]
    ) -> list[bytes]:
        """Answer `AccessRequested` with raw data (None: null-data) and a result for each specification."""
        asked = self._answer(access.RESPONSE_TAG)
        if not isinstance(asked.invoke, LongInvokeIdAndPriority):
            raise LocalProtocolError("no ACCESS request is waiting for an answer")
        response = access.AccessResponse(
            asked.invoke,
            None,
            None,
            tuple([Raw(_NULL if d is None else d) for d in _counted(data, asked.count)]),
            tuple(
                [
                    _access_result(spec, result)
                    for spec, result in zip(asked.specs, _counted(results, asked.count), strict=True)
                ]
            ),
        )
        return self._emit(response.to_bytes(), asked.invoke)

    def notify(self, body: bytes, *, date_time: bytes | None = None, confirmed: bool = False) -> list[bytes]:
        """Data-Notification with ``body`` (one raw A-XDR value), ciphered where the server has keys.

        Needs no association. Longer ones than the PDU size leave as unconfirmed general blocks.
        """
        self._notified = (self._notified + 1) & 0xFF_FFFF
        invoke = LongInvokeIdAndPriority(self._notified, confirmed=confirmed)
        apdu = notification.DataNotification(invoke, date_time, Raw(body)).to_bytes()
        cipher = self._cipher
        if cipher is not None:
            protection = cipher.settings.protection | self.settings.policy.response
            apdu = cipher.seal(apdu, protection=protection, use_global=True)
        if len(apdu) <= self._limit:
            return [apdu]
        sender = GbtSender(apdu, block_size=self._limit - _GBT_OVERHEAD, confirmed=False)
        return [block.to_bytes() for block in sender.start()]

    # ---- blocks -----------------------------------------------------------------------------------

    def _next_chunk(self, tag: int, invoke: InvokeIdAndPriority, number: int) -> list[ServerEvent]:
        wrong: DataAccessResult | None = None
        if not self._chunks:
            wrong = DataAccessResult.NO_LONG_GET_IN_PROGRESS
        elif number != self._chunks_sent:
            wrong = DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        if wrong is not None:
            self._chunks = []
            told = Refused(f"block {number}: {wrong.name.lower()}")
            if tag == get.RESPONSE_TAG:
                return [*self._reply(get.GetResponseWithBlock(invoke, True, number, wrong).to_bytes()), told]
            aborted = action.ActionResponseNormal(invoke, ActionResult.LONG_ACTION_ABORTED)
            return [*self._reply(aborted.to_bytes()), told]
        return self._reply(self._get_chunk(invoke) if tag == get.RESPONSE_TAG else self._action_chunk(invoke))

    def _get_chunk(self, invoke: InvokeIdAndPriority) -> bytes:
        number, chunk, last = self._take_chunk()
        return get.GetResponseWithBlock(invoke, last, number, chunk).to_bytes()

    def _action_chunk(self, invoke: InvokeIdAndPriority) -> bytes:
        number, chunk, last = self._take_chunk()
        return action.ActionResponseWithPBlock(invoke, last, number, chunk).to_bytes()

    def _take_chunk(self) -> tuple[int, bytes, bool]:
        chunk = self._chunks[self._chunks_sent]
        self._chunks_sent += 1
        number, last = self._chunks_sent, self._chunks_sent == len(self._chunks)
        if last:
            self._chunks = []
        return number, chunk, last

    def _on_general_block(self, block: block_transfer.GeneralBlockTransfer) -> list[ServerEvent]:
        if Conformance.GENERAL_BLOCK_TRANSFER not in self.conformance:
            return self._not_allowed("general block transfer is not negotiated")
        if self._gbt_out is not None and not block.data and self._gbt_in is None:
            return [Transmit(out.to_bytes()) for out in self._gbt_out.acknowledged(block)]
        if self._gbt_in is None:
            self._gbt_out = None
            self._gbt_in = GbtReceiver(window=self.settings.gbt_window, limit=self.settings.max_total)
        receiver = self._gbt_in
        try:
            answer, whole = receiver.receive(block)
        except RemoteProtocolError:
            self._gbt_in = None
            raise
        if whole is None:
            return [] if answer is None else [Transmit(answer.to_bytes())]
        self._gbt_in = None
        if not whole or whole[0] == block_transfer.TAG:
            raise RemoteProtocolError("general blocks join to nothing, or to general blocks again")
        self._gbt_request = (block.window, block.block_number, receiver.next_number)
        return self._on_apdu(whole)

    # ---- small things that all of them use --------------------------------------------------------

    def _ask(
        self,
        tag: int,
        invoke: InvokeIdAndPriority | LongInvokeIdAndPriority,
        count: int,
        listed: bool,
        block_number: int | None = None,
    ) -> _Asked:
        self._chunks = []
        self._move(ServerInput.REQUEST)
        self._asked = _Asked(tag, invoke, count, listed=listed, block_number=block_number)
        return self._asked

    def _answer(self, tag: int) -> _Asked:
        asked = self._asked
        if asked is None or asked.tag != tag:
            raise LocalProtocolError(f"no request waits for {apdus.name_of(tag)}")
        self._asked = None
        self._move(ServerInput.RESPOND)
        return asked

    def _is_public(self) -> bool:
        return self._offer is not None and self._offer.public

    def _reply(self, plain: bytes) -> list[ServerEvent]:
        return [Transmit(out) for out in self._emit(plain, None)]

    def _emit(
        self, plain: bytes, invoke: InvokeIdAndPriority | LongInvokeIdAndPriority | None
    ) -> list[bytes]:
        if invoke is not None and not invoke.confirmed:
            return []  # nobody waits for an answer to an unconfirmed request
        apdu = self._seal(plain)
        request = self._gbt_request
        if request is None and (len(apdu) <= self._limit or not self._prefers_gbt()):
            return [apdu]
        window, peer_number, first = request or (1, 0, 1)
        self._gbt_out = GbtSender(
            apdu,
            block_size=self._limit - _GBT_OVERHEAD,
            window=window,
            own_window=self.settings.gbt_window,
            peer_number=peer_number,
            first=first,
        )
        return [block.to_bytes() for block in self._gbt_out.start()]

    def _prefers_gbt(self) -> bool:
        return self.settings.prefer_gbt and Conformance.GENERAL_BLOCK_TRANSFER in self.conformance

    def _fits(self, plain: bytes) -> bool:
        return self._gbt_request is not None or self._prefers_gbt() or len(plain) <= self._room()

    def _room(self) -> int:
        return self._limit - (self._cipher.overhead if self._cipher is not None and self._ciphered else 0)

    def _chunk_size(self) -> int:
        room = self._room() - _BLOCK_OVERHEAD
        return min(room, self.settings.block_size) if self.settings.block_size else room

    def _protection(self) -> int:
        return (self._control or 0) & 0x30 | self._response

    def _seal(self, plain: bytes) -> bytes:
        protection = self._protection()
        if self._cipher is None or not self._ciphered or not protection:
            return plain
        use_global = self._key_use is not KeyUse.DEDICATED
        return self._cipher.seal(plain, protection=protection, use_global=use_global)

    def _counter(self) -> int:
        if self._next_counter is None:
            raise LocalProtocolError("HLS-GMAC needs a source of invocation counters")
        return self._next_counter()

    def _not_allowed(
        self, reason: str, error: ServiceErrorCode = ServiceErrorCode.OPERATION_NOT_POSSIBLE
    ) -> list[ServerEvent]:
        apdu = exceptions.ExceptionResponseApdu(StateError.SERVICE_NOT_ALLOWED, error)
        return [Transmit(apdu.to_bytes()), Refused(reason)]

    def _exception(
        self,
        exc: RemoteProtocolError,
        error: ServiceErrorCode,
        counter: int | None = None,
        state: StateError = StateError.SERVICE_NOT_ALLOWED,
    ) -> list[ServerEvent]:
        apdu = exceptions.ExceptionResponseApdu(state, error, counter)
        return [Transmit(apdu.to_bytes()), Refused(str(exc))]

    def _move(self, step: ServerInput) -> None:
        target = SERVER_TRANSITIONS[self.state].get(step)
        if target is None:
            raise LocalProtocolError(f"{step.value} is not possible in state {self.state.value}")
        self.state = target

    _HANDLERS: ClassVar[dict[int, "tuple[int, Callable[[ServerAssociation, bytes], list[ServerEvent]]]"]] = {
        get.REQUEST_TAG: (int(Conformance.GET), _on_get),
        setting.REQUEST_TAG: (int(Conformance.SET), _on_set),
        action.REQUEST_TAG: (int(Conformance.ACTION), _on_action),
        access.REQUEST_TAG: (int(Conformance.ACCESS), _on_access),
        notification.CONFIRM_TAG: (int(Conformance.DATA_NOTIFICATION), _on_confirm),
    }


def _short(invoke: InvokeIdAndPriority | LongInvokeIdAndPriority) -> InvokeIdAndPriority:
    if isinstance(invoke, InvokeIdAndPriority):
        return invoke
    raise LocalProtocolError("an ACCESS request waits for an answer of another service")


def _counted(values: Sequence[_T], count: int) -> Sequence[_T]:
    if len(values) != count:
        raise LocalProtocolError(f"{len(values)} results for {count} items of the request")
    return values


def _list_of(whole: bytes, count: int, name: str) -> tuple[bytes, ...]:
    """The values of a with-list request that came in blocks. Raises RemoteProtocolError."""
    reader = Reader(whole, name, 0)
    values = reader.many(lambda: reader.value("value"), "value list")
    reader.end()
    if len(values) != count:
        raise RemoteProtocolError(f"{name}: {len(values)} values for {count} targets")
    return tuple([value.data for value in values])


def _access_result(spec: access.AccessSpec, result: DataAccessResult | ActionResult) -> access.AccessResult:
    if isinstance(spec, access.AccessAction):
        return access.AccessActionResult(ActionResult(result))
    if isinstance(spec, access.AccessSet):
        return access.AccessSetResult(DataAccessResult(result))
    return access.AccessGetResult(DataAccessResult(result))
