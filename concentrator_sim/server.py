"""asyncio's part of the simulated field: ports that meters listen on, over TCP and UDP."""

import asyncio
import os
import threading
import tty
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from concentrator_sim.faults import Delivery, Faults
from concentrator_sim.links import Line, datagram
from concentrator_sim.station import Station
from protocols.errors import RemoteProtocolError

#: Bytes that one receive call can take; asyncio's own 256 kB per call cost more than the rest of it.
RECEIVE_BUFFER: Final = 64 * 1024
#: Bytes that may wait for a client that does not read; then it is cut off.
MAX_WAITING: Final = 4 * 1024 * 1024
#: UDP clients that a meter remembers with their associations.
MAX_UDP_CLIENTS: Final = 64


class Trouble:
    """What goes wrong with one meter's port: its faults, and the clock that they go by (Unix seconds)."""

    __slots__ = ("clock", "faults")

    def __init__(self, faults: Faults, clock: Callable[[], int]) -> None:
        self.faults = faults
        self.clock = clock

    @property
    def is_down(self) -> bool:
        """Whether nobody listens now."""
        return self.faults.is_down(self.clock())

    @property
    def is_deaf(self) -> bool:
        """Whether nobody is there now."""
        now = self.clock()
        return self.faults.is_down(now) or self.faults.is_half_open(now)

    @property
    def loses_request(self) -> bool:
        """Whether what just came is lost on its way."""
        return self.faults.loses_request(self.clock())

    def deliveries(self, data: bytes) -> list[Delivery]:
        """What becomes of an answer."""
        return self.faults.deliveries(data, self.clock())


class _Buffers(threading.local):
    """The receive buffer of this thread's loop. A thread runs one loop at a time."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(RECEIVE_BUFFER))


_buffers = _Buffers()


class MeterConnection(asyncio.BufferedProtocol):
    """One connection to a meter. ``answer_delay_s`` holds answers back; ``silent`` never gives any.

    ``greeting`` is sent first, and ``closed`` told of the end: for meters that dial in. ``is_away`` says
    whether nobody is there for a while: then it is cut off. ``trouble`` is what goes wrong: a restart cuts
    off what was connected before, a half-open connection never answers again.
    """

    __slots__ = (
        "_closed", "_delay_s", "_greeting", "_is_away", "_line", "_open", "_restarts", "_silent",
        "_transport", "_trouble", "_view",
    )  # fmt: skip

    def __init__(
        self,
        line: Line,
        opened: "set[MeterConnection]",
        *,
        answer_delay_s: float = 0.0,
        silent: bool = False,
        greeting: bytes = b"",
        closed: Callable[[], None] | None = None,
        trouble: Trouble | None = None,
        is_away: Callable[[], bool] | None = None,
    ) -> None:
        self._is_away = is_away
        self._greeting = greeting
        self._trouble = trouble
        self._restarts = 0 if trouble is None else trouble.faults.restarts(trouble.clock())
        self._closed = closed
        self._line = line
        self._open = opened
        self._delay_s = answer_delay_s
        self._silent = silent
        self._transport: asyncio.Transport | None = None
        self._view = _buffers.view

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's call."""
        self._transport = transport  # type: ignore[assignment]
        self._open.add(self)
        down = self._trouble is not None and self._trouble.is_down
        if down or (self._is_away is not None and self._is_away()):
            self._cut_off()
        elif self._greeting:
            self.write(self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's call."""
        self._transport = None
        self._open.discard(self)
        if self._closed is not None:
            self._closed()

    def get_buffer(self, sizehint: int) -> memoryview:
        """The loop's call: where to put what comes."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """The loop's call: so many bytes came."""
        if self.is_deaf() or (self._trouble is not None and self._trouble.loses_request):
            return
        try:
            out = self._line.receive(bytes(self._view[:nbytes]))
        except RemoteProtocolError:
            self.close()  # a stream that lost its framing
            return
        if out:
            self.answer(out, self._delay_s)
        elif self._is_away is not None and self._is_away():
            self._cut_off()

    def answer(self, out: bytes, delay_s: float) -> None:
        """Send what answers, after so long, and with what goes wrong."""
        for late_s, data in [Delivery(0.0, out)] if self._trouble is None else self._trouble.deliveries(out):
            if delay_s + late_s:
                asyncio.get_running_loop().call_later(delay_s + late_s, self.write, data)
            else:
                self.write(data)

    def is_deaf(self) -> bool:
        """Whether what came reaches nobody."""
        trouble = self._trouble
        if self._silent or trouble is None:
            return self._silent
        now = trouble.clock()
        if trouble.faults.is_down(now) or trouble.faults.restarts(now) != self._restarts:
            self._cut_off()
            return True
        self._silent = trouble.faults.is_half_open(now)
        return self._silent

    def write(self, data: bytes) -> None:
        """Send, unless the connection has gone meanwhile."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > MAX_WAITING:
            transport.abort()

    def _cut_off(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


class SerialMeter:
    """A meter on a pseudo-terminal; ``device`` is the path that a client opens."""

    def __init__(self, line: Line, *, silent: bool = False, trouble: Trouble | None = None) -> None:
        self._line = line
        self._silent = silent
        self._trouble = trouble
        # Our end stays open beside the client's: else reading fails whenever no client is there.
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.device = os.ttyname(self._slave)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._master, self._readable)
        self._waiting = bytearray()

    def close(self) -> None:
        """Give the pseudo-terminal back."""
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._master, RECEIVE_BUFFER)
        except BlockingIOError:
            return
        trouble = self._trouble
        if self._silent or not data or (trouble is not None and trouble.is_deaf):
            return
        try:
            out = self._line.receive(data)
        except RemoteProtocolError:
            return  # noise on the line: there is nobody to hang up on
        for late_s, part in [Delivery(0.0, out)] if trouble is None else trouble.deliveries(out):
            if late_s:
                self._loop.call_later(late_s, self._send, part)
            else:
                self._send(part)

    def _send(self, data: bytes) -> None:
        if self._master < 0:
            return  # closed meanwhile
        if len(self._waiting) + len(data) <= MAX_WAITING:
            self._waiting += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._master, self._waiting)]
        except BlockingIOError:
            self._loop.add_writer(self._master, self._flush)
            return
        self._loop.remove_writer(self._master)


class UdpMeter(asyncio.DatagramProtocol):
    """A meter's UDP port; each client address has associations of its own."""

    def __init__(
        self, station: Callable[[], Station], *, silent: bool = False, trouble: Trouble | None = None
    ) -> None:
        self._make = station
        self._silent = silent
        self._trouble = trouble
        self._stations: OrderedDict[tuple[str, int], Station] = OrderedDict()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's call."""
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """The loop's call."""
        trouble = self._trouble
        if self._silent or self._transport is None or (trouble is not None and trouble.is_deaf):
            return
        station = self._stations.pop(addr, None) or self._make()
        self._stations[addr] = station
        if len(self._stations) > MAX_UDP_CLIENTS:
            self._stations.popitem(last=False)
        for out in datagram(station, data):
            for late_s, part in [Delivery(0.0, out)] if trouble is None else trouble.deliveries(out):
                if late_s:
                    asyncio.get_running_loop().call_later(late_s, self._send, part, addr)
                else:
                    self._send(part, addr)

    def _send(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, addr)
