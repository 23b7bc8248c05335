"""What every transport offers a session: a stream of bytes, or of datagrams, with a deadline on every wait.

A deadline is a moment of the event loop's clock (``loop.time() + seconds``), not a duration: it is set once
for an exchange and handed down, so that retries and blocks inside it cannot stretch it.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from protocols.errors import LinkClosed, LinkTimeout, LocalProtocolError

#: Bytes received and not yet taken at which the transport stops reading from the peer, and goes on again.
HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024


class Stream(Protocol):
    """One link to one peer. Not for two readers at once."""

    @property
    def peer(self) -> str:
        """Where the other end is, such as ``tcp://10.1.2.3:4059``. Never a secret."""

    @property
    def is_open(self) -> bool:
        """False once either side closed."""

    @property
    def is_quiet(self) -> bool:
        """Open, and everything that came has been taken."""

    def write(self, data: bytes) -> None:
        """Hand over bytes to be sent. Raises LinkClosed when the link is closed."""

    async def drain(self, deadline: float) -> None:
        """Wait until the peer takes bytes again. Raises LinkTimeout, LinkClosed."""

    async def read_some(self, deadline: float) -> bytes:
        """What came, at least one byte: all that waited, else the next piece. Of a datagram link, a datagram.

        Raises LinkTimeout, LinkClosed.
        """

    def unread(self, data: bytes) -> None:
        """Put bytes back that the next `read_some` shall give first."""

    def close(self) -> None:
        """Send what was written, then close. May be called twice."""

    def abort(self) -> None:
        """Close at once and drop what was not sent."""

    async def wait_closed(self, deadline: float) -> None:
        """Close and wait until it is done; at the deadline the link is aborted. Raises no LinkError."""


