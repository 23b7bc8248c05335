"""What a client's exchange with a server holds: the outstanding request, and how an APDU leaves.

Set-up, requests and answers stand on it (`client_setup`, `client_requests`, `client_answers`).
"""

import secrets
from collections.abc import Callable
from typing import Final

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import block_transfer
from protocols.dlms.apdu.action import ActionRequestWithPBlock
from protocols.dlms.apdu.fields import INVOKE
from protocols.dlms.apdu.set import SetRequestWithBlock
from protocols.dlms.association.cipher import CipherContext
from protocols.dlms.association.events import Associated, ClientEvent, Stale, Transmit
from protocols.dlms.association.settings import CipherSettings, ClientSettings
from protocols.dlms.association.states import CLIENT_TRANSITIONS, ClientInput, ClientState
from protocols.dlms.blocks import BlockJoiner, GbtReceiver, GbtSender, split
from protocols.dlms.enums import Conformance
from protocols.dlms.hls import Party
from protocols.dlms.security import PeerCounter
from protocols.errors import LocalProtocolError, RemoteProtocolError

INVOKE_FLAGS: Final = 0xC0  # confirmed, high priority
_BLOCK_OVERHEAD: Final = 16  # tag, type, invoke id, last, number, choice, length

_EXPECTING = frozenset(
    {ClientState.ASSOCIATING, ClientState.HLS_PENDING, ClientState.WAITING, ClientState.RELEASING}
)


class Pending:
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


class ClientExchange:
    """The state of one association's client, one request outstanding at most."""

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
        self._pending: Pending | None = None
        self._abandoned: set[tuple[int, int]] = set()
        self._invoke = 0
        self._long_invoke = 0
        self._gbt_in: GbtReceiver | None = None
        self._gbt_out: GbtSender | None = None
        self._gbt_acks = 0
        self._gbt_late: dict[tuple[int, bytes], int] = {}
        self._used_gbt = False

    def expect_keys(self, settings: CipherSettings, peer_counter: PeerCounter) -> None:
        """The peer may answer under these keys from now on; ``peer_counter`` is its bar under them. What we
        send stays under the keys of the association."""
        if self._cipher is not None:
            self._cipher.successor = self._cipher.succeeded_by(
                settings, peer_counter=peer_counter, next_counter=_no_counter
            )

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

    def _request(self, kind: int, count: int, *, listed: bool) -> int:
        self._move(ClientInput.REQUEST)
        invoke = self._next_invoke()
        if (kind, invoke & 0x0F) in self._abandoned:
            # Fifteen requests later its answer is not late but lost; the id must be free again.
            self._abandoned.discard((kind, invoke & 0x0F))
        self._pending = Pending(kind, invoke & 0x0F, count, listed=listed)
        return invoke

    def _next_invoke(self) -> int:
        self._invoke = self._invoke % 15 + 1
        return INVOKE_FLAGS | self._invoke

    def _match(self, apdu: bytes, kind: int) -> Pending | None:
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
        pending: Pending,
        number: int,
        block: type[SetRequestWithBlock] | type[ActionRequestWithPBlock],
    ) -> list[ClientEvent]:
        if number < pending.sent:
            return [Stale(f"block {number} is acknowledged twice")]
        if number != pending.sent or number >= len(pending.chunks):
            raise RemoteProtocolError(f"block {number} is acknowledged, {pending.sent} was sent")
        pending.sent += 1
        last = pending.sent == len(pending.chunks)
        invoke = INVOKE[INVOKE_FLAGS | pending.invoke]
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

    def _send(self, plain: bytes) -> bytes:
        cipher, settings = self._cipher, self.settings
        apdu = cipher.seal(plain) if cipher is not None and settings.ciphered else plain
        window = settings.gbt_window
        if window is None or not self._sends_general_blocks:
            return apdu
        self._used_gbt = True
        size = (self.peer_max_pdu or 0xFFFF) - block_transfer.OVERHEAD
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


def _no_counter() -> int:
    raise LocalProtocolError("a successor's keys only open")
