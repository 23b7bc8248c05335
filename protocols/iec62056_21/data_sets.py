"""Data sets: ``address(value*unit)``, as readouts and P1 telegrams hold them.

Values may stand in several forms behind one address: ``(a*u&b*u)`` are two values, ``(a)(b)`` are two groups,
and a group at the start of a line belongs to the address before it. What is malformed is told with its place,
and reading goes on with the next line.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from protocols.dlms.obis import Obis

_NUMBER: Final = re.compile(r"[+-]?\d{1,32}(?:\.\d{1,32})?", re.ASCII)
_ADDRESS: Final = re.compile(r"[^()/!\r\n]{0,32}")
_GROUP: Final = re.compile(r"\(([^()\r\n]*)\)")
_SPACE: Final = " \t\r\n"
_REDUCED: Final = re.compile(
    r"(?P<front>(?:\d{1,3}-)?\d{1,3}:)?(?P<cd>[0-9CFLP]{1,3}\.[0-9CFLP]{1,3})(?P<e>\.\d{1,3})?"
    r"(?:[*&](?P<f>\d{1,3}))?",
    re.ASCII,
)
#: Media of value group A that a readout shows by itself.
ELECTRICITY: Final = 1
HEAT: Final = 6
_ELECTRIC_UNITS: Final = frozenset(
    "kWh Wh MWh kW W MW kvarh varh Mvarh kvar var kVAh VAh kVA VA V A Hz".lower().split()
)
_HEAT_UNITS: Final = frozenset(("kwh", "mwh", "gj", "mj"))


class Part(NamedTuple):
    """One value as written, and its unit if there is one."""

    text: str
    unit: str | None = None

    @property
    def number(self) -> Decimal | None:
        """The exact number, None where the text is none."""
        return Decimal(self.text) if _NUMBER.fullmatch(self.text) else None


class DataSet(NamedTuple):
    """One address and its groups, as written. ``offset`` counts characters of the text."""

    address: str
    groups: tuple[str, ...]
    offset: int = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        """The values of the first group."""
        return split(self.groups[0])

    def __str__(self) -> str:
        return self.address + "".join(f"({group})" for group in self.groups)


class Malformed(NamedTuple):
    """A piece of text that is no data set."""

    offset: int
    text: str
    reason: str


def split(group: str) -> tuple[Part, ...]:
    """The values of one group: parted by ``&``, each with its unit behind ``*``."""
    parts = []
    for piece in group.split("&"):
        text, star, unit = piece.partition("*")
        parts.append(Part(text, unit if star else None))
    return tuple(parts)


def parse(text: str) -> tuple[tuple[DataSet, ...], tuple[Malformed, ...]]:
    """All data sets up to a ``!`` that stands between them, and what is malformed. Never raises."""
    sets: list[DataSet] = []
    bad: list[Malformed] = []
    at = 0
    while at < len(text):
        if text[at] in _SPACE:
            at += 1
            continue
        if text[at] == "!":
            break
        found = _ADDRESS.match(text, at)
        start, address = at, found[0].strip() if found else ""
        at = found.end() if found else at
        groups = []
        while group := _GROUP.match(text, at):
            groups.append(group[1])
            at = group.end()
        if not groups:
            at = _line_end(text, start)
            bad.append(Malformed(start, text[start:at], "no data set: no value in parentheses"))
        elif not address and sets:
            last = sets[-1]
            sets[-1] = DataSet(last.address, last.groups + tuple(groups), last.offset)
        else:
            sets.append(DataSet(address, tuple(groups), start))
        if groups and at < len(text) and text[at] in "()":
            end = _line_end(text, at)
            bad.append(Malformed(at, text[at:end], "parentheses that do not match"))
            at = end
    return tuple(sets), tuple(bad)


def _line_end(text: str, start: int) -> int:
    ends = [index for mark in "\r\n" if (index := text.find(mark, start)) >= 0]
    return max(min(ends, default=len(text)), start + 1)


def medium_of(sets: Sequence[DataSet]) -> int | None:
    """What the reduced codes of one readout measure, where its units leave no doubt, else None.

    6.8 in a unit of heat is heat energy: in electricity that code is reactive and counts varh.
    """
    electric = False
    for one in sets:
        code = _REDUCED.fullmatch(one.address)
        unit = (one.parts[0].unit or "").lower()
        if code is None or code["front"] is not None or not unit:
            continue
        if code["cd"] == "6.8" and unit in _HEAT_UNITS:
            return HEAT
        electric = electric or unit in _ELECTRIC_UNITS
    return ELECTRICITY if electric else None


def obis_of(address: str, medium: int | None = None) -> Obis | None:
    """The OBIS code of an address. A reduced one has a code only where the medium is known."""
    found = _REDUCED.fullmatch(address)
    if found is None:
        return None
    front = found["front"] or ""
    if not front:
        if medium is None:
            return None
        if medium != ELECTRICITY:
            front = f"{medium}-0:"
    elif "-" not in front:
        front = f"{ELECTRICITY if medium is None else medium}-{front}"
    period = "" if found["f"] is None else f"*{found['f']}"
    try:
        return Obis.parse(f"{front}{found['cd']}{found['e'] or '.0'}{period}")
    except ValueError:
        return None
