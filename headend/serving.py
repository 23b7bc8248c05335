"""The API's socket and server: uvicorn, with an end to the patience it has with clients.

A client that connects and says nothing, or says it a byte at a time, holds a connection and costs memory; its
request must be whole in time, and connections are bounded.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

#: How long open requests may take after the end was asked for, in seconds.
LAST_ANSWERS_S: Final = 5
#: From a connection, or the first byte of a further request, to the end of the request's head; and from
#: there to the end of its body.
HEAD_S: Final = 10.0
BODY_S: Final = 120.0
MAX_CONNECTIONS: Final = 4_000
_BACKLOG: Final = 1024


class AddressInUse(OSError):
    """The API's address cannot be had; the message says which and why."""


class _Impatient(H11Protocol):
    """Closes connections whose request is not whole in time, and those beyond the bound."""

    _timer: asyncio.TimerHandle | None = None
    _waits_for_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's call."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > MAX_CONNECTIONS:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        """The loop's call. A timer is armed exactly while the client owes us something."""
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.IDLE:
            self._arm(HEAD_S, for_body=False)
        elif state is h11.SEND_BODY:
            self._arm(BODY_S, for_body=True)
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's call."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self, seconds: float, *, for_body: bool) -> None:
        if self._timer is not None and self._waits_for_body == for_body:
            return  # further bytes of the same thing win no time
        self._disarm()
        self._waits_for_body = for_body
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abort()


class Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are captured."""
        yield


def make_server(app: Callable[..., Any]) -> Server:
    """A server for ``app``; ``serve([listener])`` runs it."""
    return Server(
        uvicorn.Config(
            app,
            http=_Impatient,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=LAST_ANSWERS_S,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AddressInUse."""
    family, kind, protocol, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressInUse(
            f"the API cannot listen on {host}:{port}: {error.strerror}; HEADEND_API_PORT or --port names "
            "another"
        ) from error
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where it listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
