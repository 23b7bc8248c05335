"""The register map of a simulated Modbus meter, laid out by the head-end's own models: values into words."""

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, Protocol

from concentrator_sim.instant import Instant
from protocols.modbus import sunspec
from protocols.modbus.values import turned
from schemas.register_model import MapRegister, RegisterModel, RegisterType, Space, WordOrder

Words = Sequence[int]

_FLOATS: Final = {RegisterType.F32: ">f", RegisterType.F64: ">d"}
_SIGNED: Final = frozenset({RegisterType.S16, RegisterType.S32, RegisterType.S64})
_BCD: Final = frozenset({RegisterType.BCD16, RegisterType.BCD32})


class Map(Protocol):
    """Registers of one meter."""

    def read(self, space: Space, address: int, count: int, now: Instant) -> Words | None:
        """The words, None where the meter has no such address, or answers no read so long."""
        ...


class ModelMap:
    """The map of a register model. Addresses between registers that a read may bridge are there, and zero.
    ``shows`` gives the bytes of registers, by name, that are another's affair; None: they
    are the map's own."""

    def __init__(
        self,
        model: RegisterModel,
        serial: str,
        shows: Callable[[str], bytes | None] = lambda name: None,
    ) -> None:
        self._model = model
        self._serial = serial
        self._shows = shows
        self._registers = sorted(model.registers.items(), key=lambda item: (item[1].space, item[1].at))
        self._stretches: list[tuple[Space, int, int]] = []
        for _, one in self._registers:
            last = self._stretches[-1] if self._stretches else None
            if last is not None and last[0] is one.space and one.at - last[2] <= model.reads.max_gap:
                self._stretches[-1] = (one.space, last[1], max(last[2], one.at + one.width))
            else:
                self._stretches.append((one.space, one.at, one.at + one.width))

    def read(self, space: Space, address: int, count: int, now: Instant) -> Words | None:
        """See `Map`."""
        end, reads = address + count, self._model.reads
        if not 0 < count <= reads.max_words:
            return None
        if not any(
            known is space and first <= address and end <= last for known, first, last in self._stretches
        ):
            return None
        if any(one.space is space and one.first < end and address <= one.last for one in reads.forbidden):
            return None
        words = [0] * count
        for name, one in self._registers:
            if one.space is not space or one.at >= end or one.at + one.width <= address:
                continue
            for place, word in enumerate(self._words(name, one, now), one.at - address):
                if 0 <= place < count:
                    words[place] = word
        return words

    def _words(self, name: str, one: MapRegister, now: Instant) -> Words:
        if (shown := self._shows(name)) is not None:
            return _split(shown)
        if one.type is RegisterType.TEXT:
            return _split(self._serial.encode()[: 2 * one.width].ljust(2 * one.width, b"\0"))
        value = None if one.obis is None else now.value(one.obis)
        if name == "serial_number":
            value = Decimal(int(self._serial[-7:]))
        data = encode(one, value or Decimal(0))
        return _split(data if one.order is WordOrder.BIG else turned(data))


def encode(register: MapRegister, value: Decimal) -> bytes:
    """The bytes of ``value``, high byte first: rounded down to what the register can tell, a counter rolled
    over where it is full. A further power of ten in a scale register is 0."""
    scaled = value.scaleb(-register.scaler)
    if register.type in _FLOATS:
        return struct.pack(_FLOATS[register.type], scaled)
    raw, size = int(scaled.to_integral_value("ROUND_FLOOR")), 2 * register.width
    if register.type in _BCD:
        return bytes.fromhex(f"{raw % 10 ** (2 * size):0{2 * size}d}")
    if register.type in _SIGNED:
        bound = 1 << (8 * size - 1)
        return max(-bound, min(raw, bound - 1)).to_bytes(size, "big", signed=True)
    return (raw % (1 << 8 * size)).to_bytes(size, "big")


class SunSpecMap:
    """A meter that tells its own map: model 1, then 203 (three phases, integers with scale factors)."""

    def __init__(self, serial: str) -> None:
        self._serial = serial

    def read(self, space: Space, address: int, count: int, now: Instant) -> Words | None:
        """See `Map`."""
        if space is not Space.HOLDING or not 0 < count <= _MOST:
            return None
        words = [*_split(b"SunS"), *self._common(), *_meter(now), _END, 0]
        first = address - sunspec.BASES[0]
        return words[first : first + count] if first >= 0 and first + count <= len(words) else None

    def _common(self) -> list[int]:
        texts = {"Mn": "Headend", "Md": "Simulated meter", "Vr": "1", "SN": self._serial}
        definition = sunspec.definitions()[sunspec.COMMON]
        words = [definition.number, definition.registers - 2] + [0] * (definition.registers - 2)
        for point in definition.points:
            if point.name in texts:
                data = texts[point.name].encode().ljust(2 * point.size, b"\0")
                words[point.offset : point.offset + point.size] = _split(data)
        return words


_MOST: Final = 125
_END: Final = 0xFFFF
_THREE_PHASES: Final = 203
_SCALES: Final = {"A_SF": -2, "V_SF": -1, "Hz_SF": -2, "PF_SF": -2}
_NOT_THERE: Final = {"int16": b"\x80\0", "uint16": b"\xff\xff", "acc32": bytes(4), "bitfield32": b"\xff" * 4}


def _meter(now: Instant) -> list[int]:
    definition = sunspec.definitions()[_THREE_PHASES]
    words = [definition.number, definition.registers - 2] + [0] * (definition.registers - 2)
    for point in definition.points[2:]:
        words[point.offset : point.offset + point.size] = _split(_point(point, now))
    return words


def _point(point: sunspec.Point, now: Instant) -> bytes:
    if point.type == "sunssf":
        return _SCALES.get(point.name, 0).to_bytes(2, "big", signed=True)
    value = None if point.obis is None else now.value(point.obis)
    if value is None:
        return _NOT_THERE.get(point.type, bytes(2 * point.size))
    raw = int(value.scaleb(-_SCALES.get(point.scale or "", 0)))
    if point.type == "acc32":
        return (raw % 2**32).to_bytes(4, "big")
    return raw.to_bytes(2 * point.size, "big", signed=point.type == "int16")


def _split(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
