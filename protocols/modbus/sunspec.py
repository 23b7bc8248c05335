"""SunSpec: a meter that tells its own register map. Sans-I/O, as generators.

`discover` and `poll` yield the reads they need and are sent the words, or None where the meter refused; they
return what they found. At the base stands "SunS", behind it a chain of models, each an id, a length and that
many registers; id 0xFFFF ends it. Model 1 names the device, 201 to 204 are meters with integers and scale
factors, 211 to 214 the same with floats. The tables are SunSpec's own (Apache-2.0), in ``data/``.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.modbus import values
from protocols.modbus.plan import Span
from protocols.modbus.values import RegisterValue
from schemas.reading import Channel, ChannelLayout
from schemas.register_model import MAX_READ, RegisterType, Space

#: Where devices keep the mark, as the SunSpec specification lists it, the usual place first.
BASES: Final = (40000, 0, 50000)
METERS: Final = (201, 202, 203, 204, 211, 212, 213, 214)
COMMON: Final = 1

_MARK: Final = b"SunS"
_END: Final = 0xFFFF
#: A chain longer than this, or one that leaves the address space, is no chain.
_MAX_MODELS: Final = 128
_ADDRESSES: Final = 0x1_0000
_MAX_SCALE: Final = 10

#: Accumulators are 0 where they are not implemented; the others have a pattern of their own.
_MISSING: Final = {"int16": 0x8000, "uint16": 0xFFFF, "bitfield32": 0xFFFF_FFFF}
_TYPES: Final = {
    "int16": RegisterType.S16, "uint16": RegisterType.U16, "acc32": RegisterType.U32,
    "bitfield32": RegisterType.BITS32, "float32": RegisterType.F32,
}  # fmt: skip

#: Points with a certain OBIS code. Phases follow their total, with 20, 40 and 60 added to group C.
_TOTALS: Final = {
    "W": 16, "VA": 9, "TotWhImp": 1, "TotWhExp": 2, "TotVAhImp": 9, "TotVAhExp": 10, "TotVArhImpQ1": 5,
    "TotVArhImpQ2": 6, "TotVArhExpQ3": 7, "TotVArhExpQ4": 8, "Hz": 14,
}  # fmt: skip
_OF_PHASE: Final = {"PhV": 12, "A": 11}
_PHASES: Final = {
    f"{ph}{phase}": step for ph in ("ph", "Ph") for phase, step in (("A", 20), ("B", 40), ("C", 60))
}
_QUANTITIES: Final = {"TotWhImp": "active_import", "TotWhExp": "active_export"}

#: Columns of the load curve. Scale factors may change while a meter runs, so the columns have a scaler of
#: their own, and no modulus.
LAYOUT: Final = ChannelLayout(
    (
        Channel("active_import", "1-0:1.8.0*255", -6, "Wh"),
        Channel("active_export", "1-0:2.8.0*255", -6, "Wh"),
        None,
        None,
    )
)


class Point(NamedTuple):
    """One point of a model; ``offset`` counts registers from the model's id."""

    name: str
    offset: int
    type: str
    size: int
    scale: str | None
    unit: str | None
    mandatory: bool
    obis: str | None
    quantity: str | None


class Definition(NamedTuple):
    """A model as SunSpec defines it; ``registers`` counts id and length too."""

    number: int
    label: str
    registers: int
    points: tuple[Point, ...]


class Model(NamedTuple):
    """A model found in a device: ``address`` of its id; ``length`` as told, without id and length."""

    number: int
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class Device:
    """What `discover` found. ``common`` are the points of model 1, ``notes`` what was odd."""

    base: int
    models: tuple[Model, ...]
    common: tuple[RegisterValue, ...]
    notes: tuple[str, ...] = ()

    @property
    def meters(self) -> tuple[Model, ...]:
        """The models that hold a meter's values."""
        return tuple(one for one in self.models if one.number in METERS)

    def text(self, name: str) -> str | None:
        """A text of model 1: Mn (maker), Md (model), Vr (version), SN (serial number)."""
        return next((one.text for one in self.common if one.name == name), None)


Words = Sequence[int] | None


@lru_cache(maxsize=1)
def definitions() -> dict[int, Definition]:
    """The models we know, by number."""
    table = json.loads((files("protocols.modbus") / "data/sunspec_meter_models.json").read_text("utf-8"))
    return {
        int(number): Definition(
            int(number), one["label"], one["registers"], tuple(_point(point) for point in one["points"])
        )
        for number, one in table["models"].items()
    }


def discover(bases: Sequence[int] = BASES) -> Generator[Span, Words, Device]:
    """Find the mark and walk the chain of models.

    Raises:
        RemoteProtocolError: no base has the mark, a read was answered short, or the chain does not end.
    """
    for base in bases:
        found = yield Span(Space.HOLDING, base, 2)
        if found is not None and values.join(_checked(found, 2)) == _MARK:
            break
    else:
        raise RemoteProtocolError(f"no SunSpec mark at {', '.join(map(str, bases))}")
    models: list[Model] = []
    notes: list[str] = []
    address = base + 2
    while True:
        if len(models) == _MAX_MODELS:
            raise RemoteProtocolError(f"more than {_MAX_MODELS} SunSpec models: the chain does not end")
        if address + 2 > _ADDRESSES:
            raise RemoteProtocolError("the chain of SunSpec models leaves the address space")
        header = yield Span(Space.HOLDING, address, 2)
        if header is None:
            notes.append(f"the chain is not ended: the meter refuses to tell what stands at {address}")
            break
        number, length = _checked(header, 2)
        if number == _END:
            break
        if address + 2 + length > _ADDRESSES:
            raise RemoteProtocolError(f"SunSpec model {number} at {address} leaves the address space")
        models.append(Model(number, address, length))
        notes += _length_notes(models[-1])
        address += 2 + length
    common: tuple[RegisterValue, ...] = ()
    for model in models:
        if model.number == COMMON:
            common = yield from poll(model)
            break
    return Device(base, tuple(models), common, tuple(notes))


