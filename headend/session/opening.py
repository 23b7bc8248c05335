"""The opening of IEC 62056-21 on a line: sign-on at 300 baud, then the rate that the meter offers.

Behind it follows a readout, or (mode E) HDLC. Rates are changed, and parity bits are sent, on serial lines
only: behind a TCP gateway they are the gateway's affair. Seven bits with even parity are eight bits of which
we make the highest: not every adapter can do the former, and HDLC needs the latter.
"""

import asyncio
from typing import Final

from headend.transport.serial import SerialStream, open_serial
from headend.transport.stream import Stream
from headend.transport.tcp import dial_tcp
from protocols.errors import LinkTimeout, LocalProtocolError
from protocols.iec62056_21.client import HdlcFollows, Identified, ReadoutClient, Want
from schemas.address import LinkAddress

INITIAL_BAUD: Final = 300
#: The standard's reaction time: at least 200 ms between a message and its answer.
_REACTION_S: Final = 0.2
#: Start bit, seven data bits, parity, stop bit.
_BITS: Final = 10
#: How long a silence is waited out before the meter is asked again, in seconds.
_SILENCE_S: Final = 2.0
_SLACK_S: Final = 0.02
_EVEN: Final = bytes(value | (value.bit_count() & 1) << 7 for value in range(128)) + bytes(range(128, 256))


class Line:
    """A line that sends at the rate it was opened with, and follows the meter to another."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._baud = INITIAL_BAUD

    async def send(self, data: bytes) -> None:
        """Send, and wait until it is on the wire: what is sent must not meet a change of rate."""
        loop = asyncio.get_running_loop()
        if not isinstance(self.stream, SerialStream):
            self.stream.write(data)
        else:
            self.stream.write(data.translate(_EVEN))
            seconds = len(data) * _BITS / self._baud
            await self.stream.drain(loop.time() + seconds + _SILENCE_S)
            await asyncio.sleep(seconds + _SLACK_S)

    async def follow(self, event: Identified) -> None:
        """Answer the identification in its time, and take the rate."""
        if isinstance(self.stream, SerialStream):
            await asyncio.sleep(_REACTION_S)
        if event.reply:
            await self.send(event.reply)
        self._baud = event.baud
        if isinstance(self.stream, SerialStream):
            self.stream.set_baud(event.baud)


async def open_hdlc(address: LinkAddress, deadline: float) -> Stream:
    """Open the line of ``address`` and bring the meter to HDLC (mode E); the stream is HDLC's from here on.

    Raises LinkError, LinkTimeout; RemoteProtocolError where the meter offers no HDLC.
    """
    stream: Stream
    if address.device is not None:
        stream = await open_serial(address.device, baud=INITIAL_BAUD)
    elif address.host is not None and address.port is not None:
        stream = await dial_tcp(address.host, address.port, deadline)
    else:
        raise LocalProtocolError(f"{address} is no line that can be opened")
    try:
        await _bring_to_hdlc(stream, address.meter or "", deadline)
    except BaseException:
        stream.abort()
        raise
    return stream


async def _bring_to_hdlc(stream: Stream, meter: str, deadline: float) -> None:
    loop = asyncio.get_running_loop()
    line, client = Line(stream), ReadoutClient(meter, Want.HDLC)
    await line.send(client.start())
    while True:
        try:
            data = await stream.read_some(min(deadline, loop.time() + _SILENCE_S))
        except LinkTimeout:
            if loop.time() >= deadline:
                raise
            await line.send(client.again())
            continue
        for event in client.receive(data):
            if isinstance(event, Identified):
                await line.follow(event)
            elif isinstance(event, HdlcFollows):
                if event.data:
                    stream.unread(event.data)
                return
