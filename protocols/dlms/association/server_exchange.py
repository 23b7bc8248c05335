"""What one client's exchange with a server holds, and how an answer leaves: state, ciphering, general blocks.

Set-up, requests and answers stand on it (`server_setup`, `server_requests`, `server_answers`).
"""

from collections.abc import Callable
from typing import Final

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import access, action, block_transfer, exceptions
from protocols.dlms.apdu import set as setting
from protocols.dlms.apdu.fields import InvokeIdAndPriority, LongInvokeIdAndPriority
from protocols.dlms.association.cipher import CipherContext
from protocols.dlms.association.events import Refused, ServerEvent, Transmit
from protocols.dlms.association.handshake import Offer
from protocols.dlms.association.settings import CipherSettings, ServerSettings
from protocols.dlms.association.states import SERVER_TRANSITIONS, ServerInput, ServerState
from protocols.dlms.blocks import BlockJoiner, GbtReceiver, GbtSender
from protocols.dlms.ciphering import KeyUse
from protocols.dlms.enums import Conformance, ServiceErrorCode, StateError
from protocols.dlms.hls import Party
from protocols.dlms.security import PeerCounter
from protocols.errors import LocalProtocolError, RemoteProtocolError

_BLOCK_OVERHEAD: Final = 13  # tag, type, invoke id, last, number, choice, length

SetStart = setting.SetRequestWithFirstBlock | setting.SetRequestWithListAndFirstBlock
ActionStart = action.ActionRequestWithFirstPBlock | action.ActionRequestWithListAndFirstPBlock


class Asked:
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


class ServerExchange:
    """The state of one client SAP's exchange, and the ways out for an APDU."""

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
        self._asked: Asked | None = None
        self._start: SetStart | ActionStart | None = None
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

    def rekey(self, cipher: CipherSettings, peer_counter: PeerCounter) -> None:
        """Go on under other global keys, in the same association; a dedicated key stays."""
        if self._cipher is not None:
            self._cipher = self._cipher.succeeded_by(
                cipher, peer_counter=peer_counter, next_counter=self._counter
            )

    def _ask(
        self,
        tag: int,
        invoke: InvokeIdAndPriority | LongInvokeIdAndPriority,
        count: int,
        listed: bool,
        block_number: int | None = None,
    ) -> Asked:
        self._chunks = []
        self._move(ServerInput.REQUEST)
        self._asked = Asked(tag, invoke, count, listed=listed, block_number=block_number)
        return self._asked

    def _answer(self, tag: int) -> Asked:
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
            block_size=self._limit - block_transfer.OVERHEAD,
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
