"""Finds the values in COSEM data: which OBIS code they belong to, and how they are scaled.

A meter may push its values in any of these shapes, nested in arrays and structures as it likes:

- structure (OBIS, value) or (OBIS, value, scaler_unit);
- one flat structure of OBIS, value, OBIS, value ..., with or without a scaler_unit behind each value;
- structure (attribute descriptor, value), or (class id, OBIS, attribute, value) in one;
- a bare list, which only the maker's profile can explain (`schemas.model.PushList`).

What stands in a push list without a code is handed out as `Unnamed`. Null is missing, never zero.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from protocols.dlms import units
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import ScalerUnit, exact
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

if TYPE_CHECKING:  # a model brings pydantic, and a frame is decoded without one
    from schemas.model import MeterModel, Position, PushList

_CONTAINERS: Final = frozenset({DataType.ARRAY, DataType.STRUCTURE, DataType.COMPACT_ARRAY})
_FLOATS: Final = frozenset({DataType.FLOAT32, DataType.FLOAT64})
_LOGICAL_NAME: Final = 1  # the attribute that is the object's own name
_LAST_MEDIUM: Final = 15  # value group A is 0 to 15: below any printable character, so texts are no codes

Plain = Decimal | str | CosemDateTime | None


class Value(NamedTuple):
    """One value and its code.

    ``value``: Decimal for numbers (scaled as ``scaled`` says: "frame", "profile" or None: raw), text for
    strings (hexadecimal where not printable), CosemDateTime for times, None where the meter sent null.
    ``unit`` is None where nobody tells one. An object that only tells its own name has the value "".
    ``from_float``: the number came as a binary float, and is its shortest decimal.
    """

    obis: Obis
    value: Plain
    unit: str | None = None
    scaled: str | None = None
    from_float: bool = False


class Unnamed(NamedTuple):
    """A value without an OBIS code at place ``at`` of the list, counted from 0."""

    at: int
    value: Plain


class Values(NamedTuple):
    """What was found in one message, in the order in which it stands there. ``push_list`` is the name of the
    profile's push list that explained it."""

    values: tuple[Value, ...]
    unnamed: tuple[Unnamed, ...] = ()
    push_list: str | None = None


def find(body: Data, model: "MeterModel | None" = None) -> Values:
    """All values in ``body``, the data of a notification or of an answer. Never raises.

    A push list of ``model`` that fits names the places; its scaling serves values whose frame tells none.
    """
    finder = _Finder(model)
    items = elements(body)
    pushed = _push_list(body, items, model)
    if body.type not in _CONTAINERS:
        finder.without_code(0, body)
    elif pushed is None:
        finder.container(body, top=True)
    else:
        finder.push_list(pushed, items)
    return Values(tuple(finder.values), tuple(finder.unnamed), None if pushed is None else pushed.name)


def named(obis: Obis, data: Data, model: "MeterModel | None" = None) -> Value | None:
    """``data`` as the value of ``obis``, scaled where the model knows how; None for arrays and structures."""
    return None if data.type in _CONTAINERS else _Finder(model).value(obis, data, None)


def elements(data: Data) -> tuple[Data, ...]:
    """The elements of an array, structure or compact array, else nothing."""
    if data.type is DataType.COMPACT_ARRAY:
        expanded: tuple[Data, ...] = data.value.elements
        return expanded
    return tuple(data.value) if data.type in _CONTAINERS else ()


def plain(data: Data) -> Plain:
    """A simple value without its type: number, text, time or None. See `Value`."""
    match data.type:
        case DataType.NULL | DataType.DONT_CARE:
            return None
        case DataType.BOOLEAN:
            return Decimal(int(data.value))
        case DataType.OCTET_STRING:
            return _octets(data.value)
        case DataType.DATE_TIME:
            return _moment(data.value) or data.value.hex()
        case DataType.DATE | DataType.TIME:
            hexadecimal: str = data.value.hex()
            return hexadecimal
        case DataType.VISIBLE_STRING | DataType.UTF8_STRING | DataType.BIT_STRING:
            return str(data.value)
        case DataType.FLOAT32 | DataType.FLOAT64:
            number: Decimal = data.value.decimal()
            return number
        case _:
            return Decimal(data.value)


