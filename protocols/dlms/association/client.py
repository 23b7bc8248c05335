"""The client's side of an association, sans-I/O: calls return the APDU to send, `receive` takes the answers.

One request is outstanding at a time. A late answer is never taken for the next request: invoke ids rotate
through 1..15, an answer must carry the outstanding id and kind, and once a request was abandoned whatever has
no id of its own (exceptions, general blocks) counts as its late answer until that has come. Ciphered answers
are also held to the peer's rising counter.
"""

import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import ClassVar, Concatenate, Final, ParamSpec

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import acse, block_transfer, exceptions, initiate, notification
from protocols.dlms.apdu.access import RESPONSE_TAG as ACCESS_RESPONSE
from protocols.dlms.apdu.access import AccessRequest, AccessSpec
from protocols.dlms.apdu.access import decode_response as decode_access
from protocols.dlms.apdu.action import RESPONSE_TAG as ACTION_RESPONSE
from protocols.dlms.apdu.action import (
    ActionRequestNextPBlock,
    ActionRequestNormal,
    ActionRequestWithFirstPBlock,
    ActionRequestWithList,
    ActionRequestWithListAndFirstPBlock,
    ActionRequestWithPBlock,
    ActionResponse,
    ActionResponseNextPBlock,
    ActionResponseNormal,
    ActionResponseWithList,
    ActionResponseWithPBlock,
)
from protocols.dlms.apdu.action import decode_response as decode_action
from protocols.dlms.apdu.fields import (
    INVOKE,
    AttributeItem,
    LongInvokeIdAndPriority,
    Raw,
    Selection,
    encode_values,
)
from protocols.dlms.apdu.get import RESPONSE_TAG as GET_RESPONSE
from protocols.dlms.apdu.get import (
    GetRequestNext,
    GetRequestNormal,
    GetRequestWithList,
    GetResponse,
    GetResponseNormal,
    GetResponseWithBlock,
    GetResponseWithList,
)
from protocols.dlms.apdu.get import decode_response as decode_get
from protocols.dlms.apdu.set import RESPONSE_TAG as SET_RESPONSE
from protocols.dlms.apdu.set import (
    SetRequestNormal,
    SetRequestWithBlock,
    SetRequestWithFirstBlock,
    SetRequestWithList,
    SetRequestWithListAndFirstBlock,
    SetResponseBlock,
    SetResponseLastBlock,
    SetResponseNormal,
)
from protocols.dlms.apdu.set import decode_response as decode_set
from protocols.dlms.association.cipher import CipherContext, RepeatedMessage
from protocols.dlms.association.events import (
    AccessDone,
    ActionDone,
    Associated,
    ClientEvent,
    GetResult,
    MethodOutcome,
    Notification,
    Released,
    SetResult,
    Stale,
    Transmit,
)
from protocols.dlms.association.settings import ClientSettings
from protocols.dlms.association.states import CLIENT_TRANSITIONS, ClientInput, ClientState
from protocols.dlms.blocks import BlockJoiner, GbtReceiver, GbtSender, split
from protocols.dlms.ciphering import CIPHERED_TAGS
from protocols.dlms.cosem import REPLY_TO_HLS, Attribute, Method
from protocols.dlms.enums import (
    AcseDiagnostic,
    ActionResult,
    AssociationResult,
    Conformance,
    DataAccessResult,
    Mechanism,
)
from protocols.dlms.hls import Party, check_challenge, is_high_level, prove, verify
from protocols.dlms.security import PeerCounter, check_policy
from protocols.errors import (
    AssociationRejected,
    ExceptionResponse,
    LocalProtocolError,
    RemoteProtocolError,
    SecurityError,
    ServiceRefused,
)

_P = ParamSpec("_P")

_INVOKE_FLAGS: Final = 0xC0  # confirmed, high priority
_BLOCK_OVERHEAD: Final = 16  # tag, type, invoke id, last, number, choice, length
_GBT_OVERHEAD: Final = 9
_SMALLEST_PDU: Final = 16  # less carries no request at all
_NULL = Raw(b"\x00")


