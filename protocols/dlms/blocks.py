"""Long messages in blocks: the services' own, and general block transfer (GBT) around any APDU.

Service-specific blocks (GET, SET, ACTION) go one by one, each answered: `BlockJoiner` puts them together,
`split` cuts them. General block transfer streams: the receiver grants a window, the sender fills it, and the
block that ends a window has its streaming bit cleared. The receiver then acknowledges the highest block up to
which nothing is missing, and the sender goes on behind it - which is how lost blocks are asked for again
(Green Book ed. 8.1, 9.4.6.13). The last block is answered only when something before it is missing.

Every joiner is bounded: by bytes in total, and by refusing empty blocks, which could go on for ever.
"""

from typing import NamedTuple

from protocols.dlms.apdu.block_transfer import GeneralBlockTransfer
from protocols.errors import LocalProtocolError, RemoteProtocolError

#: Longest message that we join unless told otherwise: 60 days of 5-minute load curve fit ten times.
MAX_TOTAL = 8 * 1024 * 1024
MAX_WINDOW = 63
_MAX_BLOCK_NUMBER = 0xFFFF


def split(data: bytes, size: int) -> list[bytes]:
    """``data`` in pieces of at most ``size`` bytes; empty data is one empty piece."""
    if size < 1:
        raise LocalProtocolError(f"a block cannot carry {size} bytes: the negotiated PDU size is too small")
    return [data[start : start + size] for start in range(0, len(data), size)] or [b""]


class BlockJoiner:
    """Joins the numbered blocks of one GET, SET or ACTION, which come in order and begin at 1."""

    __slots__ = ("_limit", "_parts", "_size", "received")

    def __init__(self, limit: int = MAX_TOTAL) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.received = 0

    def add(self, number: int, data: bytes, *, last: bool) -> bytes | None:
        """The whole message once ``last``, else None.

        Raises RemoteProtocolError for a number out of order, an empty block before the last, or too many
        bytes.
        """
        if number != self.received + 1:
            raise RemoteProtocolError(f"block {number} where block {self.received + 1} is due")
        if not data and not last:
            raise RemoteProtocolError(f"block {number} is empty and not the last")
        self._size += len(data)
        if self._size > self._limit:
            raise RemoteProtocolError(f"the blocks join to more than {self._limit} bytes")
        self.received = number
        self._parts.append(data)
        return b"".join(self._parts) if last else None


class GbtProgress(NamedTuple):
    """What a block led to: an ``answer`` to send, the whole ``apdu``, or neither: more is to come."""

    answer: GeneralBlockTransfer | None
    apdu: bytes | None


class GbtReceiver:
    """Joins one APDU from general-block-transfer blocks that come late, twice, out of order or never.

    ``window`` is how many blocks we let the peer send between two acknowledgements; ``first`` is the number
    of the message's first block, above 1 where the peer's acknowledgements used numbers up; ``next_number``
    that of our own next block. ``answering`` False suits a push, where nobody listens.
    """

    __slots__ = (
        "_answering",
        "_complete",
        "_first",
        "_highest",
        "_last",
        "_limit",
        "_parts",
        "_repeats",
        "_size",
        "_window",
        "next_number",
        "received",
    )

    def __init__(
        self,
        *,
        window: int = 1,
        first: int = 1,
        next_number: int = 1,
        limit: int = MAX_TOTAL,
        answering: bool = True,
    ) -> None:
        if not 1 <= window <= MAX_WINDOW:
            raise LocalProtocolError(f"a GBT window is 1 to {MAX_WINDOW} blocks, not {window}")
        self._window = window
        self._first = first
        self.next_number = next_number
        self._limit = limit
        self._answering = answering
        self._parts: dict[int, bytes] = {}
        self._size = 0
        self._last: int | None = None
        self._complete = False
        self._highest = first - 1
        self._repeats = 0
        self.received = first - 1

    def receive(self, block: GeneralBlockTransfer) -> GbtProgress:
        """Take one block. Raises RemoteProtocolError for blocks that cannot belong to this message."""
        number = block.block_number
        if self._complete:
            return GbtProgress(None, None)
        if number == 0:
            raise RemoteProtocolError("a GBT block has number 0, they begin at 1")
        if number > self.received + 2 * MAX_WINDOW:
            raise RemoteProtocolError(
                f"GBT block {number} is far beyond the window behind block {self.received}"
            )
        known = self._parts.get(number)
        if known is None:
            if number > self.received:
                self._keep(number, block)
        elif known != block.data:
            # One of the two is of another message, and nothing tells which.
            raise RemoteProtocolError(f"GBT block {number} came before with other bytes")
        while self.received + 1 in self._parts:
            self.received += 1
        if self._last is not None and self.received == self._last:
            self._complete = True
            return GbtProgress(None, b"".join([self._parts[n] for n in range(self._first, self._last + 1)]))
        if block.streaming or not self._answering:
            return GbtProgress(None, None)
        return GbtProgress(self.ask_again(), None)

    def ask_again(self) -> GeneralBlockTransfer:
        """Acknowledge all that came without a hole, at a window's end."""
        # A hole is sent again with all that stands behind it; at the end of a whole window nothing is.
        self._repeats += self._highest > self.received
        return self._acknowledge()

    def nudge(self) -> GeneralBlockTransfer:
        """`ask_again` a peer that fell silent: what it was about to send, it may now send twice."""
        self._repeats += 1
        return self._acknowledge()

    def late(self) -> dict[tuple[int, bytes], int]:
        """Number and bytes of each block that may still come again, and how often: none without a hole."""
        return dict.fromkeys(self._parts.items(), self._repeats) if self._repeats else {}

    def _acknowledge(self) -> GeneralBlockTransfer:
        own = self.next_number
        self.next_number = own % _MAX_BLOCK_NUMBER + 1
        return GeneralBlockTransfer(True, False, self._window, own, self.received, b"")

    def _keep(self, number: int, block: GeneralBlockTransfer) -> None:
        if self._last is not None and (number > self._last or block.last):
            raise RemoteProtocolError(f"GBT block {number} comes with block {self._last} already the last")
        if block.last and number < self._highest:
            raise RemoteProtocolError(f"GBT block {number} is the last, but later ones came before")
        if not block.data and not block.last:
            raise RemoteProtocolError(f"GBT block {number} is empty and not the last")
        self._size += len(block.data)
        if self._size > self._limit:
            raise RemoteProtocolError(f"the GBT blocks join to more than {self._limit} bytes")
        self._parts[number] = block.data
        self._highest = max(self._highest, number)
        if block.last:
            self._last = number


