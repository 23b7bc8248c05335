"""Modbus slaves for tests: pymodbus' own server as the foreign peer, and one that misbehaves as it is told.

The first holds registers and answers right. It cannot be made late: it stamps an answer with the transaction
and unit of the request that came last. So lateness, noise and silence come from `Rogue`, by the standard.
"""

import asyncio
import contextlib
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from protocols.modbus.frames import crc16
from schemas.register_model import MapRegister, RegisterModel, WordOrder


def words_of(register: MapRegister, value: Decimal) -> list[int]:
    """``value`` as the meter would hold it, by struct alone."""
    raw = value.scaleb(-register.scaler)
    kinds = {"f32": ">f", "u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "u64": ">Q", "s64": ">q"}
    kind = kinds[register.type]
    data = struct.pack(kind, float(raw) if kind == ">f" else int(raw))
    words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
    return words[::-1] if register.order is WordOrder.LITTLE else words


def image(model: RegisterModel, values: Mapping[str, Decimal]) -> dict[int, int]:
    """Measuring registers by address: ``values`` by their names in the model, and 0 in all others."""
    found = {}
    for name, register in model.registers.items():
        if register.group in ("energy", "live"):
            words = words_of(register, values.get(name, Decimal(0)))
            found |= {register.at + place: word for place, word in enumerate(words)}
    return found


def slave(unit: int, registers: Mapping[int, int], *, holes: bool = False) -> SimDevice:
    """One slave. Between its registers there are others that hold 0, unless it has ``holes``."""
    data = []
    last = -1
    for address in sorted(registers):
        gap = address - last - 1
        if not holes and 0 < gap <= 125 and last >= 0:
            data.append(SimData(last + 1, count=gap, values=0, datatype=DataType.REGISTERS))
        data.append(SimData(address, values=registers[address], datatype=DataType.REGISTERS))
        last = address
    return SimDevice(id=unit, simdata=data)


def _silent_for_others(slaves: Sequence[SimDevice], *, is_rtu: bool) -> Callable[[bool, bytes], bytes]:
    """The server answers for units that it has not, `ignore_missing_devices` or not: it shall be silent."""
    units = {one.id for one in slaves}

    def trace(is_sent: bool, data: bytes) -> bytes:
        return data if not is_sent or data[0 if is_rtu else 6] in units else b""

    return trace


@contextlib.asynccontextmanager
async def serving_tcp(
    *slaves: SimDevice, framer: FramerType = FramerType.SOCKET
) -> AsyncIterator[ModbusTcpServer]:
    """pymodbus' server on a free port: ``port_of(server)``; units that are not there are silent."""
    server = ModbusTcpServer(
        list(slaves),
        framer=framer,
        address=("127.0.0.1", 0),
        ignore_missing_devices=True,
        trace_packet=_silent_for_others(slaves, is_rtu=framer is FramerType.RTU),
    )
    await server.serve_forever(background=True)
    try:
        yield server
    finally:
        await server.shutdown()


def port_of(server: ModbusTcpServer | asyncio.Server) -> int:
    """The port that it listens on."""
    found = server.sockets if isinstance(server, asyncio.Server) else server.transport.sockets
    return found[0].getsockname()[1]


@contextlib.asynccontextmanager
async def line() -> AsyncIterator[tuple[str, str]]:
    """A serial line: two devices, what is written to one is read from the other."""
    loop = asyncio.get_running_loop()
    ends = [os.openpty(), os.openpty()]
    for master, device in ends:
        tty.setraw(device)
        os.set_blocking(master, False)

    def forward(source: int, sink: int) -> None:
        with contextlib.suppress(OSError):
            os.write(sink, os.read(source, 4096))

    (one, _), (other, _) = ends
    loop.add_reader(one, forward, one, other)
    loop.add_reader(other, forward, other, one)
    try:
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        loop.remove_reader(one)
        loop.remove_reader(other)
        for end in ends:
            os.close(end[0])
            os.close(end[1])


@contextlib.asynccontextmanager
async def serving_line(*slaves: SimDevice) -> AsyncIterator[str]:
    """pymodbus' serial server at one end of a line; the device of the other."""
    async with line() as (ours, theirs):
        server = ModbusSerialServer(
            list(slaves),
            framer=FramerType.RTU,
            port=theirs,
            baudrate=9600,
            ignore_missing_devices=True,
            trace_packet=_silent_for_others(slaves, is_rtu=True),
        )
        await server.serve_forever(background=True)
        try:
            yield ours
        finally:
            await server.shutdown()


class Request:
    """A read as `Rogue` got it, and the answers that fit it."""

    def __init__(self, frame: bytes, *, is_rtu: bool) -> None:
        self._is_rtu = is_rtu
        self._head = b"" if is_rtu else frame[:2]
        pdu = frame[:-2] if is_rtu else frame[6:]
        self.unit, self.function, self.address, self.count = struct.unpack(">BBHH", pdu)

    def answer(self, words: list[int] | None = None, *, unit: int | None = None) -> bytes:
        """The answer with these registers; none given: each holds its own address."""
        held = range(self.address, self.address + self.count) if words is None else words
        data = struct.pack(f">{len(held)}H", *held)
        return self.framed(bytes((self.function, len(data))) + data, unit=unit)

    def refusal(self, code: int) -> bytes:
        """An exception."""
        return self.framed(bytes((self.function | 0x80, code)))

    def framed(self, pdu: bytes, *, unit: int | None = None) -> bytes:
        """A frame with any PDU."""
        body = bytes((self.unit if unit is None else unit,)) + pdu
        if self._is_rtu:
            return body + crc16(body).to_bytes(2, "little")
        return self._head + b"\0\0" + len(body).to_bytes(2, "big") + body


Behaviour = Callable[[Request, Callable[[bytes], None]], None]


class Rogue:
    """A slave, or a whole bus, that does with each request what ``behaviour`` says; it is given the request
    and a function that sends bytes, now or later."""

    def __init__(self, behaviour: Behaviour, *, is_rtu: bool) -> None:
        self.behaviour = behaviour
        self.is_rtu = is_rtu
        self.requests: list[Request] = []
        self.connections = 0
        self.accepted = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.accepted += 1
        self._writers.append(writer)
        try:
            while True:
                frame = await reader.readexactly(8 if self.is_rtu else 12)
                request = Request(frame, is_rtu=self.is_rtu)
                self.requests.append(request)
                self.behaviour(request, writer.write)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    def hang_up(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.close()

    @contextlib.asynccontextmanager
    async def serving_tcp(self) -> AsyncIterator[int]:
        """On a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield port_of(server)
        finally:
            server.close()
            self.hang_up()
            await asyncio.sleep(0)
            await server.wait_closed()

    @contextlib.asynccontextmanager
    async def serving_line(self) -> AsyncIterator[str]:
        """At one end of a serial line; the device of the other."""
        loop = asyncio.get_running_loop()
        async with line() as (ours, theirs):
            end = os.open(theirs, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            buffer = bytearray()

            def come() -> None:
                buffer.extend(os.read(end, 4096))
                while len(buffer) >= 8:
                    request = Request(bytes(buffer[:8]), is_rtu=True)
                    del buffer[:8]
                    self.requests.append(request)
                    self.behaviour(request, lambda data: os.write(end, data) and None)

            loop.add_reader(end, come)
            try:
                yield ours
            finally:
                loop.remove_reader(end)
                os.close(end)
