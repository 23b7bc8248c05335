"""A meter model's registers, planned once and decoded as often as the meter is read."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.modbus import values
from protocols.modbus.plan import Span, plan
from protocols.modbus.values import RegisterValue
from schemas.register_model import Group, MapRegister, RegisterModel, RegisterType, WordOrder

#: A scale register holds a power of ten; beyond this it is rubbish (SunSpec's bounds).
_MAX_SCALE: Final = 10
_SCALE_MISSING: Final = -0x8000
_FLOATS: Final = (RegisterType.F32, RegisterType.F64)


class _Plain(NamedTuple):
    """What there is to know of a float32 without further ado; the long way gives the same."""

    power: int
    unit: str | None
    obis: str | None
    quantity: str | None


class _Place(NamedTuple):
    """Where a register stands in the answers: ``block`` counts the blocks, ``at`` and ``end`` bytes."""

    name: str
    register: MapRegister
    block: int
    at: int
    end: int
    missing: tuple[int, ...]
    scale: "_Place | None"
    plain: "_Plain | None"


class Readout:
    """The reads that fetch some registers of a model, and the decoding of their answers."""

    def __init__(self, model: RegisterModel, names: Iterable[str] | None = None) -> None:
        """``names`` of the registers wanted; None for all that carry measured values.

        Raises:
            LocalProtocolError: a name that the model does not have, or a register that is never read.
        """
        self._model = model
        wanted = tuple(model.named(Group.ENERGY, Group.LIVE) if names is None else names)
        needed = dict.fromkeys(wanted)
        for name in wanted:
            register = model.registers.get(name)
            if register is None:
                raise LocalProtocolError(f"model {model.name} has no register {name!r}")
            if register.group is Group.COMMAND:
                raise LocalProtocolError(f"register {name!r} of {model.name} is never read")
            if register.scale_register is not None:
                needed[register.scale_register] = None
        self.blocks = plan((_span(model.registers[name]) for name in needed), model.reads)
        self._places = tuple(self._place(name) for name in wanted)
        #: For each name the number of the block that holds its value.
        self.block_of = tuple(place.block for place in self._places)

    def decode(self, answers: Mapping[Span, Sequence[int] | None]) -> tuple[RegisterValue, ...]:
        """The values, in the order of the names. A block that is absent or None was not read.

        Raises:
            RemoteProtocolError: an answer is not as long as its block, or a word is no 16-bit number.
        """
        read: list[bytes | None] = []
        for block in self.blocks:
            words = answers.get(block)
            read.append(None if words is None else values.join(words))
        return self.decode_blocks(read)

    def decode_blocks(self, read: Sequence[bytes | None]) -> tuple[RegisterValue, ...]:
        """As `decode`, of the bytes of the registers, in the order of ``blocks``."""
        for block, data in zip(self.blocks, read, strict=True):
            if data is not None and len(data) != 2 * block.count:
                raise RemoteProtocolError(
                    f"asked for {block.count} registers at {block.address}, got {len(data) / 2:g}"
                )
        found = []
        for place in self._places:
            data = read[place.block]
            if place.plain is not None and data is not None:  # nine registers of ten
                number = values.float_decimal(data[place.at : place.end])
                if number is not None:
                    power, unit, obis, quantity = place.plain
                    exact = values.scaled(number, power) if power else number
                    found.append(RegisterValue(place.name, None, exact, None, unit, obis, quantity, True))
                    continue
            found.append(_value(place, read))
        return tuple(found)

    def integers(self, read: Sequence[bytes | None], scalers: Sequence[int]) -> list[int] | None:
        """The values as integers of columns with these powers of ten, in the order of the names; None where
        one is no plain float that fits: then `decode_blocks` tells what it is."""
        found = []
        for place, scaler in zip(self._places, scalers, strict=True):
            data = read[place.block]
            if place.plain is None or data is None:
                return None
            number = values.float_decimal(data[place.at : place.end])
            raw = None if number is None else values.moved_integer(number, place.plain.power - scaler)
            if raw is None:
                return None
            found.append(raw)
        return found

    def _place(self, name: str) -> _Place:
        register = self._model.registers[name]
        span = _span(register)
        number, block = next(
            (number, one)
            for number, one in enumerate(self.blocks)
            if one.space is span.space and one.address <= span.address and span.end <= one.end
        )
        at = 2 * (span.address - block.address)
        return _Place(
            name,
            register,
            number,
            at,
            at + 2 * span.count,
            self._model.missing.get(register.type, ()),
            None if register.scale_register is None else self._place(register.scale_register),
            self._plain(register),
        )

    def _plain(self, register: MapRegister) -> _Plain | None:
        if (
            register.type is not RegisterType.F32
            or register.scale_register is not None
            or register.order is not WordOrder.BIG
            or register.type in self._model.missing
        ):
            return None
        return _Plain(register.scaler, register.unit, register.obis, register.quantity)


def _value(place: _Place, read: Sequence[bytes | None]) -> RegisterValue:
    data = read[place.block]
    register = place.register
    if data is None:
        return _told(place.name, register, reason="not read")
    power = register.scaler
    if place.scale is not None:
        scale = read[place.scale.block]
        if scale is None:
            return _told(place.name, register, reason="its scale was not read")
        more = int.from_bytes(scale[place.scale.at : place.scale.end], "big", signed=True)
        if more == _SCALE_MISSING:
            return _told(place.name, register, reason="its scale is not implemented")
        if not -_MAX_SCALE <= more <= _MAX_SCALE:
            return _told(place.name, register, reason=f"its scale is {more}")
        power += more
    part = data[place.at : place.end]
    if register.order is WordOrder.LITTLE:
        part = values.turned(part)
    return _decode(place.name, register, part, place.missing, power)


def decode_register(
    name: str, register: MapRegister, words: Sequence[int], missing: Sequence[int] = ()
) -> RegisterValue:
    """One register's words. ``missing``: raw values, as unsigned numbers, that stand for "not there".

    Raises:
        RemoteProtocolError: the wrong number of words, or a word is no 16-bit number.
    """
    if len(words) != register.width:
        raise RemoteProtocolError(f"register {name} has {register.width} words, not {len(words)}")
    return _decode(name, register, values.join(words, register.order), missing, register.scaler)


def _decode(
    name: str, register: MapRegister, data: bytes, missing: Sequence[int], power: int
) -> RegisterValue:
    """``data`` has the high word first."""
    kind = register.type
    if missing and int.from_bytes(data, "big") in missing:
        return _told(name, register, reason="not implemented by the meter")
    if kind in _FLOATS:
        number = values.float_decimal(data)
        if number is None:
            return _told(name, register, reason="not a number")
        return _told(name, register, value=values.scaled(number, power), rounded=True)
    if kind is RegisterType.TEXT:
        try:
            found = values.text(data)
        except RemoteProtocolError as error:
            return _told(name, register, reason=error.reason)
        return _told(name, register, text=found, reason=None if found else "empty")
    raw = values.raw_integer(kind, data)
    if raw is None:
        return _told(name, register, reason=f"{data.hex()} has digits above 9")
    label = values.labelled(raw, register.labels, bits=values.is_bits(kind)) if register.labels else None
    return _told(name, register, raw=raw, value=values.scaled(raw, power), text=label)


def _told(
    name: str,
    register: MapRegister,
    *,
    raw: int | None = None,
    value: Decimal | None = None,
    text: str | None = None,
    rounded: bool = False,
    reason: str | None = None,
) -> RegisterValue:
    return RegisterValue(
        name, raw, value, text, register.unit, register.obis, register.quantity, rounded, reason
    )


def _span(register: MapRegister) -> Span:
    return Span(register.space, register.at, register.width)
