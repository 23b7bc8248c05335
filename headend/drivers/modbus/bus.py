"""One Modbus bus: a TCP connection or a serial line, and the slaves that share it, one request at a time.

::

    read ──> turn ──> connected ──> line quiet ──> request ──┬──> registers
                                        ^                    ├──> ModbusRefused, GatewayRefused
                                        └─── given up ───────┴──> LinkTimeout

The framing is pymodbus'; what it must not do alone is kept here:

- A TCP answer counts by its transaction id. An RTU answer has none, so after a request that was given up the
  line is left alone until it has been silent for the longest answer time seen; and the same slave, whose late
  answer could not be told from its next one, for as long as it had been waited for.
- Bytes pass a filter first (`protocols.modbus.answers`): noise and other slaves' answers harm nobody.
- A silent slave does not cost the others their connection, as the library's own count of silences would.
"""

import asyncio
import logging
import os
import socket
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusException

from protocols.errors import (
    GatewayRefused,
    LinkClosed,
    LinkError,
    LinkTimeout,
    ModbusRefused,
    RemoteProtocolError,
)
from protocols.modbus.answers import Read, find_rtu, is_sound_tcp
from protocols.modbus.frames import EXCEPTIONS
from protocols.modbus.plan import Span
from schemas.address import LinkAddress, Scheme
from schemas.failure import Stage
from schemas.register_model import Space

# What happens is told by our errors, once; a peer that talks nonsense must not fill the log meanwhile.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

#: What the meters of `schemas/profiles/modbus` are shipped with, where the address names no other.
DEFAULT_BAUD: Final = 9600
DEFAULT_PARITY: Final = "N"
#: Exceptions that a gateway sends in the place of a slave.
_GATEWAY: Final = frozenset({10, 11})
#: Different slaves that are silent one after another before the TCP connection itself is held to be dead.
_SUSPECT: Final = 3
#: Longest that a late answer is remembered as an answer time, and that a line may babble.
_LONGEST_S: Final = 30.0
#: An answer time to begin with, while no slave of the line has answered.
_UNKNOWN_S: Final = 1.0
#: Longer than any deadline of ours: the library's own never ends a wait.
_NEVER_S: Final = 86_400.0
#: Bytes to one request beyond which no answer is expected among them, and what the library may keep.
_MOST_BYTES: Final = 4096
_MOST_KEPT: Final = 65_536
#: Bits of one character on the line: start, eight, parity or stop, stop.
_CHARACTER: Final = 11


class _Owed(NamedTuple):
    """An answer that did not come in time: what was asked, when, and how long it was waited for."""

    read: Read
    asked_at: float
    waited_s: float