class _Pending:
    """The outstanding request: what kind, which id, how many answers, and its blocks both ways."""

    __slots__ = ("chunks", "count", "invoke", "joiner", "kind", "listed", "sent")

    def __init__(self, kind: int, invoke: int, count: int, *, listed: bool) -> None:
        self.kind = kind
        self.invoke = invoke
        self.count = count
        self.listed = listed
        self.joiner: BlockJoiner | None = None
        self.chunks: list[bytes] = []
        self.sent = 0


def _undone(
    call: Callable[Concatenate["ClientAssociation", _P], bytes],
) -> Callable[Concatenate["ClientAssociation", _P], bytes]:
    """A request that cannot be encoded or cut leaves the association as it was before."""

    @wraps(call)
    def guarded(self: "ClientAssociation", /, *args: _P.args, **kwargs: _P.kwargs) -> bytes:
        before = self.outstanding
        try:
            return call(self, *args, **kwargs)
        except LocalProtocolError:
            if self.outstanding is not before:
                self.take_back()
            raise

    return guarded


class ClientAssociation:
    """One client's association with one server, from AARQ to RLRE, any number of times.

    ``next_counter`` gives our next invocation counter; ``peer_counter`` holds the server's last (store its
    ``proven`` afterwards). Methods raise LocalProtocolError when the state forbids them; `receive` raises the
    error tree. After an error a request stays outstanding until it is answered or `abandon` is called.
    """

    __slots__ = (
        "_abandoned",
        "_accepted",
        "_challenge",
        "_cipher",
        "_gbt_acks",
        "_gbt_in",
        "_gbt_late",
        "_gbt_out",
        "_invoke",
        "_long_invoke",
        "_next_counter",
        "_party",
        "_pending",
        "_random",
        "_used_gbt",
        "conformance",
        "peer_max_pdu",
        "server_system_title",
        "settings",
        "state",
    )

    def __init__(
        self,
        settings: ClientSettings,
        *,
        next_counter: Callable[[], int] | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
        peer_counter: PeerCounter | None = None,
    ) -> None:
        if settings.cipher is not None and next_counter is None:
            raise LocalProtocolError("ciphering needs a source of invocation counters")
        self.settings = settings
        self.state = ClientState.IDLE
        self.conformance = Conformance(0)
        self.peer_max_pdu = 0
        self.server_system_title: bytes | None = None
        self._next_counter = next_counter
        self._random = random
        self._cipher: CipherContext | None = None
        if settings.cipher is not None and next_counter is not None:
            self._cipher = CipherContext(
                settings.cipher,
                next_counter=next_counter,
                peer_counter=PeerCounter() if peer_counter is None else peer_counter,
                random=random,
            )
        self._challenge = b""
        self._party: Party | None = None
        self._accepted: Associated | None = None
        self._pending: _Pending | None = None
        self._abandoned: set[tuple[int, int]] = set()
        self._invoke = 0
        self._long_invoke = 0
        self._gbt_in: GbtReceiver | None = None
        self._gbt_out: GbtSender | None = None
        self._gbt_acks = 0
        self._gbt_late: dict[tuple[int, bytes], int] = {}
        self._used_gbt = False

    # ---- association ------------------------------------------------------------------------------

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
        return acse.Rlrq(0, information).to_bytes()

    def abandon(self) -> None:
        """Stop waiting for the outstanding answer; it may still come and will be reported as stale.

        Where general block transfer is in use the association is failed: its blocks carry no id, so that late
        ones could be mixed with the next answer's.
        """
        pending = self._pending
        if pending is None or self._used_gbt or self.settings.gbt_window is not None:
            self._fail()
            return
        self._abandoned.add((pending.kind, pending.invoke))
        self._pending = None
        self._gbt_in = self._gbt_out = None
        self._move(ClientInput.ABANDON)

    def nudge(self) -> bytes | None:
        """What to send when the peer fell silent amid general blocks; None when that cannot help."""
        return None if self._gbt_in is None else self._gbt_in.nudge().to_bytes()

    @property
    def joins_general_blocks(self) -> bool:
        """Whether some general blocks of an answer have come and others have not: where a `nudge` helps."""
        return self._gbt_in is not None

    @property
    def outstanding(self) -> object:
        """What identifies the outstanding request, None without one; only to be compared."""
        return self._pending

    def take_back(self) -> None:
        """Undo a request whose APDU was never sent. Raises LocalProtocolError when none is outstanding."""
        self._finish()

    # ---- requests ---------------------------------------------------------------------------------

    @_undone
    def get(self, attribute: Attribute, selection: Selection | None = None) -> bytes:
        """GET of one attribute; answered by `GetResult` with one entry."""
        invoke = self._request(GET_RESPONSE, 1, listed=False)
        return self._send(GetRequestNormal(INVOKE[invoke], attribute, selection).to_bytes())

    @_undone
    def get_many(self, items: Sequence[AttributeItem]) -> bytes:
        """GET with list; answered by `GetResult` with an entry for each item."""
        self._check_list(items)
        invoke = self._request(GET_RESPONSE, len(items), listed=True)
        return self._send(GetRequestWithList(INVOKE[invoke], tuple(items)).to_bytes())

    @_undone
    def set(self, attribute: Attribute, raw: bytes, selection: Selection | None = None) -> bytes:
        """SET of one attribute to a raw A-XDR value, in blocks where it is long; answered by `SetResult`."""
        invoke = self._request(SET_RESPONSE, 1, listed=False)
        plain = SetRequestNormal(INVOKE[invoke], attribute, selection, Raw(raw)).to_bytes()
        if self._fits(plain):
            return self._send(plain)
        first = self._cut(raw, len(plain) - len(raw), Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE)
        request = SetRequestWithFirstBlock(INVOKE[invoke], attribute, selection, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def set_many(self, items: Sequence[tuple[AttributeItem, bytes]]) -> bytes:
        """SET with list of (item, raw A-XDR value); answered by `SetResult` with an entry for each."""
        self._check_list(items)
        invoke = self._request(SET_RESPONSE, len(items), listed=True)
        targets = tuple([target for target, _ in items])
        values = tuple([Raw(raw) for _, raw in items])
        plain = SetRequestWithList(INVOKE[invoke], targets, values).to_bytes()
        if self._fits(plain):
            return self._send(plain)
        data = encode_values(values)
        first = self._cut(data, len(plain) - len(data), Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE)
        request = SetRequestWithListAndFirstBlock(INVOKE[invoke], targets, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def action(self, method: Method, raw: bytes | None = None) -> bytes:
        """ACTION of one method, its parameters in blocks where they are long; answered by `ActionDone`."""
        invoke = self._request(ACTION_RESPONSE, 1, listed=False)
        parameters = None if raw is None else Raw(raw)
        plain = ActionRequestNormal(INVOKE[invoke], method, parameters).to_bytes()
        if raw is None or self._fits(plain):
            return self._send(plain)
        first = self._cut(raw, len(plain) - len(raw), Conformance.BLOCK_TRANSFER_WITH_ACTION)
        request = ActionRequestWithFirstPBlock(INVOKE[invoke], method, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def action_many(self, items: Sequence[tuple[Method, bytes | None]]) -> bytes:
        """ACTION with list of (method, raw parameters or None); `ActionDone` has an entry for each."""
        self._check_list(items)
        invoke = self._request(ACTION_RESPONSE, len(items), listed=True)
        methods = tuple([method for method, _ in items])
        values = tuple([_NULL if raw is None else Raw(raw) for _, raw in items])
        plain = ActionRequestWithList(INVOKE[invoke], methods, values).to_bytes()
        if self._fits(plain):
            return self._send(plain)
        data = encode_values(values)
        first = self._cut(data, len(plain) - len(data), Conformance.BLOCK_TRANSFER_WITH_ACTION)
        request = ActionRequestWithListAndFirstPBlock(INVOKE[invoke], methods, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def access(self, items: Sequence[tuple[AccessSpec, bytes | None]]) -> bytes:
        """ACCESS: each specification with its raw A-XDR datum (None: null-data); answered by `AccessDone`."""
        self._check_list(items)
        self._request(ACCESS_RESPONSE, len(items), listed=True)
        self._long_invoke = (self._long_invoke + 1) & 0xFF_FFFF
        request = AccessRequest(
            LongInvokeIdAndPriority(self._long_invoke, confirmed=True, high_priority=True),
            None,
            tuple([spec for spec, _ in items]),
            tuple([_NULL if raw is None else Raw(raw) for _, raw in items]),
        )
        if self._pending is not None:
            self._pending.invoke = self._long_invoke
        return self._send(request.to_bytes())

    # ---- answers ----------------------------------------------------------------------------------

    def receive(self, apdu: bytes) -> list[ClientEvent]:
        """Take one whole APDU from the peer.

        Raises RemoteProtocolError (malformed, or not expected here), SecurityError, AssociationRejected,
        ExceptionResponse and ServiceRefused. A refused attribute is no error: `GetResult` carries it.
        """
        if self.state is ClientState.FAILED:
            raise LocalProtocolError("the association has failed: close the link")
        if not apdu:
            raise RemoteProtocolError("empty APDU", offset=0)
        if apdu[0] == block_transfer.TAG:
            return self._on_general_block(block_transfer.decode(apdu))
        return self._on_apdu(apdu)

    def _on_apdu(self, apdu: bytes) -> list[ClientEvent]:
        control: int | None = None
        tag = apdu[0]
        if tag in CIPHERED_TAGS:
            if self._cipher is None:
                raise SecurityError("ciphered message, and no keys are known", offset=0)
            try:
                opened = self._cipher.open(apdu)
            except RepeatedMessage:
                return [Stale("the link doubled a ciphered message")]
            apdu, control = opened.plain, opened.control
            tag = apdu[0]
        elif self.settings.ciphered and self._cipher is not None and tag not in _ALWAYS_PLAIN:
            check_policy(self._cipher.settings.least, None)
        handler = self._HANDLERS.get(tag)
        if handler is not None:
            return handler(self, apdu)
        if tag in _NOTIFICATIONS:
            return [Notification(_NOTIFICATIONS[tag](apdu), control)]
        raise RemoteProtocolError(f"{apdus.name_of(tag)} is nothing a server sends here", offset=0)

    def _on_aare(self, apdu: bytes) -> list[ClientEvent]:
        if self.state is not ClientState.ASSOCIATING:
            return [Stale("an AARE came while no association was asked for")]
        settings = self.settings
        constant = not settings.ciphered and not is_high_level(settings.mechanism)
        aare = _decode_constant_aare(apdu) if constant else acse.decode_aare(apdu)
        try:
            return self._accept(aare)
        except (AssociationRejected, ServiceRefused):
            self._move(ClientInput.REJECTED)
            raise
        except RemoteProtocolError:
            self._fail()
            raise

    def _accept(self, aare: acse.Aare) -> list[ClientEvent]:
        settings = self.settings
        if aare.result is not AssociationResult.ACCEPTED:
            raise _rejected(aare)
        if aare.context is not settings.application_context:
            raise SecurityError(f"the server changed the application context to {aare.context.name}")
        title = aare.responding_ap_title or None
        self.server_system_title = title
        information = aare.user_information
        if not information:
            raise RemoteProtocolError("AARE accepts without an InitiateResponse")
        if settings.ciphered and self._cipher is not None:
            if title is None:
                raise SecurityError("the server did not tell its system title")
            self._cipher.peer_title = title
            information = self._open_initiate(information, self._cipher)
        if information[0] == initiate.SERVICE_ERROR_TAG:
            raise _service_refused(information)
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
        return [Transmit(self._prove(aare, title))]

    def _open_initiate(self, information: bytes, cipher: CipherContext) -> bytes:
        if information[0] not in CIPHERED_TAGS:
            check_policy(cipher.settings.least, None)
            return information
        try:
            return cipher.open(information).plain
        except RepeatedMessage:
            raise SecurityError("the AARE repeats the invocation counter of an earlier message") from None

    def _prove(self, aare: acse.Aare, title: bytes | None) -> bytes:
        settings = self.settings
        if aare.mechanism is not None and aare.mechanism is not settings.mechanism:
            raise SecurityError(f"the server changed the mechanism to {aare.mechanism.name}")
        if title is None and settings.mechanism in _NEEDS_TITLE:
            raise SecurityError("the server did not tell its system title")
        challenge = check_challenge(aare.responding_authentication_value, ours=self._challenge)
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
        self._pending = _Pending(ACTION_RESPONSE, invoke & 0x0F, 1, listed=False)
        raw = Raw(bytes((0x09, len(proof))) + proof)
        plain = ActionRequestNormal(INVOKE[invoke], REPLY_TO_HLS, raw).to_bytes()
        return self._seal(plain, use_global=True)

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
        acse.decode_rlre(apdu)
        self._move(ClientInput.RELEASED)
        return [Released()]

    def _on_get(self, apdu: bytes) -> list[ClientEvent]:
        pending = self._match(apdu, GET_RESPONSE)
        if pending is None:
            return [_LATE]
        response = decode_get(apdu)
        if isinstance(response, GetResponseWithBlock):
            return self._on_get_block(pending, response)
        if isinstance(response, GetResponseNormal):
            if pending.listed:
                raise RemoteProtocolError("a GET with list is answered with one value", offset=1)
            result = response.result
            return self._done(GetResult((result.data if isinstance(result, Raw) else result,)))
        return self._done(self._get_list(pending, response))

    def _on_get_block(self, pending: _Pending, block: GetResponseWithBlock) -> list[ClientEvent]:
        if not isinstance(block.result, bytes):
            return self._done(GetResult((block.result,) * pending.count))
        if pending.joiner is None:
            pending.joiner = BlockJoiner(self.settings.max_total)
        if 0 < block.block_number == pending.joiner.received:
            return [Stale(f"block {block.block_number} came twice")]
        whole = pending.joiner.add(block.block_number, block.result, last=block.last)
        if whole is None:
            invoke = INVOKE[_INVOKE_FLAGS | pending.invoke]
            return [Transmit(self._send(GetRequestNext(invoke, block.block_number).to_bytes()))]
        if not pending.listed:
            return self._done(GetResult((whole,)))
        response = decode_get(bytes((GET_RESPONSE, 3, pending.invoke)) + whole)
        return self._done(self._get_list(pending, response))

    def _get_list(self, pending: _Pending, response: GetResponse) -> GetResult:
        if not isinstance(response, GetResponseWithList) or not pending.listed:
            raise RemoteProtocolError("a GET of one attribute is answered with a list", offset=1)
        if len(response.results) != pending.count:
            raise RemoteProtocolError(f"{len(response.results)} results for {pending.count} attributes")
        return GetResult(tuple([r.data if isinstance(r, Raw) else r for r in response.results]))

    def _on_set(self, apdu: bytes) -> list[ClientEvent]:
        pending = self._match(apdu, SET_RESPONSE)
        if pending is None:
            return [_LATE]
        response = decode_set(apdu)
        if isinstance(response, SetResponseBlock):
            return self._next_block(pending, response.block_number, SetRequestWithBlock)
        if isinstance(response, SetResponseNormal | SetResponseLastBlock):
            results: tuple[DataAccessResult, ...] = (response.result,)
            if pending.listed and response.result is not DataAccessResult.SUCCESS:
                results *= pending.count  # the transfer broke off: that is every attribute's result
        else:
            results = response.results
        if len(results) != pending.count:
            raise RemoteProtocolError(f"{len(results)} results for {pending.count} attributes")
        return self._done(SetResult(results))

    def _on_action(self, apdu: bytes) -> list[ClientEvent]:
        pending = self._match(apdu, ACTION_RESPONSE)
        if pending is None:
            return [_LATE]
        response = decode_action(apdu)
        if self.state is ClientState.HLS_PENDING:
            return self._on_proof(response)
        if isinstance(response, ActionResponseNextPBlock):
            return self._next_block(pending, response.block_number, ActionRequestWithPBlock)
        if isinstance(response, ActionResponseWithPBlock):
            if pending.joiner is None:
                pending.joiner = BlockJoiner(self.settings.max_total)
            if 0 < response.block_number == pending.joiner.received:
                return [Stale(f"block {response.block_number} came twice")]
            whole = pending.joiner.add(response.block_number, response.data, last=response.last)
            if whole is None:
                invoke = INVOKE[_INVOKE_FLAGS | pending.invoke]
                return [
                    Transmit(self._send(ActionRequestNextPBlock(invoke, response.block_number).to_bytes()))
                ]
            kind = 3 if pending.listed else 1
            response = decode_action(bytes((ACTION_RESPONSE, kind, pending.invoke)) + whole)
        if isinstance(response, ActionResponseNormal):
            outcomes: tuple[MethodOutcome, ...] = (_outcome(response.result, response.return_parameters),)
        elif isinstance(response, ActionResponseWithList):
            outcomes = tuple([_outcome(*result) for result in response.results])
        else:
            raise RemoteProtocolError("blocks of an ACTION hold blocks again")
        if len(outcomes) != pending.count:
            raise RemoteProtocolError(f"{len(outcomes)} results for {pending.count} methods")
        return self._done(ActionDone(outcomes))

    def _on_access(self, apdu: bytes) -> list[ClientEvent]:
        response = decode_access(apdu)
        pending = self._pending
        invoke = response.long_invoke.invoke_id
        if pending is None or pending.kind != ACCESS_RESPONSE or pending.invoke != invoke:
            self._abandoned.discard((ACCESS_RESPONSE, invoke))
            return [_LATE]
        if len(response.results) != pending.count:
            raise RemoteProtocolError(f"{len(response.results)} results for {pending.count} specifications")
        return self._done(AccessDone(response))

    def _on_exception(self, apdu: bytes) -> list[ClientEvent]:
        told = exceptions.decode(apdu)
        if not self._is_ours():
            return [Stale("an Exception-Response came for no outstanding request")]
        self._give_up()
        raise ExceptionResponse(
            f"the peer answers with an exception: {told}",
            state_error=told.state_error,
            service_error=told.service_error,
            invocation_counter=told.invocation_counter,
        )

    def _on_service_error(self, apdu: bytes) -> list[ClientEvent]:
        error = _service_refused(apdu)
        if not self._is_ours():
            return [Stale("a ConfirmedServiceError came for no outstanding request")]
        self._give_up()
        raise error

    # ---- general block transfer -------------------------------------------------------------------

    def _on_general_block(self, block: block_transfer.GeneralBlockTransfer) -> list[ClientEvent]:
        if self._gbt_late and self._comes_again(block):
            return [Stale("a general block of an answer that is complete came again")]
        if self._pending is None or self._abandoned:
            return [Stale("a general block came for no outstanding request")]
        self._used_gbt = True
        if self._gbt_out is not None and not block.data and self._gbt_in is None:
            self._gbt_acks = max(self._gbt_acks, block.block_number)
            return [Transmit(out.to_bytes()) for out in self._gbt_out.acknowledged(block)]
        if self._gbt_in is None:
            # Our blocks and the peer's acknowledgements of them have used up numbers, on peers that count
            # those.
            first = self._gbt_acks + 1 if block.block_number > self._gbt_acks else 1
            self._gbt_in = GbtReceiver(
                window=self.settings.gbt_window or 1,
                first=first,
                next_number=1 if self._gbt_out is None else self._gbt_out.next_number,
                limit=self.settings.max_total,
            )
        answer, whole = self._gbt_in.receive(block)
        if whole is not None:
            self._gbt_late = self._gbt_in.late() or self._gbt_late
            self._gbt_in = None
            if not whole or whole[0] == block_transfer.TAG:
                raise RemoteProtocolError("general blocks join to nothing, or to general blocks again")
            return self._on_apdu(whole)
        return [] if answer is None else [Transmit(answer.to_bytes())]

    def _comes_again(self, block: block_transfer.GeneralBlockTransfer) -> bool:
        """Blocks carry no id. One that equals a block of an answer of which we asked for repetitions is taken
        for a repetition, as often as we asked: should it be the next answer's after all, we ask for it again.
        """
        part = (block.block_number, block.data)
        times = self._gbt_late.get(part, 0)
        if times > 1:
            self._gbt_late[part] = times - 1
        elif times:
            del self._gbt_late[part]
        return times > 0

    # ---- small things that all of them use --------------------------------------------------------

    def _request(self, kind: int, count: int, *, listed: bool) -> int:
        self._move(ClientInput.REQUEST)
        invoke = self._next_invoke()
        if (kind, invoke & 0x0F) in self._abandoned:
            # Fifteen requests later its answer is not late but lost; the id must be free again.
            self._abandoned.discard((kind, invoke & 0x0F))
        self._pending = _Pending(kind, invoke & 0x0F, count, listed=listed)
        return invoke

    def _next_invoke(self) -> int:
        self._invoke = self._invoke % 15 + 1
        return _INVOKE_FLAGS | self._invoke

    def _match(self, apdu: bytes, kind: int) -> _Pending | None:
        """The outstanding request when this answers it, else None: a late answer has come."""
        if len(apdu) < 3:
            raise RemoteProtocolError(f"{apdus.name_of(kind)} is cut short", offset=len(apdu))
        invoke = apdu[2] & 0x0F
        pending = self._pending
        if pending is None or pending.kind != kind or pending.invoke != invoke:
            self._abandoned.discard((kind, invoke))
            return None
        return pending

    def _is_ours(self) -> bool:
        """Whether an answer without an id may be the outstanding request's."""
        if self._abandoned:
            self._abandoned.pop()
            return False
        return self.state in _EXPECTING

    def _give_up(self) -> None:
        """A refusal ends the request; one that ends an association or its release ends that."""
        if self.state is ClientState.WAITING:
            self._finish()
        elif self.state is ClientState.ASSOCIATING:
            self._move(ClientInput.REJECTED)
        else:
            self._fail()

    def _done(self, event: ClientEvent) -> list[ClientEvent]:
        self._finish()
        return [event]

    def _finish(self) -> None:
        self._pending = self._gbt_in = self._gbt_out = None
        self._gbt_acks = 0
        self._move(ClientInput.ANSWERED)

    def _next_block(
        self,
        pending: _Pending,
        number: int,
        block: type[SetRequestWithBlock] | type[ActionRequestWithPBlock],
    ) -> list[ClientEvent]:
        if number < pending.sent:
            return [Stale(f"block {number} is acknowledged twice")]
        if number != pending.sent or number >= len(pending.chunks):
            raise RemoteProtocolError(f"block {number} is acknowledged, {pending.sent} was sent")
        pending.sent += 1
        last = pending.sent == len(pending.chunks)
        invoke = INVOKE[_INVOKE_FLAGS | pending.invoke]
        request = block(invoke, last, pending.sent, pending.chunks[pending.sent - 1])
        return [Transmit(self._send(request.to_bytes()))]

    def _cut(self, data: bytes, head: int, needs: Conformance) -> bytes:
        """Cut ``data`` into blocks, the first with ``head`` bytes of request before it; returns that one."""
        pending = self._pending
        if pending is None or needs not in self.conformance:
            raise LocalProtocolError(
                f"the request is longer than the {self.peer_max_pdu} bytes that the server takes,"
                f" and {needs.name} is not negotiated"
            )
        room = self._room() - _BLOCK_OVERHEAD
        first = data[: max(room - head, 1)]
        pending.chunks = [first, *split(data[len(first) :], room)]
        pending.sent = 1
        return first

    def _room(self) -> int:
        overhead = self._cipher.overhead if self._cipher is not None and self.settings.ciphered else 0
        return self.peer_max_pdu - overhead

    def _fits(self, plain: bytes) -> bool:
        return self.peer_max_pdu == 0 or self._sends_general_blocks or len(plain) <= self._room()

    @property
    def _sends_general_blocks(self) -> bool:
        return self.settings.gbt_window is not None and Conformance.GENERAL_BLOCK_TRANSFER in self.conformance

    def _check_list(self, items: Sequence[object]) -> None:
        if not items:
            raise LocalProtocolError("a request with list needs at least one entry")

    def _send(self, plain: bytes) -> bytes:
        apdu = self._seal(plain)
        window = self.settings.gbt_window
        if window is None or not self._sends_general_blocks:
            return apdu
        self._used_gbt = True
        size = (self.peer_max_pdu or 0xFFFF) - _GBT_OVERHEAD
        self._gbt_out = GbtSender(apdu, block_size=size, own_window=window)
        return self._gbt_out.start()[0].to_bytes()

    def _seal(self, plain: bytes, *, use_global: bool = False) -> bytes:
        if self._cipher is None or not self.settings.ciphered:
            return plain
        return self._cipher.seal(plain, use_global=use_global)

    def _counter(self) -> int:
        if self._next_counter is None:
            raise LocalProtocolError("HLS-GMAC needs a source of invocation counters")
        return self._next_counter()

    def _move(self, step: ClientInput) -> None:
        target = CLIENT_TRANSITIONS[self.state].get(step)
        if target is None:
            raise LocalProtocolError(f"{step.value} is not possible in state {self.state.value}")
        self.state = target

    def _fail(self) -> None:
        self._pending = self._party = self._gbt_in = self._gbt_out = None
        self._move(ClientInput.FAIL)

    _HANDLERS: ClassVar[dict[int, "Callable[[ClientAssociation, bytes], list[ClientEvent]]"]] = {
        acse.AARE_TAG: _on_aare,
        acse.RLRE_TAG: _on_rlre,
        GET_RESPONSE: _on_get,
        SET_RESPONSE: _on_set,
        ACTION_RESPONSE: _on_action,
        ACCESS_RESPONSE: _on_access,
        exceptions.TAG: _on_exception,
        initiate.SERVICE_ERROR_TAG: _on_service_error,
    }


# A fleet's AAREs are the same few hundreds of bytes over and over, but for challenges, titles and ciphering:
# most of the cost of a plain session was to decode them again.
_decode_constant_aare = lru_cache(maxsize=256)(acse.decode_aare)
_decode_initiate_response = lru_cache(maxsize=64)(initiate.decode_response)


def _rejected(aare: acse.Aare) -> AssociationRejected:
    reason = f"the server rejects the association ({aare.result.name.lower()}): {aare.diagnostic}"
    information = aare.user_information
    if information and information[0] == initiate.SERVICE_ERROR_TAG:
        reason += f"; {initiate.decode_service_error(information)}"
    return AssociationRejected(reason, result=aare.result, diagnostic=aare.diagnostic.value)


def _service_refused(apdu: bytes) -> ServiceRefused:
    error = initiate.decode_service_error(apdu)
    return ServiceRefused(
        f"the peer refuses: {error}",
        service=error.service,
        error_group=error.error_group,
        value=error.value,
    )


def _outcome(result: ActionResult, returned: Raw | DataAccessResult | None) -> MethodOutcome:
    return MethodOutcome(result, returned.data if isinstance(returned, Raw) else returned)


_LATE: Final = Stale("an answer came whose invoke id is not outstanding")
_PLAIN_RELEASE = acse.Rlrq(0).to_bytes()
_NEEDS_TITLE = frozenset({Mechanism.HLS_GMAC, Mechanism.HLS_SHA256})
_EXPECTING = frozenset(
    {ClientState.ASSOCIATING, ClientState.HLS_PENDING, ClientState.WAITING, ClientState.RELEASING}
)
#: May come plain in a ciphered association: the server cannot always cipher a refusal, and ACSE has its own
#: way.
_ALWAYS_PLAIN = frozenset({acse.AARE_TAG, acse.RLRE_TAG, exceptions.TAG, initiate.SERVICE_ERROR_TAG})
_NOTIFICATIONS: Final[
    dict[int, Callable[[bytes], notification.DataNotification | notification.EventNotificationRequest]]
] = {
    notification.DATA_TAG: notification.decode_data,
    notification.EVENT_TAG: notification.decode_event,
}