def written(value: Plain, *, separator: str = "T") -> str | None:
    """As the decode tool prints it: decimal string, text, or ISO 8601 time with the offset the meter told."""
    if value is None:
        return None
    if isinstance(value, CosemDateTime):
        date, _, time = str(value).partition(" ")
        return f"{date}{separator}{time}"
    return f"{value:f}" if isinstance(value, Decimal) else value


def utc(moment: CosemDateTime, model: "MeterModel | None" = None) -> dt.datetime | None:
    """The moment in UTC, by its own deviation or by the model's clock; None where neither tells."""
    clock = None if model is None else model.clock
    try:
        if clock is None:
            return moment.to_utc()
        if clock.deviation == "unspecified":
            moment = CosemDateTime(moment.date, moment.time, None, moment.status)
        return moment.to_utc(
            zone=clock.zone,
            follows_dst=clock.follows_dst,
            inverted_deviation=clock.deviation == "inverted",
        )
    except RemoteProtocolError:
        return None


class _Finder:
    def __init__(self, model: "MeterModel | None") -> None:
        self._model = model
        self.values: list[Value] = []
        self.unnamed: list[Unnamed] = []

    def value(self, obis: Obis, data: Data, scaler: ScalerUnit | None) -> Value:
        """One value, scaled by what its frame or else the model tells."""
        found = self._scaled(obis, data, scaler)
        return found._replace(from_float=True) if data.type in _FLOATS else found

    def _scaled(self, obis: Obis, data: Data, scaler: ScalerUnit | None) -> Value:
        if not _is_number(data):
            return Value(obis, plain(data))
        if scaler is not None:
            register = exact(data, scaler)
            if register is not None:
                return Value(obis, register.value, register.unit, "frame")
        known = None if self._model is None else self._model.scaling_of(str(obis))
        if known is not None:
            return _by_profile(obis, data, known.scaler, known.unit)
        return Value(obis, plain(data))

    def container(self, data: Data, *, top: bool = False) -> None:
        items = elements(data)
        if data.type is DataType.STRUCTURE and self._named(items):
            return
        if data.type is DataType.STRUCTURE and sum(map(_is_code, items)) > 1:
            self._flat(items, range(len(items)))
            return
        for at, item in enumerate(items):
            if item.type in _CONTAINERS:
                self.container(item)
            elif top:
                self.without_code(at, item)

    def push_list(self, pushed: "PushList", items: Sequence[Data]) -> None:
        """What a push list of the profile explains: single places, then the rest by its shape."""
        places = {
            position.at % len(items): position
            for position in pushed.positions
            if -len(items) <= position.at < len(items)
        }
        rest = [at for at in range(pushed.rest_from, len(items)) if at not in places]
        by_rest = pushed.rest != "none"
        for at, item in enumerate(items):
            if at in places:
                self._position(places[at], item)
            elif not (by_rest and at in rest) and item.type not in _CONTAINERS:
                self.without_code(at, item)
            if by_rest and rest and at == rest[0]:
                self._rest(pushed, items, rest)

    def _position(self, position: "Position", item: Data) -> None:
        obis = Obis.parse(position.obis)
        if item.type in (DataType.NULL, DataType.DONT_CARE) or item.type in _CONTAINERS:
            return
        if _is_number(item) and (position.unit is not None or position.scaler):
            self.values.append(_by_profile(obis, item, position.scaler, position.unit))
        else:
            self.values.append(self.value(obis, item, None))

    def _rest(self, pushed: "PushList", items: Sequence[Data], rest: list[int]) -> None:
        if pushed.rest in ("pairs", "triples"):
            self._flat(items, rest)
            return
        for at in rest:
            if items[at].type in _CONTAINERS:
                self.container(items[at])
            else:
                self.without_code(at, items[at])

    def _named(self, items: Sequence[Data]) -> bool:
        """Take a structure that is one value with its code; False where it is not."""
        match items:
            case [name, value] if _is_code(name) and value.type not in _CONTAINERS:
                self._add(name, value)
            case [name, value, scaler] if (
                _is_code(name) and value.type not in _CONTAINERS and _scaler(scaler) is not None
            ):
                self._add(name, value, _scaler(scaler))
            case [Data(DataType.STRUCTURE, (class_id, name, attribute)), value] if _is_descriptor(
                class_id, name, attribute
            ):
                self._attribute(name, attribute, value)
            case [class_id, name, attribute, value] if (
                # The fourth field of a capture object is a long-unsigned: such a definition is no value.
                _is_descriptor(class_id, name, attribute) and value.type is not DataType.LONG_UNSIGNED
            ):
                self._attribute(name, attribute, value)
            case _:
                return False
        return True

    def _attribute(self, name: Data, attribute: Data, value: Data) -> None:
        if value.type in _CONTAINERS:
            return  # a whole list under one name: the tree shows it
        if attribute.value == _LOGICAL_NAME:
            self.values.append(Value(Obis.from_bytes(name.value), ""))
        else:
            self._add(name, value)

    def _flat(self, items: Sequence[Data], places: Iterable[int]) -> None:
        """OBIS, value and perhaps scaler_unit, one after the other."""
        places = list(places)
        index = 0
        while index < len(places):
            item = items[places[index]]
            following = items[places[index + 1]] if index + 1 < len(places) else None
            if _is_code(item) and following is not None and following.type not in _CONTAINERS:
                scaler = _scaler(items[places[index + 2]]) if index + 2 < len(places) else None
                self._add(item, following, scaler)
                index += 2 if scaler is None else 3
                continue
            if item.type in _CONTAINERS:
                self.container(item)
            else:
                self.without_code(places[index], item)
            index += 1

    def _add(self, name: Data, value: Data, scaler: ScalerUnit | None = None) -> None:
        self.values.append(self.value(Obis.from_bytes(name.value), value, scaler))

    def without_code(self, at: int, item: Data) -> None:
        value = plain(item)
        if value is not None:
            self.unnamed.append(Unnamed(at, value))


