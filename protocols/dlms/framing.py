"""What every framing has in common: the bad stretch, and a reader that finds its place again.

A stream reader is fed bytes as they come and asked for frames. It answers with a frame, with a `BadFrame` (a
stretch of bytes that is no frame, where it began and why), or with None: it needs more. A stretch is
reported once it is known to be over, that is with the frame that follows it, with the next header that
claims to be one, when it grows beyond the bound, or at the end of the input. So the same bytes give the same
answers however they are cut into pieces.
"""

from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

FrameT = TypeVar("FrameT")


class Framing(StrEnum):
    """How the bytes of an APDU were packed, or which other language they are."""

    HDLC = "hdlc"
    WRAPPER = "wrapper"
    MBUS = "mbus"
    LLC = "llc"
    DLT645 = "dlt645"
    IEC62056_21 = "iec62056-21"
    P1 = "p1"
    MODBUS_RTU = "modbus-rtu"
    MODBUS_TCP = "modbus-tcp"
    APDU = "apdu"
    UNKNOWN = "unknown"


# First bytes of the APDUs that a meter or a client may send: xDLMS tags, ACSE, and the gateway prefix.
APDU_TAGS = frozenset(
    bytes.fromhex(
        "010506080c0d0e0f101618 212526282c2d2e3638 414546484c4d4e5658 60616263"
        "c0c1c2c3c4c5c7 c8c9cacbcccdcf d0d1d2d3d4d5d7 d8d9dadbdcdddfe0 e6e7"
    )
)


class BadFrame(NamedTuple):
    """Bytes that are no frame: ``data`` from ``offset`` (counted from the first byte ever fed), and why."""

    offset: int
    data: bytes
    reason: str

    def __str__(self) -> str:
        return f"bad frame at byte {self.offset}, {len(self.data)} bytes: {self.reason}"


class Refusal(NamedTuple):
    """A parser's no.

    ``claimed``: the header was one of this framing, so the stretch is reported on its own.
    """

    reason: str
    claimed: bool


class Found(NamedTuple, Generic[FrameT]):
    """A parser's yes: the frame and the index behind it."""

    frame: FrameT
    end: int


class Missing(NamedTuple):
    """A parser's not yet.

    How many bytes of how many there are (``expected`` is None before the length is known).
    """

    present: int
    expected: int | None

    def __str__(self) -> str:
        total = "" if self.expected is None else f" of {self.expected}"
        return f"cut short: {self.present}{total} bytes"


class StreamReader(Generic[FrameT]):
    """Base of the readers: buffer, place, resynchronisation.

    A subclass says where a frame may start (`_find`) and whether one does (`_parse`). After `next` has
    returned None the buffer holds fewer than ``bound`` bytes of a bad stretch and at most one unfinished
    frame.
    """

    def __init__(self, bound: int) -> None:
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first byte in the stream
        self._scan = 0  # the bytes before this index have been looked at
        self._bad: str | None = None  # why the stretch at the buffer's start is no frame
        self._cut_short = False  # that stretch is a frame which the end of the input cut
        self._bound = bound
        self._ended = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append received bytes.

        Ask `next` until it returns None before feeding again: that keeps the bound.
        """
        self._buffer += data

    def end(self) -> None:
        """Say that nothing more will come: what is unfinished is then told as cut short by `next`."""
        self._ended = True

    @property
    def pending(self) -> int:
        """Bytes held back because they are not yet a frame."""
        return len(self._buffer)

    def next(self) -> FrameT | BadFrame | None:
        """The next frame or bad stretch; None when more bytes are needed."""
        while True:
            start = self._scan = self._find(self._scan)
            if start and self._bad is None:
                self._bad = "bytes outside any frame"
            if start >= self._bound:
                bad = self._cut(self._bound)
                if bad is not None:
                    return bad
                continue
            if start == len(self._buffer):
                return self._cut(start) if self._ended else None
            outcome = self._parse(start)
            if isinstance(outcome, Missing):
                if not self._ended:
                    return None
                # Inside what is cut short itself, a second beginning that is cut short says nothing new.
                outcome = Refusal(str(outcome), claimed=not self._cut_short)
                self._cut_short = True
            if start and (isinstance(outcome, Found) or outcome.claimed):
                bad = self._cut(start)
                if bad is not None:
                    return bad
                continue  # nothing but filling: the candidate now stands at the start
            if isinstance(outcome, Found):
                self._drop(outcome.end)
                frame: FrameT = outcome.frame
                return frame
            self._bad = self._bad or outcome.reason
            self._scan = start + 1

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count
        self._scan = max(0, self._scan - count)
        self._bad = None
        self._cut_short = False

    def _cut(self, end: int) -> BadFrame | None:
        """Take the stretch before ``end`` out of the buffer; None where it was only filling."""
        data = bytes(self._buffer[:end])
        bad = BadFrame(self._offset, data, self._bad or "bytes outside any frame")
        self._drop(end)
        return None if self._is_filling(data) else bad

    def _is_filling(self, data: bytes) -> bool:
        """True for what a framing lets stand between frames."""
        return not data

    def _find(self, start: int) -> int:
        """Index of the first byte from ``start`` that may begin a frame, else the buffer's length."""
        raise NotImplementedError

    def _parse(self, start: int) -> Found[FrameT] | Missing | Refusal:
        """What begins at ``start``."""
        raise NotImplementedError
