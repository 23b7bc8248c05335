"""UDP for the wrapper: one socket connected to one meter; a datagram is a frame."""

import asyncio
import os
import socket
from typing import Final

from headend.transport.stream import BaseStream
from protocols.errors import LinkClosed, LinkError, LinkTimeout
from schemas.failure import Stage

#: Datagrams kept for a reader who is late; more are dropped, as a network would, and counted.
MAX_WAITING: Final = 64


class UdpStream(BaseStream, asyncio.DatagramProtocol):
    """Datagrams to and from one address; others' are dropped. ``dropped`` counts what came too fast."""

    __slots__ = ("_transport", "dropped")

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self._transport: asyncio.DatagramTransport | None = None
        self.dropped = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's call: the socket is there."""
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: object) -> None:
        """The loop's call: one datagram. An empty one says nothing and is dropped."""
        if not data or len(self._pending) >= MAX_WAITING:
            self.dropped += 1
        else:
            self._arrived(data)

    def error_received(self, exc: Exception) -> None:
        """The loop's call: the network says that nobody takes what we sent."""
        self._end(f"refused: {exc}")
        self._shut(at_once=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's call: the socket is closed."""
        self._transport = None
        self._lost("closed" if exc is None else f"lost: {exc}")

    def write(self, data: bytes) -> None:
        """Send one datagram. Raises LinkClosed when the link is closed."""
        if self._ended is not None or self._transport is None:
            raise LinkClosed(f"{self.peer}: {self._ended or 'not open'}")
        self._transport.sendto(data)

    def _take(self) -> bytes:
        data = self._pending.popleft()
        self._size -= len(data)
        return data

    def _pause_peer(self, pause: bool) -> None:
        """A datagram socket cannot push back: `MAX_WAITING` bounds it."""

    def _shut(self, *, at_once: bool) -> None:
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()


async def dial_udp(host: str, port: int, deadline: float) -> UdpStream:
    """Open a socket connected to one address. That somebody is there shows with the first answer only.

    Raises LinkTimeout (name not resolved at ``deadline``) or LinkError (no such host, no route).
    """
    peer = f"udp://[{host}]:{port}" if ":" in host else f"udp://{host}:{port}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            _, stream = await loop.create_datagram_endpoint(lambda: UdpStream(peer), remote_addr=(host, port))
    except TimeoutError as exc:
        raise LinkTimeout(f"{peer}: not open before the deadline", stage=Stage.DNS) from exc
    except socket.gaierror as exc:
        raise LinkError(f"{peer}: no such host ({exc.strerror})", stage=Stage.DNS) from exc
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)  # asyncio words its own strerror
        raise LinkError(f"{peer}: {reason}", stage=Stage.CONNECT) from exc
    return stream
