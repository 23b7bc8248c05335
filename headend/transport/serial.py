"""Serial lines (RS-485, RS-232, optical heads) by pyserial, as a stream."""

import asyncio
import termios
from typing import Final, Literal

import serial
import serial_asyncio_fast

from headend.transport.stream import BaseStream
from protocols.errors import LinkClosed, LinkError

Parity = Literal["N", "E", "O"]
#: What pyserial raises for a line that is not there, held, or cannot do what is asked.
_UNUSABLE: Final = (serial.SerialException, OSError, ValueError, termios.error)


class SerialStream(BaseStream, asyncio.Protocol):
    """One serial line. Whoever holds it is alone on it: the port is opened exclusively."""

    __slots__ = ("_transport",)

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line is there. Called by `open_serial`, and again by the transport in the loop's next turn."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """The loop's call: bytes came."""
        self._arrived(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's call: the line is closed, or was unplugged."""
        self._transport = None
        self._lost("closed" if exc is None else f"lost: {exc}")

    def write(self, data: bytes) -> None:
        """Hand over bytes to be sent. Raises LinkClosed when the line is closed."""
        if self._ended is not None or self._transport is None:
            raise LinkClosed(f"{self.peer}: {self._ended or 'not open'}")
        self._transport.write(data)

    def set_baud(self, baud: int) -> None:
        """Take another rate, from here on. Raises LinkClosed, LinkError (the line takes no such rate)."""
        if self._ended is not None or self._transport is None:
            raise LinkClosed(f"{self.peer}: {self._ended or 'not open'}")
        port: serial.Serial = self._transport.get_extra_info("serial")
        try:
            port.baudrate = baud
        except _UNUSABLE as exc:
            raise LinkError(f"{self.peer}: {baud} baud: {exc}") from exc

    def _pause_peer(self, pause: bool) -> None:
        if self._transport is not None:
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _shut(self, *, at_once: bool) -> None:
        if self._transport is not None:
            if not at_once:
                self._transport.close()
            elif not self._transport.is_closing() or self._transport.get_write_buffer_size():
                self._transport.abort()  # a second one while the first is under way would fail inside


async def open_serial(
    device: str,
    *,
    baud: int = 9600,
    parity: Parity = "N",
    bytesize: Literal[7, 8] = 8,
    stopbits: Literal[1, 2] = 1,
) -> SerialStream:
    """Open ``device`` such as /dev/ttyUSB0; DLMS over HDLC uses 8N1. Opening does not wait for a peer.

    Raises LinkError: no such device, no right to it, or held by somebody else.
    """
    peer = f"serial://{device}"
    loop = asyncio.get_running_loop()
    try:
        port = serial.Serial(
            device,
            baudrate=baud,
            parity=parity,
            bytesize=bytesize,
            stopbits=stopbits,
            timeout=0,
            exclusive=True,
        )
    except _UNUSABLE as exc:
        raise LinkError(f"{peer}: {exc}") from exc
    stream = SerialStream(peer)
    stream.connection_made(serial_asyncio_fast.SerialTransport(loop, stream, port))
    return stream
