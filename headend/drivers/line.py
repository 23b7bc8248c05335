"""Plain lines, serial or behind a transparent TCP gateway: opened, and drained before they are asked."""

import asyncio
from typing import Final, Literal

from headend.transport.serial import open_serial
from headend.transport.stream import Stream
from headend.transport.tcp import dial_tcp
from protocols.errors import LinkTimeout, LocalProtocolError
from schemas.address import LinkAddress

Parity = Literal["N", "E", "O"]
#: A line is drained for this long at most, in seconds: one that never falls silent is not usable so.
_LONGEST_DRAIN_S: Final = 3.0
_CLOSING_S: Final = 5.0
_PARITIES: Final[dict[str, Parity]] = {"N": "N", "E": "E", "O": "O"}


async def open_line(
    address: LinkAddress,
    *,
    connect_s: float,
    baud: int,
    parity: Parity,
) -> Stream:
    """The line of ``address``, eight bits; rate and parity are the address' where it names them.

    Raises LinkError, LinkTimeout; LocalProtocolError for an address that is no line.
    """
    if address.device is not None:
        return await open_serial(
            address.device,
            baud=address.baud or baud,
            parity=parity if address.parity is None else _PARITIES[address.parity],
        )
    if address.host is None or address.port is None:
        raise LocalProtocolError(f"{address} is no line that can be opened")
    return await dial_tcp(address.host, address.port, asyncio.get_running_loop().time() + connect_s)


async def let_go(stream: Stream) -> None:
    """Close at once, and wait until the line is free for the next one."""
    stream.abort()
    await stream.wait_closed(asyncio.get_running_loop().time() + _CLOSING_S)


async def drain(stream: Stream, quiet_s: float) -> int:
    """Take what is still under way until the line is silent for ``quiet_s``; how many bytes that were.

    Raises LinkTimeout where it never is, LinkClosed.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + _LONGEST_DRAIN_S + quiet_s
    dropped = 0
    while True:
        try:
            dropped += len(await stream.read_some(loop.time() + quiet_s))
        except LinkTimeout:
            return dropped
        if loop.time() > end:
            raise LinkTimeout(f"{stream.peer}: never silent, {dropped} bytes in {_LONGEST_DRAIN_S:g} s")
