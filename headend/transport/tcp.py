"""TCP: dial out, and streams made of accepted connections.

asyncio gives every connection's read a fresh buffer of 256 kB, whose page faults cost more than the rest of a
round trip. Here one buffer per thread, that is per event loop, receives for all connections: the loop asks
for it, fills it and reports it in one call, and only the bytes that came are kept.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import Final

from headend.transport.stream import BaseStream
from protocols.errors import LinkClosed, LinkError, LinkTimeout
from schemas.failure import Stage

#: Bytes that one receive call can take.
RECEIVE_BUFFER: Final = 64 * 1024


class _Buffers(threading.local):
    """The receive buffer of this thread's loop. A thread runs one loop at a time."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(RECEIVE_BUFFER))


_buffers = _Buffers()


class TcpStream(BaseStream, asyncio.BufferedProtocol):
    """A TCP connection: protocol and stream in one object, since a head-end holds 10,000 of them."""

    __slots__ = ("_opened", "_transport", "_view")

    def __init__(self, peer: str = "tcp", opened: "Callable[[TcpStream], None] | None" = None) -> None:
        super().__init__(peer)
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._view = _buffers.view

    # ---- asyncio.BufferedProtocol ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's call: connected or accepted."""
        self._transport = transport  # type: ignore[assignment]
        if self._opened is not None:
            opened, self._opened = self._opened, None
            self.peer = f"tcp://{_written(transport.get_extra_info('peername'))}"
            opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The loop's call: where to put what comes."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """The loop's call: so many bytes came."""
        self._arrived(bytes(self._view[:nbytes]))

    def eof_received(self) -> bool:
        """The loop's call: the peer sends no more. A half-open link is of no use here: it is closed."""
        self._end("closed by the peer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's call: gone."""
        self._transport = None
        self._lost("closed by the peer" if exc is None else f"lost: {exc}")

    # ---- Stream ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Hand over bytes to be sent. Raises LinkClosed when the link is closed."""
        if self._ended is not None or self._transport is None:
            raise LinkClosed(f"{self.peer}: {self._ended or 'not connected'}")
        self._transport.write(data)

    def _pause_peer(self, pause: bool) -> None:
        if self._transport is not None:
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _shut(self, *, at_once: bool) -> None:
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()


def _written(address: tuple[str, int] | None) -> str:
    if not address:
        return "unknown"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def dial_tcp(host: str, port: int, deadline: float) -> TcpStream:
    """Connect to a meter, gateway or concentrator. Nagle's algorithm is off, as both loops set it.

    Raises:
        LinkTimeout: not connected at ``deadline`` (loop time).
        LinkError: refused, unreachable or no such host; the reason says which.
    """
    peer = f"tcp://{_written((host, port))}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            _, stream = await loop.create_connection(lambda: TcpStream(peer), host, port)
    except TimeoutError as exc:
        raise LinkTimeout(f"{peer}: not connected before the deadline", stage=Stage.CONNECT) from exc
    except socket.gaierror as exc:
        raise LinkError(f"{peer}: no such host ({exc.strerror})", stage=Stage.DNS) from exc
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)  # asyncio words its own strerror
        raise LinkError(f"{peer}: {reason}", stage=Stage.CONNECT) from exc
    return stream


async def listen_tcp(
    host: str,
    port: int,
    opened: Callable[[TcpStream], None],
    *,
    backlog: int = 1024,
    shared: bool = False,
) -> asyncio.Server:
    """Accept connections and hand each, connected, to ``opened``, which must keep, close or abort it at once.

    ``port`` 0 takes a free one. ``shared``: other processes of this user listen there too, and the system
    gives each connection to one of them. Raises OSError as the system gives it: an address of ours is a
    setting, not a peer.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: TcpStream(opened=opened), host, port, backlog=backlog, reuse_port=shared or None
    )
