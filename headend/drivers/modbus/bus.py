"""One Modbus bus: a TCP connection or a serial line, and the slaves that share it, one request at a time.

::

    read ──> turn ──> connected ──> line quiet ──> request ──┬──> registers
                                        ^                    ├──> ModbusRefused, GatewayRefused
                                        └─── given up ───────┴──> LinkTimeout

Frames are pymodbus'. Its client is not used: it takes a late answer on an RTU line for the next one, closes a
connection that live slaves share after several requests to a dead one, and takes longer than all of ours.

- A TCP answer counts by its transaction id. An RTU answer has none, so after a request that was given up the
  line is left alone until it has been silent for the longest answer time seen; and the same slave, whose late
  answer could not be told from its next one, for as long as it had been waited for.
- Nor can a copy of the last answer, as a link below a gateway may bring, be told from the next one, unless by
  its contents: the same bytes to a request for other registers are only taken when no others follow.
- Bytes pass a filter first (`protocols.modbus.answers`): noise and other slaves' answers harm nobody.
"""

import asyncio
from typing import Final, Literal, NamedTuple

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from headend.transport.serial import open_serial
from headend.transport.stream import Stream
from headend.transport.tcp import dial_tcp
from protocols.errors import (
    GatewayRefused,
    LinkTimeout,
    ModbusRefused,
    RemoteProtocolError,
)
from protocols.modbus.answers import Awaited, find_rtu, find_tcp
from protocols.modbus.frames import EXCEPTIONS
from protocols.modbus.plan import Span
from protocols.modbus.requests import Request, read_registers
from schemas.address import LinkAddress, Scheme
from schemas.register_model import Space

#: What the meters of `schemas/profiles/modbus` are shipped with, where the address names no other.
DEFAULT_BAUD: Final = 9600
_PARITIES: Final[dict[str | None, Literal["N", "E", "O"]]] = {None: "N", "N": "N", "E": "E", "O": "O"}
#: Exceptions that a gateway sends in the place of a slave.
_GATEWAY: Final = frozenset({10, 11})
#: Different slaves that are silent one after another before the TCP connection itself is held to be dead.
_SUSPECT: Final = 3
#: Longest that a late answer is remembered as an answer time, and that a line may babble.
_LONGEST_S: Final = 30.0
#: An answer time to begin with, while no slave of the line has answered.
_UNKNOWN_S: Final = 1.0
#: Bytes to one request beyond which no answer is expected among them.
_MOST_BYTES: Final = 4096
#: Bits of one character on the line: start, eight, parity or stop, stop.
_CHARACTER: Final = 11
_CLOSING_S: Final = 5.0
#: How long at least another answer is waited for behind what may be a copy of the last one.
_COPY_S: Final = 0.05

#: Function codes of reads.
_FUNCTIONS: Final = {Space.HOLDING: 3, Space.INPUT: 4}
_PDUS: Final = DecodePDU(False)
_RTU: Final = FramerRTU(_PDUS)
_TCP: Final = FramerSocket(_PDUS)


class _Owed(NamedTuple):
    """An answer that did not come in time: what was asked, when, and how long it was waited for."""

    awaited: Awaited
    asked_at: float
    waited_s: float


class Answer(NamedTuple):
    """What an answer carries behind its head: the bytes of the registers of a read; and the seconds from the
    request to the whole answer."""

    data: bytes
    took_s: float