class GbtSender:
    """Sends one APDU as general-block-transfer blocks, as fast as the peer's window allows.

    ``window`` is the peer's until it announces another, ``own_window`` what we announce, ``peer_number`` the
    number of the block of the peer's that we answer (0: none), ``first`` the number of our first block.
    ``confirmed`` False streams everything at once (push).
    """

    __slots__ = ("_base", "_blocks", "_confirmed", "_first", "_own_window", "_peer", "_sent", "_window")

    def __init__(
        self,
        apdu: bytes,
        *,
        block_size: int,
        window: int = 1,
        own_window: int = 1,
        peer_number: int = 0,
        first: int = 1,
        confirmed: bool = True,
    ) -> None:
        self._blocks = split(apdu, block_size)
        if len(self._blocks) + first - 1 > _MAX_BLOCK_NUMBER:
            raise LocalProtocolError(
                f"{len(apdu)} bytes do not fit {_MAX_BLOCK_NUMBER} blocks of {block_size}"
            )
        self._window = max(window, 1)
        self._own_window = own_window
        self._peer = peer_number
        self._confirmed = confirmed
        self._first = first
        self._base = first - 1
        self._sent = first - 1

    @property
    def next_number(self) -> int:
        """The number behind the highest that was sent: where our next blocks go on."""
        return self._sent + 1

    @property
    def finished(self) -> bool:
        """Whether the last block was sent at least once."""
        return self._sent - self._first + 1 == len(self._blocks)

    def start(self) -> list[GeneralBlockTransfer]:
        """The first window of blocks."""
        return self._fill()

    def acknowledged(self, block: GeneralBlockTransfer) -> list[GeneralBlockTransfer]:
        """The next window, behind the last block that the peer has.

        Empty when the peer has all. Raises RemoteProtocolError when it acknowledges what was never sent.
        """
        if block.block_number_ack > self._sent:
            raise RemoteProtocolError(f"GBT block {block.block_number_ack} is acknowledged, but was not sent")
        if block.block_number_ack < self._base:
            return []  # an older acknowledgement overtaken by a newer one
        self._base = block.block_number_ack
        self._peer = block.block_number
        self._window = max(block.window, 1)
        return self._fill()

    def _fill(self) -> list[GeneralBlockTransfer]:
        total = self._first - 1 + len(self._blocks)
        end = min(self._base + self._window, total) if self._confirmed else total
        out = [
            GeneralBlockTransfer(
                number == total,
                number != end,
                self._own_window if self._confirmed else 0,
                number,
                self._peer,
                self._blocks[number - self._first],
            )
            for number in range(self._base + 1, end + 1)
        ]
        self._sent = max(self._sent, end)
        return out
