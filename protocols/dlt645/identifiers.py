"""Data identifiers of DL/T 645-2007 (its annex A), as data: meaning, form, OBIS code.

An identifier has four bytes DI3 DI2 DI1 DI0; here it is written in that order, ``00-01-00-00``, on the wire
it goes DI0 first. FF in DI1 asks for all tariffs, or all phases, in one answer. OBIS codes stand here only
where both standards mean the same: not for combined and historical values, which each meter makes up as it is
configured.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError

BLOCK: Final = 0xFF
_SETTLEMENTS: Final = 12  # how many settlement days a meter keeps
_WRITTEN: Final = re.compile(r"([0-9A-Fa-f]{2})-?([0-9A-Fa-f]{2})-?([0-9A-Fa-f]{2})-?([0-9A-Fa-f]{2})")


class DataId(NamedTuple):
    """One identifier, DI3 first."""

    di3: int
    di2: int
    di1: int
    di0: int

    @classmethod
    def parse(cls, text: str) -> "DataId":
        """``00-01-00-00`` or ``00010000``. Raises LocalProtocolError for anything else."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise LocalProtocolError(f"not a DL/T 645 data identifier: {text!r} (four bytes, 00-01-00-00)")
        return cls(*(int(part, 16) for part in found.groups()))

    @classmethod
    def from_wire(cls, data: bytes) -> "DataId":
        """From four bytes, DI0 first."""
        di0, di1, di2, di3 = data
        return cls(di3, di2, di1, di0)

    def to_wire(self) -> bytes:
        """Four bytes, DI0 first, without the 0x33."""
        return bytes(reversed(self))

    @property
    def name(self) -> str:
        """``dlt645:00-01-00-00``: the name of a value that may have no OBIS code."""
        return f"dlt645:{self}"

    def __str__(self) -> str:
        return bytes(self).hex("-").upper()


class Form(Enum):
    """How bytes are read."""

    NUMBER = auto()  # BCD, low byte first
    DIGITS = auto()  # BCD that is no quantity: an address
    BITS = auto()  # binary, low byte first, told as hexadecimal digits
    TEXT = auto()  # ASCII, low byte first
    MINUTE = auto()  # YYMMDDhhmm
    SECOND = auto()  # YYMMDDhhmmss
    DATE = auto()  # YYMMDDWW
    TIME = auto()  # hhmmss


@dataclass(frozen=True, slots=True)
class Item:
    """One value: its form, length in bytes, decimals, unit, and whether its highest bit is a sign."""

    form: Form
    length: int
    decimals: int = 0
    unit: str | None = None
    signed: bool = False


def _number(length: int, decimals: int = 0, unit: str | None = None, *, signed: bool = False) -> Item:
    return Item(Form.NUMBER, length, decimals, unit, signed)


_MINUTE: Final = Item(Form.MINUTE, 5)
_SECOND: Final = Item(Form.SECOND, 6)
_COUNT: Final = _number(3)


class Meaning(NamedTuple):
    """What one identifier stands for. Several ``items`` stand behind each other (a demand and its time)."""

    di: DataId
    name: str
    items: tuple[Item, ...]
    obis: Obis | None = None

    @property
    def length(self) -> int:
        """Bytes of its value."""
        return sum(item.length for item in self.items)


class _Axis(Enum):
    """What DI1 counts; 00 is the total."""

    TARIFF = range(0x40)
    PHASE = range(1, 4)
    PHASE_OR_TOTAL = range(4)


class _Family(NamedTuple):
    """Identifiers that differ in DI1 (tariff or phase) and DI0 (how many settlements back)."""

    name: str
    items: tuple[Item, ...]
    axis: _Axis
    obis: tuple[str, ...] = ()  # by DI1; a single one with {} takes the tariff


def _energies() -> dict[tuple[int, int], _Family]:
    active, reactive, apparent = (_number(4, 2, unit) for unit in ("kWh", "kvarh", "kVAh"))
    kinds: list[tuple[int, str, Item, int | None]] = [
        # offset of DI2, name, form, OBIS group C of the total
        (0x00, "combined active energy", _number(4, 2, "kWh", signed=True), None),
        (0x01, "active energy import", active, 1),
        (0x02, "active energy export", active, 2),
        (0x03, "combined reactive energy 1", _number(4, 2, "kvarh", signed=True), None),
        (0x04, "combined reactive energy 2", _number(4, 2, "kvarh", signed=True), None),
        (0x05, "reactive energy quadrant 1", reactive, 5),
        (0x06, "reactive energy quadrant 2", reactive, 6),
        (0x07, "reactive energy quadrant 3", reactive, 7),
        (0x08, "reactive energy quadrant 4", reactive, 8),
        (0x09, "apparent energy import", apparent, 9),
        (0x0A, "apparent energy export", apparent, 10),
    ]
    demand = {"kWh": "kW", "kvarh": "kvar", "kVAh": "kVA"}
    table: dict[tuple[int, int], _Family] = {}
    for di2, name, item, group in kinds:
        obis = () if group is None else (f"1-0:{group}.8.{{}}",)
        table[0x00, di2] = _Family(name, (item,), _Axis.TARIFF, obis)
        if di2:
            largest = _number(3, 4, demand[item.unit or ""], signed=item.signed)
            obis = () if group is None else (f"1-0:{group}.6.{{}}",)
            name = "maximum demand, " + name.replace("energy ", "")
            table[0x01, di2] = _Family(name, (largest, _MINUTE), _Axis.TARIFF, obis)
    for phase, first in (("A", 0x14), ("B", 0x28), ("C", 0x3C)):
        shift = {"A": 20, "B": 40, "C": 60}[phase]
        for di2, name, item, group in kinds[1:]:
            obis = () if group is None else (f"1-0:{group + shift}.8.{{}}",)
            table[0x00, first + di2] = _Family(f"{name}, phase {phase}", (item,), _Axis.TARIFF, obis)
    return table