class Answer(NamedTuple):
    """The registers of one read, and the seconds from the request to the whole answer."""

    registers: list[int]
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
        self._client: ModbusBaseClient | None = None
        self._turn = asyncio.Lock()
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None
        # the request that is out
        self._read: Read | None = None
        self._scope: asyncio.Timeout | None = None
        self._heard = 0
        self._failure: LinkError | RemoteProtocolError | None = None
        # what is remembered of the line
        self._gap_s = 0.0
        self._still_since = float("-inf")
        self._longest_s = 0.0
        self._last_given_up: _Owed | None = None
        self._owed: dict[int, _Owed] = {}
        self._silent: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether the connection is there."""
        return self._client is not None and self._client.connected

    @asynccontextmanager
    async def used(self, address: LinkAddress) -> AsyncIterator[None]:
        """The connection is open inside, and kept for a while behind. Speed and parity are ``address``'s.

        Raises LinkTimeout, LinkError.
        """
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            async with self._turn:
                if (address.baud, address.parity) != (self._address.baud, self._address.parity):
                    self.close()  # a line on which slaves speak differently
                    self._address = address
                await self._connected()
            yield
        finally:
            self._users -= 1
            if not self._users and self.is_open:
                self._idle = asyncio.get_running_loop().call_later(self._idle_s, self.close)

    def close(self) -> None:
        """Give up the connection; the next request opens it anew."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, unit: int, span: Span, answer_s: float) -> Answer:
        """The registers of ``span`` in slave ``unit``, waiting ``answer_s`` from the request on.

        Raises:
            ModbusRefused: the slave refuses.
            GatewayRefused: the gateway says that the slave does not answer.
            LinkTimeout: silence. LinkClosed, LinkError: the connection is gone, or does not come.
            RemoteProtocolError: what came is no answer.
        """
        async with self._turn:
            client = await self._connected()
            if self._is_rtu:
                await self._quiet(unit)
            return await self._ask(client, unit, span, answer_s)

    # ---- connection -------------------------------------------------------------------------------

    async def _connected(self) -> ModbusBaseClient:
        if self._client is not None and self._client.connected:
            return self._client
        self.close()
        client = self._new_client()
        try:
            async with asyncio.timeout(self._connect_s):
                # what `connect` calls; but that keeps the reason of a failure to itself
                client.ctx.transport, _ = await client.ctx.call_create()
        except TimeoutError as error:
            raise LinkTimeout(
                f"{self}: not connected within {self._connect_s:g} s", stage=Stage.CONNECT
            ) from error
        except socket.gaierror as error:
            raise LinkError(f"{self}: no such host ({error.strerror})", stage=Stage.DNS) from error
        except (OSError, termios.error, ValueError) as error:  # the last two by pyserial, of speed and parity
            number = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(number) if number else str(error)
            raise LinkError(f"{self}: {reason}", stage=Stage.CONNECT) from error
        client.ctx.max_buffer_size = _MOST_KEPT
        self._client = client
        self._silent.clear()
        return client

    def _new_client(self) -> ModbusBaseClient:
        address = self._address
        if address.scheme is Scheme.MODBUS_RTU:
            baud = address.baud or DEFAULT_BAUD
            # Modbus over serial line, 2.5.1.1: 3.5 characters of silence, and no less than 1.75 ms
            self._gap_s = max(3.5 * _CHARACTER / baud, 0.00175)
            return AsyncModbusSerialClient(
                address.device or "",
                baudrate=baud,
                parity=address.parity or DEFAULT_PARITY,
                retries=0,
                reconnect_delay=0,
                timeout=_NEVER_S,
                trace_packet=self._packet,
                trace_connect=self._connection,
            )
        return AsyncModbusTcpClient(
            address.host or "",
            port=address.port or 0,
            framer=FramerType.RTU if self._is_rtu else FramerType.SOCKET,
            retries=0,
            reconnect_delay=0,
            timeout=_NEVER_S,
            trace_packet=self._packet,
            trace_connect=self._connection,
        )

    def _connection(self, is_there: bool) -> None:
        """The library's call: the connection came, or was closed by the other end."""
        if not is_there:
            self._fail(LinkClosed(f"{self}: closed by the other end"))

    def _fail(self, error: LinkError | RemoteProtocolError) -> None:
        """End the request that is out, at once."""
        if self._scope is not None and self._failure is None:
            self._failure = error
            self._scope.reschedule(0.0)

    # ---- one request ------------------------------------------------------------------------------

    async def _ask(self, client: ModbusBaseClient, unit: int, span: Span, answer_s: float) -> Answer:
        read, function = (
            (client.read_input_registers, 4)
            if span.space is Space.INPUT
            else (client.read_holding_registers, 3)
        )
        self._read = Read(unit, function, span.count)
        self._heard, self._failure = 0, None
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        answered = False
        try:
            async with asyncio.timeout(answer_s) as self._scope:
                answer = await read(span.address, count=span.count, device_id=unit)
            answered = True
        except TimeoutError as error:
            raise self._why(self._silence(unit, answer_s)) from error
        except ModbusException as error:
            raise self._why(LinkClosed(f"{self}: {error.string}")) from error
        finally:
            owed = _Owed(self._read, asked_at, answer_s)
            self._read = self._scope = None
            self._still_since = loop.time()
            if answered:
                self._longest_s = max(self._longest_s, min(self._still_since - asked_at, _LONGEST_S))
                self._silent.clear()
            else:
                self._give_up(owed)
        if answer.isError():
            raise self._refusal(unit, answer.exception_code)
        return Answer(list(answer.registers), self._still_since - asked_at)

    def _why(self, else_this: LinkError | RemoteProtocolError) -> LinkError | RemoteProtocolError:
        """Why the request that was out has no answer."""
        return else_this if self._failure is None else self._failure

    def _silence(self, unit: int, answer_s: float) -> LinkTimeout | RemoteProtocolError:
        if self._heard:
            return RemoteProtocolError(
                f"{self}: {self._heard} bytes came within {answer_s:g} s that are no answer of unit {unit}: "
                "noise, or another speed or parity"
            )
        return LinkTimeout(f"{self}: unit {unit} did not answer within {answer_s:g} s")

    def _refusal(self, unit: int, code: int) -> ModbusRefused | GatewayRefused:
        reason = f"{self}: unit {unit}: {EXCEPTIONS.get(code, f'exception {code}')}"
        return GatewayRefused(reason) if code in _GATEWAY else ModbusRefused(reason, code=code)

    def _give_up(self, owed: _Owed) -> None:
        """The answer is still owed: by timeout, cancellation, or because the connection ended."""
        if self._failure is not None:
            self.close()
        if self._is_rtu:  # on a new connection too: behind a gateway the line is the same
            self._owed[owed.read.unit] = self._last_given_up = owed
        self._silent.add(owed.read.unit)
        if len(self._silent) >= _SUSPECT and self._address.scheme is not Scheme.MODBUS_RTU:
            self.close()

    # ---- the line's silence -----------------------------------------------------------------------

    async def _quiet(self, unit: int) -> None:
        """Wait until the line has been silent for long enough that no late answer is to be expected.

        Raises LinkError for a line that never is.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _LONGEST_S
        while (rest := self._still_since + self._silence_s(unit) - loop.time()) > 0:
            if loop.time() > end:
                raise LinkError(f"{self}: somebody talks without end", stage=Stage.TIMEOUT)
            await asyncio.sleep(rest)
        self._owed.pop(unit, None)
        self._last_given_up = None

    def _silence_s(self, unit: int) -> float:
        needed = self._gap_s
        if self._last_given_up is not None:
            needed = max(needed, self._longest_s or min(self._last_given_up.waited_s, _UNKNOWN_S))
        if unit in self._owed:
            needed = max(needed, self._owed[unit].waited_s)
        return needed

    # ---- bytes ------------------------------------------------------------------------------------

    def _packet(self, is_sent: bool, data: bytes) -> bytes:
        """The library's call: what it sends, and all that came since; it goes on with what is returned."""
        if is_sent:
            if self._read is not None and not self._is_rtu:
                self._read = self._read._replace(transaction=int.from_bytes(data[:2], "big"))
            return data
        self._still_since = asyncio.get_running_loop().time()
        self._heard = len(data)
        if self._read is None:
            self._late(data)
            return b""
        if len(data) > _MOST_BYTES:
            self._fail(RemoteProtocolError(f"{self}: bytes without end"))
            return b""
        if self._is_rtu:
            return find_rtu(self._read, data) or b""
        if is_sound_tcp(self._read, data):
            return data
        self._fail(RemoteProtocolError(f"{self}: what came is no Modbus TCP: {data[:16].hex()}"))
        return b""

    def _late(self, data: bytes) -> None:
        """Bytes that nobody waits for: an answer that is owed says how long answers take here."""
        for unit, owed in list(self._owed.items()):
            if find_rtu(owed.read, data) is not None:
                took_s = self._still_since - owed.asked_at
                self._longest_s = max(self._longest_s, min(took_s, _LONGEST_S))
                del self._owed[unit]

    def __str__(self) -> str:
        address = self._address
        place = address.device if address.device is not None else f"{address.host}:{address.port}"
        return f"{address.scheme}://{place}"