def poll(model: Model) -> Generator[Span, Words, tuple[RegisterValue, ...]]:
    """Read a model and decode it. No read splits a value, so that a value is of one moment.

    Raises:
        RemoteProtocolError: the meter refused, answered short, or another model stands there now: the map has
            changed and must be discovered anew. Or the model is not one of ours.
    """
    definition = definitions().get(model.number)
    if definition is None:
        raise RemoteProtocolError(f"SunSpec model {model.number} is not known here")
    words: list[int] = []
    total = min(definition.registers, 2 + model.length)
    while len(words) < total:
        count = _whole(definition, len(words), min(total, len(words) + MAX_READ)) - len(words)
        answer = yield Span(Space.HOLDING, model.address + len(words), count)
        if answer is None:
            raise RemoteProtocolError(f"the meter refuses SunSpec model {model.number} at {model.address}")
        words += _checked(answer, count)
    if words[0] != model.number or words[1] != model.length:
        raise RemoteProtocolError(
            f"model {words[0]} of {words[1]} registers stands where {model.number} of {model.length} was"
        )
    return decode_model(model.number, words)


def decode_model(number: int, words: Sequence[int]) -> tuple[RegisterValue, ...]:
    """A model's values from its words, id and length first. Points beyond the words are not told.

    Raises:
        RemoteProtocolError: not one of our models, or a word is no 16-bit number.
    """
    definition = definitions().get(number)
    if definition is None:
        raise RemoteProtocolError(f"SunSpec model {number} is not known here")
    scales = {
        point.name: words[point.offset]
        for point in definition.points
        if point.type == "sunssf" and point.offset < len(words)
    }
    return tuple(
        _value(point, words[point.offset : point.offset + point.size], scales)
        for point in definition.points
        if point.type not in ("sunssf", "pad") and point.offset + point.size <= len(words)
    )


def _value(point: Point, words: Sequence[int], scales: dict[str, int]) -> RegisterValue:
    def told(reason: str) -> RegisterValue:
        return RegisterValue(
            point.name, None, None, None, point.unit, point.obis, point.quantity, False, reason
        )

    data = values.join(words)
    if point.type == "string":
        try:
            text = values.text(data)
        except RemoteProtocolError as error:
            return told(error.reason)
        return told("empty") if text is None else RegisterValue(point.name, text=text)
    kind = _TYPES[point.type]
    if kind.is_float:
        number = values.float_decimal(data)
        if number is None:
            return told("not implemented by the meter")
        return RegisterValue(
            point.name, None, values.scaled(number, 0), None, point.unit, point.obis, point.quantity, True
        )
    pattern = int.from_bytes(data, "big")
    # A mandatory accumulator at 0 is a new meter; an optional one has no other way to say "not there".
    if pattern == _MISSING.get(point.type) or (point.type == "acc32" and not pattern and not point.mandatory):
        return told("not implemented by the meter")
    power = 0
    if point.scale is not None:
        sent = scales.get(point.scale)
        if sent is None or sent == _MISSING["int16"]:
            return told("its scale is not implemented")
        power = sent - (sent >> 15 << 16)
        if not -_MAX_SCALE <= power <= _MAX_SCALE:
            return told(f"its scale is {power}")
    raw = values.raw_integer(kind, data)
    if raw is None:  # no SunSpec type of ours is BCD
        return told("not a number")
    return RegisterValue(
        point.name, raw, values.scaled(raw, power), None, point.unit, point.obis, point.quantity
    )


def _point(row: Any) -> Point:
    name, offset, kind, size, scale, unit, mandatory = row
    phase = next((step for tail, step in _PHASES.items() if name.endswith(tail)), 0)
    total = name[:-3] if phase else name
    group = (_OF_PHASE if phase else {}).get(total, _TOTALS.get(total))
    reading = 8 if name.startswith("Tot") else 7
    obis = None if group is None else f"1-0:{group + phase}.{reading}.0*255"
    # "PF" says nothing of whether 1 or 100 is meant; "Pct" does
    symbol = {"Pct": "%", "PF": None}.get(unit, unit)
    return Point(name, offset, kind, size, scale, symbol, mandatory, obis, _QUANTITIES.get(name))


def _whole(definition: Definition, start: int, end: int) -> int:
    """The last place up to ``end`` where no value is split."""
    for point in definition.points:
        if start < point.offset < end < point.offset + point.size:
            return point.offset
    return end


def _checked(words: Sequence[int], count: int) -> Sequence[int]:
    if len(words) != count:
        raise RemoteProtocolError(f"asked for {count} registers, got {len(words)}")
    values.join(words)  # refuses what is no 16-bit number
    return words


def _length_notes(model: Model) -> list[str]:
    definition = definitions().get(model.number)
    if definition is None or model.length == definition.registers - 2:
        return []
    if model.number == COMMON and model.length == definition.registers - 3:
        return []  # model 1 without its pad is as good
    return [
        f"model {model.number} has {model.length} registers where SunSpec defines {definition.registers - 2}"
    ]