def _phases(*groups: int) -> tuple[str, ...]:
    return tuple(f"1-0:{group}.7.0" for group in groups)


_FAMILIES: Final[dict[tuple[int, int], _Family]] = {
    **_energies(),
    (2, 1): _Family("voltage", (_number(2, 1, "V"),), _Axis.PHASE, _phases(32, 52, 72)),
    (2, 2): _Family("current", (_number(3, 3, "A", signed=True),), _Axis.PHASE, _phases(31, 51, 71)),
    (2, 3): _Family(
        "active power", (_number(3, 4, "kW", signed=True),), _Axis.PHASE_OR_TOTAL, _phases(16, 36, 56, 76)
    ),
    (2, 4): _Family("reactive power", (_number(3, 4, "kvar", signed=True),), _Axis.PHASE_OR_TOTAL),
    (2, 5): _Family("apparent power", (_number(3, 4, "kVA", signed=True),), _Axis.PHASE_OR_TOTAL),
    (2, 6): _Family(
        "power factor", (_number(2, 3, signed=True),), _Axis.PHASE_OR_TOTAL, _phases(13, 33, 53, 73)
    ),
    (2, 7): _Family("phase angle", (_number(2, 1, "deg"),), _Axis.PHASE),
    (2, 8): _Family("voltage distortion", (_number(2, 2, "%"),), _Axis.PHASE),
    (2, 9): _Family("current distortion", (_number(2, 2, "%"),), _Axis.PHASE),
}

_SINGLES: Final[dict[str, tuple[str, tuple[Item, ...], str | None]]] = {
    "02-80-00-01": ("neutral current", (_number(3, 3, "A", signed=True),), "1-0:91.7.0"),
    "02-80-00-02": ("frequency", (_number(2, 2, "Hz"),), "1-0:14.7.0"),
    "02-80-00-03": ("active power, mean of one minute", (_number(3, 4, "kW", signed=True),), None),
    "02-80-00-04": ("active demand now", (_number(3, 4, "kW", signed=True),), None),
    "02-80-00-05": ("reactive demand now", (_number(3, 4, "kvar", signed=True),), None),
    "02-80-00-06": ("apparent demand now", (_number(3, 4, "kVA", signed=True),), None),
    "02-80-00-07": ("temperature inside the meter", (_number(2, 1, "degC", signed=True),), None),
    "02-80-00-08": ("voltage of the clock battery", (_number(2, 2, "V"),), None),
    "02-80-00-09": ("voltage of the reading battery", (_number(2, 2, "V"),), None),
    "02-80-00-0A": ("working time of the battery", (_number(4, 0, "min"),), None),
    "03-11-00-00": ("power failures", (_COUNT,), None),
    "03-30-00-00": ("programmings", (_COUNT,), None),
    "03-30-01-00": ("meter resets", (_COUNT,), None),
    "03-30-02-00": ("demand resets", (_COUNT,), None),
    "03-30-03-00": ("event resets", (_COUNT,), None),
    "03-30-04-00": ("clock settings", (_COUNT,), None),
    "03-30-0D-00": ("openings of the meter cover", (_COUNT,), None),
    "03-30-0E-00": ("openings of the terminal cover", (_COUNT,), None),
    "04-00-01-01": ("date and day of the week", (Item(Form.DATE, 4),), "1-0:0.9.2"),
    "04-00-01-02": ("time of day", (Item(Form.TIME, 3),), "1-0:0.9.1"),
    "04-00-01-03": ("demand period", (_number(1, 0, "min"),), None),
    "04-00-01-04": ("demand slip time", (_number(1, 0, "min"),), None),
    "04-00-02-05": ("public holidays", (_number(2),), None),
    "04-00-08-01": ("rest days of the week", (Item(Form.BITS, 1),), None),
    "04-00-08-02": ("day table of rest days", (_number(1),), None),
    "04-00-04-01": ("communication address", (Item(Form.DIGITS, 6),), None),
    "04-00-04-02": ("meter number", (Item(Form.DIGITS, 6),), None),
    "04-00-04-03": ("asset number", (Item(Form.TEXT, 32),), None),
    "04-00-04-04": ("rated voltage", (Item(Form.TEXT, 6),), None),
    "04-00-04-05": ("rated current", (Item(Form.TEXT, 6),), None),
    "04-00-04-06": ("largest current", (Item(Form.TEXT, 6),), None),
    "04-00-04-07": ("accuracy class, active", (Item(Form.TEXT, 4),), None),
    "04-00-04-08": ("accuracy class, reactive", (Item(Form.TEXT, 4),), None),
    "04-00-04-09": ("meter constant, active", (_number(3, 0, "1/kWh"),), None),
    "04-00-04-0A": ("meter constant, reactive", (_number(3, 0, "1/kvarh"),), None),
    "04-00-04-0B": ("meter model", (Item(Form.TEXT, 10),), None),
    "04-00-04-0C": ("date of production", (Item(Form.TEXT, 10),), None),
    "04-00-04-0D": ("protocol version", (Item(Form.TEXT, 16),), None),
    **{
        f"04-00-05-{number:02X}": (f"status word {number}", (Item(Form.BITS, 2),), None)
        for number in range(1, 8)
    },
    **{
        f"04-03-00-{number:02X}": (f"public holiday {number}: date, day table", (Item(Form.DIGITS, 4),), None)
        for number in range(1, 255)
    },
    **{
        f"03-11-00-{back:02X}": (f"power failure, {back} back: begin and end", (_SECOND, _SECOND), None)
        for back in range(1, 11)
    },
}  # fmt: skip

