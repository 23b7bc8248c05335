"""Modbus slaves on one line, sans-I/O: RTU frames, as on RS-485 and behind a transparent gateway, or TCP.

Each slave answers what its register map has, and silence is the answer of one that is dead, that is struck by
a fault, that restarts, or that does not exist. What can be written is what takes images, where a slave does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from concentrator_sim.faults import Faults
from concentrator_sim.image import is_away
from concentrator_sim.instant import Instant
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.modbus_image import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ImageFiles
from concentrator_sim.registers import Map
from protocols.errors import RemoteProtocolError
from protocols.modbus import requests
from protocols.modbus.frames import MAX_RTU, Kind, ModbusFrame, crc16, parse_rtu, parse_tcp
from schemas.register_model import Space

_SPACES: Final = {3: Space.HOLDING, 4: Space.INPUT}
_ILLEGAL_FUNCTION: Final = 1
_NO_ANSWER: Final = 11
_TCP_HEADER: Final = 6
_MAX_TCP: Final = 260


@dataclass(frozen=True, slots=True)
class Slave:
    """A meter on the line. A ``dead`` one never answers; one without ``files`` takes no images."""

    meter: SimulatedMeter
    registers: Map
    faults: Faults
    dead: bool = False
    files: ImageFiles | None = None


class Bus:
    """The slaves of one line by unit. ``clock`` gives Unix seconds."""

    def __init__(self, slaves: Mapping[int, Slave], clock: Callable[[], int]) -> None:
        self._slaves = slaves
        self._clock = clock

    def answer(self, request: ModbusFrame) -> bytes | None:
        """The PDU that answers a request; None is silence."""
        slave, now = self._slaves.get(request.unit), self._clock()
        if slave is None or slave.dead or slave.faults.is_down(now) or slave.faults.is_half_open(now):
            return None
        if is_away(slave.meter, now):
            return None
        pdu = self._pdu(slave, request, now)
        arrived = slave.faults.deliveries(pdu, now)
        # When it comes, and its check sum, are of the line's own making: so late is lost, and twice is once.
        return arrived[0].data if arrived and not arrived[0].delay_s and arrived[0].data else None

    def _pdu(self, slave: Slave, request: ModbusFrame, now: int) -> bytes:
        space = _SPACES.get(request.function)
        if slave.files is not None and (written := _of_files(slave.files, request)) is not None:
            return written
        if space is None or request.kind is not Kind.REQUEST:
            return bytes((request.function | 0x80, _ILLEGAL_FUNCTION))
        shows = Instant(slave.meter.consumption, slave.meter.number, slave.faults.clock(now))
        words = slave.registers.read(space, request.address or 0, request.count or 0, shows)
        if words is None:
            return bytes((request.function | 0x80, ILLEGAL_ADDRESS))
        return bytes((request.function, 2 * len(words))) + b"".join(word.to_bytes(2, "big") for word in words)


def _of_files(files: ImageFiles, request: ModbusFrame) -> bytes | None:
    """What answers a write, or anything of files; None to other requests."""
    function, refusal = request.function, bytes((request.function | 0x80,))
    if function == requests.WRITE_REGISTERS and request.kind is Kind.REQUEST:
        address, count = request.address or 0, request.count or 0
        code = files.write(address, request.data) if len(request.data) == 2 * count else ILLEGAL_VALUE
        echo = address.to_bytes(2, "big") + count.to_bytes(2, "big")
        return bytes((function,)) + echo if code is None else refusal + bytes((code,))
    if function not in (requests.READ_FILE, requests.WRITE_FILE):
        return None
    try:
        parts = requests.file_parts(function, request.data)
    except RemoteProtocolError:
        return refusal + bytes((ILLEGAL_VALUE,))
    told = []
    for part in parts:
        answer = files.write_file(part) if function == requests.WRITE_FILE else files.read_file(part)
        if isinstance(answer, int):
            return refusal + bytes((answer,))
        told.append(answer or b"")
    if function == requests.WRITE_FILE:
        return bytes((function, len(request.data))) + request.data
    return requests.file_answer(tuple(told))


class RtuLine:
    """RTU frames: what does not verify is passed over, as noise is."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting = b""

    def receive(self, data: bytes) -> bytes:
        """See `concentrator_sim.links.Line`."""
        self._waiting = (self._waiting + data)[-MAX_RTU:]
        out, at = b"", 0
        while at < len(self._waiting):
            found = parse_rtu(self._waiting, at)
            if found is None:
                at += 1
                continue
            request, at = found
            self._waiting, at = self._waiting[at:], 0
            pdu = self._bus.answer(request)
            if pdu is not None:
                frame = bytes((request.unit,)) + pdu
                out += frame + crc16(frame).to_bytes(2, "little")
        return out


class TcpLine:
    """Modbus TCP. A gateway whose slave is silent says so with exception 11."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting = b""

    def receive(self, data: bytes) -> bytes:
        """See `concentrator_sim.links.Line`."""
        self._waiting += data
        out = b""
        while len(self._waiting) >= _TCP_HEADER:
            length = int.from_bytes(self._waiting[4:6], "big")
            if not 2 <= length <= _MAX_TCP - _TCP_HEADER:
                raise RemoteProtocolError(f"length {length} is none of Modbus TCP")
            if len(self._waiting) < _TCP_HEADER + length:
                break
            request, end = parse_tcp(self._waiting)
            self._waiting = self._waiting[end:]
            pdu = self._bus.answer(request)
            if pdu is None:
                pdu = bytes((request.function | 0x80, _NO_ANSWER))
            head = (request.transaction or 0).to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big")
            out += head + bytes((request.unit,)) + pdu
        return out
