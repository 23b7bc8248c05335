"""Accepts TCP connections up to the limits and serves each in a task of its own."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from headend.listen.limits import Limits
from headend.transport.tcp import TcpStream, listen_tcp

log = logging.getLogger(__name__)

Serve = Callable[[TcpStream, str], Awaitable[str]]

#: How long served connections may take to settle at the end, in seconds.
_CLOSE_S: Final = 5.0


@dataclass(slots=True)
class DoorTotals:
    """Connections since the start, and those refused by the limits."""

    accepted: int = 0
    refused: int = 0
    failed: int = 0


def host_of(peer: str) -> str:
    """The host of a stream's peer, without scheme and port."""
    return peer.rpartition("://")[2].rpartition(":")[0]


class Doorman:
    """``async with Doorman(name, host, port, serve, limits)`` listens inside; what it serves ends with it.

    ``serve`` gets each connection and its host, and gives the reason why it ended; it may be cancelled. A
    connection is closed behind it in any case. ``shared``: each connection goes to one of several processes
    that listen there. Raises OSError where the address cannot be had.
    """

    def __init__(
        self, name: str, host: str, port: int, serve: Serve, limits: Limits, *, shared: bool = False
    ) -> None:
        self._name = name
        self._host = host
        self._wanted_port = port
        self._serve = serve
        self._limits = limits
        self._shared = shared
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts: Counter[str] = Counter()
        self.totals: Final = DoorTotals()

    async def __aenter__(self) -> Self:
        self._server = await listen_tcp(self._host, self._wanted_port, self._opened, shared=self._shared)
        log.info("%s: listening on %s port %d", self._name, self._host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_S)
            for task in late:
                log.warning("%s: %s does not end", self._name, task.get_name())

    @property
    def port(self) -> int:
        """The port that is listened on. Raises RuntimeError before the start."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the listener is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def open(self) -> int:
        """Connections that are served now."""
        return len(self._tasks)

    def _opened(self, stream: TcpStream) -> None:
        host = host_of(stream.peer)
        if len(self._tasks) >= self._limits.connections or self._hosts[host] >= self._limits.per_host:
            self.totals.refused += 1
            log.warning("%s: %s is refused: too many connections", self._name, stream.peer)
            stream.abort()
            return
        self.totals.accepted += 1
        self._hosts[host] += 1
        task = asyncio.create_task(self._served(stream, host), name=f"{self._name} {stream.peer}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, host))

    async def _served(self, stream: TcpStream, host: str) -> None:
        try:
            reason = await self._serve(stream, host)
            log.debug("%s: %s: %s", self._name, stream.peer, reason)
        except Exception:
            # The boundary of one connection: a defect that it meets must not end the others'.
            self.totals.failed += 1
            log.exception("%s: %s: a defect of ours", self._name, stream.peer)
        finally:
            stream.close()

    def _ended(self, task: "asyncio.Task[None]", host: str) -> None:
        self._tasks.discard(task)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