_FREEZES: Final = {
    0: "timed freeze",
    1: "freeze on command",
    2: "freeze at the change of time zones",
    3: "freeze at the change of day periods",
    4: "hourly freeze",
    6: "daily freeze",
}
_FREEZE_POWERS: Final = tuple(
    _number(3, 4, unit, signed=True) for unit in ("kW", "kvar") for _ in range(4)
)  # total, A, B, C of each


def meaning(di: DataId) -> Meaning | None:
    """What a single identifier stands for; None for what is not in the table, and for blocks."""
    single = _SINGLES.get(str(di))
    if single is not None:
        name, items, code = single
        return Meaning(di, name, items, None if code is None else Obis.parse(code))
    family = _FAMILIES.get((di.di3, di.di2))
    if family is not None:
        return _of_family(di, family)
    return _of_freeze(di) if di.di3 == 5 else None


def parts(di: DataId, length: int) -> tuple[Meaning, ...] | None:
    """What stands in an answer of ``length`` bytes, in order; None where ``di`` is not in the table.

    A block has as many parts as fit: meters send the tariffs that they have.
    """
    if di.di3 == 5 and 1 <= di.di1 <= 10:
        total = meaning(di)
        if total is None:
            return None
        count = max(1, length // total.length)
        return tuple(total._replace(name=f"{total.name}, {_tariff(number)}") for number in range(count))
    if di.di1 != BLOCK:
        single = meaning(di)
        return None if single is None else (single,)
    family = _FAMILIES.get((di.di3, di.di2))
    if family is None:
        return None
    found = [_of_family(di._replace(di1=number), family) for number in family.axis.value]
    known = [one for one in found if one is not None]
    return tuple(known[: max(1, length // known[0].length)]) if known else None


def _tariff(number: int) -> str:
    return f"tariff {number}" if number else "total"


def _of_family(di: DataId, family: _Family) -> Meaning | None:
    code = None
    if di.di1 not in family.axis.value:
        return None
    if family.axis is _Axis.TARIFF:
        if di.di0 > _SETTLEMENTS:
            return None
        back = f", {di.di0} settlements back" if di.di0 else ""
        if family.obis and not di.di0:
            code = Obis.parse(family.obis[0].format(di.di1))
        return Meaning(di, f"{family.name}, {_tariff(di.di1)}{back}", family.items, code)
    if di.di0:
        return None
    if family.obis:
        code = Obis.parse(family.obis[di.di1 - family.axis.value.start])
    label = f"phase {'ABC'[di.di1 - 1]}" if di.di1 else "total"
    return Meaning(di, f"{family.name}, {label}", family.items, code)


def _of_freeze(di: DataId) -> Meaning | None:
    kind = _FREEZES.get(di.di2)
    if kind is None or not 1 <= di.di0 <= 0xFE:
        return None
    name = f"{kind}, {di.di0} back"
    if di.di1 == 0:
        return Meaning(di, f"{name}: time", (_MINUTE,))
    if di.di1 <= 8:
        family = _FAMILIES[0, di.di1]
        return Meaning(di, f"{name}: {family.name}", family.items)
    if di.di1 <= 10:
        family = _FAMILIES[1, di.di1 - 8]
        return Meaning(di, f"{name}: {family.name}", family.items)
    return Meaning(di, f"{name}: powers", _FREEZE_POWERS) if di.di1 == 0x10 else None