def _push_list(body: Data, items: Sequence[Data], model: "MeterModel | None") -> "PushList | None":
    if model is None or not items:
        return None
    container = "structure" if body.type is DataType.STRUCTURE else "array"
    first = items[0]
    text = None if first.type in _CONTAINERS else plain(first)
    return model.push_list(container, len(items), text if isinstance(text, str) else None)


def _by_profile(obis: Obis, data: Data, scaler: int, unit: str | None) -> Value:
    number = plain(data)
    if isinstance(number, Decimal) and number.is_finite():
        number = units.scale(number, scaler)
    return Value(obis, number, unit, "profile")


def _is_number(data: Data) -> bool:
    """Whether a scaler can apply: no text, time, boolean or BCD byte, and no NaN."""
    if data.type in _CONTAINERS:
        return False
    try:
        register = exact(data)
    except RemoteProtocolError:
        return False
    return register is not None and register.value.is_finite()


def _is_code(data: Data) -> bool:
    octets = data.value
    return data.type is DataType.OCTET_STRING and len(octets) == 6 and octets[0] <= _LAST_MEDIUM


def _is_descriptor(class_id: Data, name: Data, attribute: Data) -> bool:
    return (
        class_id.type is DataType.LONG_UNSIGNED
        and _is_code(name)
        and attribute.type in (DataType.INTEGER, DataType.UNSIGNED)
    )


def _scaler(data: Data) -> ScalerUnit | None:
    try:
        return ScalerUnit.decode(data)
    except RemoteProtocolError:
        return None


def _octets(octets: bytes) -> str | CosemDateTime:
    text = _text(octets)
    if text is not None:
        return text
    return (_moment(octets) if len(octets) == 12 else None) or octets.hex()


def _text(octets: bytes) -> str | None:
    return octets.decode("ascii") if all(0x20 <= octet < 0x7F for octet in octets) else None


def _moment(octets: bytes) -> CosemDateTime | None:
    try:
        return CosemDateTime.from_bytes(octets)
    except RemoteProtocolError:
        return None
