"""The line between a parent and its child: the child says that it is up, and notices when its parent is gone.

It is a pair of sockets, the child's end its standard input. The parent's end closes with the parent, whatever
it dies of, kill -9 included; no process number is asked for, which could be somebody else's by then.
"""

import asyncio
import os
import socket
from types import TracebackType
from typing import Final, Self

_UP: Final = b"."
_STDIN: Final = 0


class Lifeline:
    """The child's end: ``with Lifeline() as line:`` in a process that a `Supervisor` started."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(_STDIN))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    async def up(self) -> None:
        """Tell the parent that everything is open."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, _UP)
        except OSError:
            pass  # it is gone, which `cut` tells

    async def cut(self) -> None:
        """Returns when the parent is gone."""
        try:
            while await asyncio.get_running_loop().sock_recv(self._socket, 16):
                pass
        except ConnectionError:
            pass


async def told_up(end: socket.socket) -> None:
    """The parent's end: returns when the child is up. Raises ConnectionError where it ended before."""
    if await asyncio.get_running_loop().sock_recv(end, len(_UP)) != _UP:
        raise ConnectionError("the child ended before it was up")
