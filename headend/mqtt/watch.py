"""Watches paho's socket on the event loop.

aiomqtt can do that, but registers what it watches some time later and from other threads: by then a socket
may be closed and its number another's. And uvloop keeps a dead entry under the number of a socket that had an
error, with which no other can be watched. So every number is freed of what was before it, and the socket is
looked at twice a second whatever the loop says.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from paho.mqtt.client import Client as PahoClient

_TICK_S: Final = 0.5


class Watch:
    """Calls ``read`` when there is something, lets paho write and keep the connection alive.

    ``read`` may call `pause`. An error of either goes to ``lost``.
    """

    def __init__(self, paho: PahoClient, read: Callable[[], None], lost: Callable[[Exception], None]) -> None:
        self._paho = paho
        self._read_some = read
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._tick: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_over = False
        paho.on_socket_open = self._opened
        paho.on_socket_close = self._closed
        paho.on_socket_register_write = self._register_write
        paho.on_socket_unregister_write = self._unregister_write

    def pause(self) -> None:
        """Read no more for now: the broker is not read, and sends no more."""
        sock = self._paho.socket()
        if not self._is_paused and sock is not None:
            self._loop.remove_reader(sock.fileno())
        self._is_paused = True

    def resume(self) -> None:
        """Read again."""
        sock = self._paho.socket()
        if self._is_paused and sock is not None:
            self._loop.add_reader(sock.fileno(), self._read)
        self._is_paused = False

    def close(self) -> None:
        """Close the socket, also one that a thread is about to open."""
        self._is_over = True
        self._paho._sock_close()  # noqa: SLF001 - paho forgets a socket only when it is collected

    # --- paho's calls: the first and the first writing come from the thread that connects ---

    def _opened(self, _client: PahoClient, _userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._begin, sock)

    def _closed(self, _client: PahoClient, _userdata: Any, sock: Any) -> None:
        if self._tick is not None:
            self._tick.cancel()
        self._forget(sock)

    def _register_write(self, _client: PahoClient, _userdata: Any, sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._add_writer(sock)
        else:
            self._loop.call_soon_threadsafe(self._add_writer, sock)

    def _unregister_write(self, _client: PahoClient, _userdata: Any, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_writer(sock.fileno())

    # --- on the event loop ---

    def _begin(self, sock: Any) -> None:
        if self._is_over:
            self._paho._sock_close()  # noqa: SLF001 - as in close
        elif sock.fileno() >= 0:
            self._forget(sock)
            self._loop.add_reader(sock.fileno(), self._read)
            self._tick = self._loop.call_later(_TICK_S, self._look)

    def _add_writer(self, sock: Any) -> None:
        if sock.fileno() >= 0 and not self._is_over:
            self._loop.add_writer(sock.fileno(), self._write)

    def _forget(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())

    def _look(self) -> None:
        self._tick = self._loop.call_later(_TICK_S, self._look)
        self._paho.loop_misc()
        if not self._is_paused:
            self._read()
        if self._paho.want_write():
            self._write()

    def _read(self) -> None:
        try:
            self._read_some()
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection is lost
            self._lost(error)

    def _write(self) -> None:
        try:
            self._paho.loop_write()
        except Exception as error:  # noqa: BLE001 - as above
            self._lost(error)