class BaseStream:
    """The receiving side, waiting and closing; what carries bytes out is the subclass's.

    Deadlines cost one timer per stream, not one per wait: the timer stays armed when an answer comes; when
    it goes off looks whether anybody still waits for it. (`asyncio.timeout_at` takes 3 us for each of a
    session's dozen waits.) Bytes that arrive while a waiting reader is being cancelled stay for the next one.
    """

    __slots__ = (
        "_closed", "_deadline", "_drainer", "_ended", "_gone", "_loop", "_paused_reading", "_paused_writing",
        "_pending", "_reader", "_size", "_timer", "_timer_at", "peer",
    )  # fmt: skip

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._loop = asyncio.get_running_loop()
        self._pending: deque[bytes] = deque()
        self._size = 0
        self._ended: str | None = None  # why nothing more will come
        self._reader: asyncio.Future[bytes | None] | None = None  # gets what comes; None is the end
        self._drainer: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None  # of those who wait until the carrier is gone
        self._gone = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._paused_reading = False
        self._paused_writing = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.peer} {'open' if self.is_open else self._ended}>"

    @property
    def is_open(self) -> bool:
        """False once either side closed."""
        return self._ended is None

    @property
    def is_quiet(self) -> bool:
        """Open, and everything that came has been taken."""
        return self._ended is None and not self._pending

    # ---- what the subclass carries out -----------------------------------------------------------

    def _pause_peer(self, pause: bool) -> None:
        """Stop reading from the peer, or go on."""
        raise NotImplementedError

    def _shut(self, *, at_once: bool) -> None:
        """Close the carrier; `_lost` is called when that is done."""
        raise NotImplementedError

    # ---- what the carrier reports ----------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(data)
            return
        self._pending.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused_reading:
            self._paused_reading = True
            self._pause_peer(True)

    def _end(self, reason: str) -> None:
        """Nothing more comes in. What came before may still be read."""
        if self._ended is None:
            self._ended = reason
        for waiter in (self._reader, self._drainer):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _lost(self, reason: str) -> None:
        """The carrier is gone altogether."""
        self._end(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gone = True
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """The carrier's call, under asyncio's name: too much waits to be sent."""
        self._paused_writing = True

    def resume_writing(self) -> None:
        """The carrier's call, under asyncio's name: the peer takes bytes again."""
        self._paused_writing = False
        if self._drainer is not None and not self._drainer.done():
            self._drainer.set_result(None)

    # ---- reading ---------------------------------------------------------------------------------

    async def read_some(self, deadline: float) -> bytes:
        """What came, at least one byte: all that waited, else the next piece.

        Raises:
            LinkTimeout: nothing came until ``deadline``; the stream may be read again.
            LinkClosed: closed, and everything that came before has been read.
        """
        if self._pending:
            return self._take()
        # Waiting is not a coroutine of its own: every answer would pay for it.
        reader = self._wait(deadline)
        try:
            data = await reader
        except asyncio.CancelledError:
            if reader.done() and not reader.cancelled() and reader.exception() is None:
                self.unread(reader.result() or b"")
            raise
        finally:
            self._reader = None
        if data is None:
            raise LinkClosed(f"{self.peer}: {self._ended}")
        return data

    def unread(self, data: bytes) -> None:
        """Put bytes back that the next `read_some` shall give first."""
        if data:
            self._pending.appendleft(data)
            self._size += len(data)

    def _take(self) -> bytes:
        pending = self._pending
        data = pending.popleft() if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._size = 0
        if self._paused_reading:
            self._resume_peer()
        return data

    def _resume_peer(self) -> None:
        if self._paused_reading and self._size <= LOW_WATER:
            self._paused_reading = False
            if self._ended is None:
                self._pause_peer(False)

    def _wait(self, deadline: float) -> "asyncio.Future[bytes | None]":
        """What gets the bytes or the end when they come, and fails at ``deadline``."""
        if self._ended is not None:
            raise LinkClosed(f"{self.peer}: {self._ended}")
        if self._reader is not None:
            raise LocalProtocolError(f"{self.peer}: two readers of one link")
        if deadline <= self._loop.time():  # also ends the wait amid a flood of bytes that nobody asked for
            raise LinkTimeout(f"{self.peer}: nothing came before the deadline")
        reader = self._reader = self._loop.create_future()
        if self._timer is not None and self._timer_at <= deadline:
            self._deadline = deadline  # it looks again when it goes off
        else:
            self._arm(deadline)
        return reader

    def _arm(self, deadline: float) -> None:
        self._deadline = deadline
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._expired)
        self._timer_at = deadline

    def _expired(self) -> None:
        self._timer = None
        reader = self._reader
        if reader is None or reader.done():
            return
        # A loop may call a timer up to its clock's resolution early: what was due at the armed moment is due.
        if self._deadline > max(self._loop.time(), self._timer_at):
            self._arm(self._deadline)
        else:
            reader.set_exception(LinkTimeout(f"{self.peer}: nothing came before the deadline"))

    # ---- writing and closing ---------------------------------------------------------------------

    async def drain(self, deadline: float) -> None:
        """Wait until the peer takes bytes again; returns at once unless it stopped taking them.

        Raises:
            LinkTimeout: it took none until ``deadline``.
            LinkClosed: the link closed meanwhile.
        """
        if self._ended is not None:
            raise LinkClosed(f"{self.peer}: {self._ended}")
        if not self._paused_writing:
            return
        if self._drainer is not None:
            raise LocalProtocolError(f"{self.peer}: two writers wait on one link")
        self._drainer = self._loop.create_future()
        try:
            async with asyncio.timeout_at(deadline):
                await self._drainer
        except TimeoutError as exc:
            raise LinkTimeout(f"{self.peer}: the peer does not take what is sent") from exc
        finally:
            self._drainer = None
        if self._ended is not None:
            raise LinkClosed(f"{self.peer}: {self._ended}")

    def close(self) -> None:
        """Send what was written, then close. A waiting reader gets LinkClosed."""
        self._end("closed by us")
        self._shut(at_once=False)

    def abort(self) -> None:
        """Close at once and drop what was not sent."""
        self._end("aborted by us")
        self._shut(at_once=True)

    async def wait_closed(self, deadline: float) -> None:
        """Close and wait until it is done; at ``deadline`` the link is aborted instead."""
        self.close()
        if self._gone:
            return
        if self._closed is None:
            self._closed = self._loop.create_future()
        closed = self._closed
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(closed)
        except TimeoutError:
            self.abort()
        except asyncio.CancelledError:
            self.abort()
            raise
