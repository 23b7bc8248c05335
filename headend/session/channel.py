"""APDUs over a stream: what a framing does between two ends, behind one small interface.

`WrapperChannel` is for TCP, `UdpWrapperChannel` for datagrams; `HdlcChannel` is in `headend.session.hdlc`.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeGuard

from headend.session.deadlines import Deadlines
from headend.transport.stream import Stream
from protocols.dlms import wrapper
from protocols.dlms.framing import Found
from protocols.errors import LinkTimeout


class ApduChannel(Protocol):
    """Sends and receives whole APDUs between one client SAP and one server SAP."""

    @property
    def ignored(self) -> int:
        """Frames and datagrams that were not for us or made no sense: dropped and counted."""

    @property
    def is_clean(self) -> bool:
        """Whether all that came was ours and is taken, so that the stream may carry another conversation."""

    @property
    def outlasts_silence(self) -> bool:
        """Whether an APDU can be sent although the one before it was not answered: nothing has come in half,
        and the framing itself repeats nothing."""

    @property
    def peer(self) -> str:
        """Where the other end is; no secrets."""

    async def open(self, deadline: float) -> None:
        """Whatever the framing needs before the first APDU. Raises LinkError, RemoteProtocolError."""

    async def send(self, apdu: bytes, deadline: float) -> None:
        """Send one APDU. Raises LinkTimeout, LinkClosed."""

    async def receive(self, deadline: float) -> bytes:
        """The next APDU. Raises LinkTimeout, LinkClosed, RemoteProtocolError."""

    async def close(self, deadline: float) -> None:
        """Whatever the framing says at the end. The stream stays open, to be closed by its owner."""


class WrapperChannel:
    """The wrapper over TCP, between two wPorts."""

    __slots__ = ("_client", "_gap_s", "_loop", "_reader", "_server", "_stream", "ignored")

    def __init__(self, stream: Stream, *, client: int, server: int, deadlines: Deadlines) -> None:
        self._stream = stream
        self._client = client
        self._server = server
        self._gap_s = deadlines.gap_s
        self._loop = asyncio.get_running_loop()
        self._reader = wrapper.WrapperReader()
        self.ignored = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was dropped and no byte of another frame has come."""
        return not self.ignored and not self._reader.pending

    @property
    def outlasts_silence(self) -> bool:
        """Whether no frame has begun to come."""
        return self._stream.is_open and not self._reader.pending

    @property
    def peer(self) -> str:
        """Where the other end is."""
        return self._stream.peer

    async def open(self, deadline: float) -> None:
        """The wrapper has no link of its own to open."""

    def send(self, apdu: bytes, deadline: float) -> Coroutine[Any, Any, None]:
        """Send one APDU. Raises LinkTimeout, LinkClosed, LocalProtocolError (longer than 65,535 bytes)."""
        self._stream.write(wrapper.encode(self._client, self._server, apdu))
        return self._stream.drain(deadline)

    async def receive(self, deadline: float) -> bytes:
        """The next APDU from our server's wPort to our client's; others are dropped and counted.

        Raises:
            LinkTimeout: none was complete at ``deadline``, or a frame that began did not go on for ``gap_s``.
            LinkClosed: closed, in the middle of a frame or between two.
            RemoteProtocolError: what came is no wrapper frame. On TCP nothing behind it can be trusted.
        """
        reader = self._reader
        while True:
            if not reader.pending:
                data = await self._stream.read_some(deadline)
                # Nearly always: the one frame that we wait for, whole and nothing behind it.
                apdu = reader.whole(data, self._server, self._client)
                if apdu is not None:
                    return apdu
                reader.feed(data)
            frame = reader.next()
            if frame is None:
                if reader.pending:
                    await self._read_on(deadline)
            elif _is_between(frame, self._server, self._client):
                return frame.apdu
            else:
                self.ignored += 1

    async def _read_on(self, deadline: float) -> None:
        """More of a frame that has begun."""
        gap_end = self._loop.time() + self._gap_s
        try:
            self._reader.feed(await self._stream.read_some(min(deadline, gap_end)))
        except LinkTimeout as exc:
            reason = f"{self.peer}: silent in the middle of a frame, after {self._reader.pending} bytes"
            raise LinkTimeout(reason) from exc

    async def close(self, deadline: float) -> None:
        """The wrapper has no link of its own to close."""


class UdpWrapperChannel(WrapperChannel):
    """The wrapper over UDP: one frame per datagram. A datagram that is no frame is dropped and counted, since
    the next one stands on its own.
    """

    __slots__ = ()

    async def receive(self, deadline: float) -> bytes:
        """The next APDU for us. Raises LinkTimeout, LinkClosed."""
        while True:
            data = await self._stream.read_some(deadline)
            outcome = wrapper.parse(data)
            if (
                isinstance(outcome, Found)
                and outcome.end == len(data)
                and _is_between(outcome.frame, self._server, self._client)
            ):
                return outcome.frame.apdu
            self.ignored += 1


def _is_between(frame: object, source: int, destination: int) -> TypeGuard[wrapper.WrapperFrame]:
    return (
        isinstance(frame, wrapper.WrapperFrame)
        and frame.source == source
        and frame.destination == destination
    )