class Bus:
    """One bus. Times are of the loop's clock.

    Args:
        address: the line; its unit says nothing here.
        connect_s: longest wait for the connection.
        idle_s: how long the connection is kept when nobody uses it.
    """

    def __init__(self, address: LinkAddress, *, connect_s: float, idle_s: float) -> None:
        self._address = address
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._is_rtu = address.scheme is not Scheme.MODBUS_TCP
        self._stream: Stream | None = None
        self._turn = asyncio.Lock()
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._transaction = 0
        self._rest = b""  # came behind the last answer, and is no whole frame yet
        # what is remembered of the line
        baud = address.baud or DEFAULT_BAUD
        # Modbus over serial line, 2.5.1.1: 3.5 characters of silence, and no less than 1.75 ms
        self._gap_s = 0.0 if address.device is None else max(3.5 * _CHARACTER / baud, 0.00175)
        self._still_since = float("-inf")
        self._longest_s = 0.0
        self._last_given_up: _Owed | None = None
        self._owed: dict[int, _Owed] = {}
        self._silent: set[int] = set()
        self._last: tuple[bytes, bytes] | None = (
            None  # what was asked on an RTU line, and the frame that answered
        )

    @property
    def is_open(self) -> bool:
        """Whether the connection is there."""
        return self._stream is not None and self._stream.is_open

    async def take(self, address: LinkAddress) -> None:
        """Use the bus until `release`: it is connected, and stays so. Speed and parity are ``address``'s.

        Raises LinkTimeout, LinkError; then it is not used.
        """
        if not self.is_open or (address.baud, address.parity) != (self._address.baud, self._address.parity):
            async with self._turn:
                if (address.baud, address.parity) != (self._address.baud, self._address.parity):
                    self.close()  # a line on which slaves speak differently
                    self._address = address
                await self._connected()
        self._users += 1

    def release(self) -> None:
        """The connection is kept for a while, then closed, unless somebody uses it."""
        self._users -= 1
        if not self._users:
            loop = asyncio.get_running_loop()
            self._idle_since = loop.time()
            if self._idle is None and self.is_open:
                self._idle = loop.call_later(self._idle_s, self._look)

    def _look(self) -> None:
        """The timer's call. It is set once, not with each use."""
        self._idle = None
        if self._users:
            return  # the last of them sets it again
        loop = asyncio.get_running_loop()
        if loop.time() < self._idle_since + self._idle_s:
            self._idle = loop.call_at(self._idle_since + self._idle_s, self._look)
        else:
            self.close()

    def close(self) -> None:
        """Give up the connection; the next request opens it anew."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._stream is not None:
            self._stream.abort()

    async def read(self, unit: int, span: Span, answer_s: float) -> Answer:
        """The registers of ``span`` in slave ``unit``. As `ask`."""
        return await self.ask(
            unit, read_registers(_FUNCTIONS[span.space], span.address, span.count), answer_s
        )

    async def ask(self, unit: int, request: Request, answer_s: float) -> Answer:
        """The answer of slave ``unit`` to a request, waiting ``answer_s`` from the request on.

        Raises:
            ModbusRefused: the slave refuses.
            GatewayRefused: the gateway says that the slave does not answer.
            LinkTimeout: silence. LinkClosed, LinkError: the connection is gone, or does not come.
            RemoteProtocolError: what came is no answer.
        """
        async with self._turn:
            stream = await self._connected()
            if self._is_rtu:
                await self._quiet(stream, unit)
            return await self._ask(stream, unit, request, answer_s)

    # ---- connection -------------------------------------------------------------------------------

    async def _connected(self) -> Stream:
        if self._stream is not None and self._stream.is_open:
            return self._stream
        loop = asyncio.get_running_loop()
        if self._stream is not None:  # a serial line is free for us only when it is closed altogether
            await self._stream.wait_closed(loop.time() + _CLOSING_S)
        address = self._address
        if address.device is not None:
            parity = _PARITIES[address.parity]
            self._stream = await open_serial(address.device, baud=address.baud or DEFAULT_BAUD, parity=parity)
        else:
            deadline = loop.time() + self._connect_s
            self._stream = await dial_tcp(address.host or "", address.port or 0, deadline)
        self._rest = b""
        self._silent.clear()
        return self._stream

    # ---- one request ------------------------------------------------------------------------------

    async def _ask(self, stream: Stream, unit: int, request: Request, answer_s: float) -> Answer:
        self._transaction = self._transaction % 0xFFFF + 1
        awaited = Awaited(unit, request.head, request.length, self._transaction)
        framer = _RTU if self._is_rtu else _TCP
        sent = framer.encode(request.pdu, unit, self._transaction)
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        frame: bytes | None = None
        try:
            stream.write(sent)
            frame = await self._answer(stream, awaited, asked_at + answer_s)
            if self._is_rtu:
                if self._last is not None and self._last[0] != request.pdu and self._last[1] == frame:
                    frame = await self._other(stream, awaited, frame, asked_at + answer_s)
                self._last = (request.pdu, frame)
        except LinkTimeout:
            raise self._silence(unit, answer_s) from None
        except RemoteProtocolError as error:
            self.close()
            raise RemoteProtocolError(f"{self}: unit {unit}: {error.reason}") from error
        finally:
            self._still_since = loop.time()
            if frame is None:
                self._give_up(_Owed(awaited, asked_at, self._still_since - asked_at))
        took_s = self._still_since - asked_at
        self._longest_s = max(self._longest_s, min(took_s, _LONGEST_S))
        self._silent.clear()
        _, _, _, pdu = framer.decode(frame)
        if pdu[0] & 0x80:
            raise self._refusal(unit, pdu[1])
        return Answer(pdu[len(request.head) :], took_s)

    async def _answer(self, stream: Stream, awaited: Awaited, deadline: float) -> bytes:
        """The frame that answers. Raises LinkTimeout, LinkClosed, RemoteProtocolError."""
        while True:
            came = await stream.read_some(deadline)
            data = self._rest + came if self._rest else came
            if self._is_rtu:
                self._rest = data
                frame = find_rtu(awaited, data)
            else:
                frame, self._rest = find_tcp(awaited, data)
            if frame is not None:
                return frame
            if len(self._rest) > _MOST_BYTES:
                raise RemoteProtocolError("bytes without end, and no answer")

    async def _other(self, stream: Stream, awaited: Awaited, copy: bytes, deadline: float) -> bytes:
        """The answer that follows a frame which may be a copy of the last one; that frame where none follows.

        Raises LinkClosed, RemoteProtocolError.
        """
        self._rest = self._rest[self._rest.find(copy) + len(copy) :]
        frame = find_rtu(awaited, self._rest)
        if frame is not None:
            return frame
        until = asyncio.get_running_loop().time() + max(self._longest_s, _COPY_S)
        try:
            return await self._answer(stream, awaited, min(until, deadline))
        except LinkTimeout:
            return copy

    def _silence(self, unit: int, answer_s: float) -> LinkTimeout | RemoteProtocolError:
        if self._is_rtu and self._rest:
            return RemoteProtocolError(
                f"{self}: unit {unit}: {len(self._rest)} bytes came in {answer_s:g} s that are no answer: "
                "noise, or another speed or parity"
            )
        return LinkTimeout(f"{self}: unit {unit} did not answer within {answer_s:g} s")

    def _refusal(self, unit: int, code: int) -> ModbusRefused | GatewayRefused:
        reason = f"{self}: unit {unit}: {EXCEPTIONS.get(code, f'exception {code}')}"
        return GatewayRefused(reason) if code in _GATEWAY else ModbusRefused(reason, code=code)

    def _give_up(self, owed: _Owed) -> None:
        """The answer is still owed: by timeout, cancellation, or because the connection ended."""
        if self._is_rtu:  # on a new connection too: behind a gateway the line is the same
            self._owed[owed.awaited.unit] = self._last_given_up = owed
        self._silent.add(owed.awaited.unit)
        if len(self._silent) >= _SUSPECT and self._address.device is None:
            self.close()

    # ---- the line's silence -----------------------------------------------------------------------

    async def _quiet(self, stream: Stream, unit: int) -> None:
        """Wait until the line has been silent for long enough that no late answer is to be expected.

        Raises LinkTimeout for a line that never is, LinkClosed.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _LONGEST_S
        self._rest = b""
        deadline = 0.0  # first what came while nobody read, whenever that was
        while True:
            try:
                self._rest += await stream.read_some(deadline)
            except LinkTimeout:
                if deadline:
                    break
            else:
                self._still_since = loop.time()
                self._late(learns=bool(deadline))
            deadline = self._still_since + self._silence_s(unit)
            if deadline <= loop.time():
                break
            if loop.time() > end:
                raise LinkTimeout(f"{self}: somebody talks without end")
        self._owed.pop(unit, None)
        self._last_given_up = None
        self._rest = b""

    def _silence_s(self, unit: int) -> float:
        needed = self._gap_s
        if self._last_given_up is not None:
            needed = max(needed, self._longest_s or min(self._last_given_up.waited_s, _UNKNOWN_S))
        if unit in self._owed:
            needed = max(needed, self._owed[unit].waited_s)
        return needed

    def _late(self, *, learns: bool) -> None:
        """Bytes that nobody waits for: an answer that is owed says how long answers take here."""
        self._rest = self._rest[-_MOST_BYTES:]
        for unit, owed in list(self._owed.items()):
            if find_rtu(owed.awaited, self._rest) is not None:
                del self._owed[unit]
                if learns:
                    took_s = self._still_since - owed.asked_at
                    self._longest_s = max(self._longest_s, min(took_s, _LONGEST_S))

    def __str__(self) -> str:
        address = self._address
        place = address.device if address.device is not None else f"{address.host}:{address.port}"
        return f"{address.scheme}://{place}"
