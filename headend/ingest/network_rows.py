"""The rows of a network import: text into nodes and links, with every error's line and column. No database.

============  ===========================================================================================
column        meaning
============  ===========================================================================================
``node``      the node's name; of a meter its asset id; required
``kind``      substation, feeder, transformer, concentrator, gateway, relay or meter; required
``parent``    the node that it stands below, here or stored; may come later in the file
``link``      what carries the link to it (`schemas.network.LinkKind`); empty: the electric network alone
``hops``      links between parent and node, relays that are no nodes included; 1 to 255, default 1
``quality``   of that link, 0 to 100
``address``   where the head-end reaches a concentrator or gateway (`schemas.address`)
``model``     its model, a name of ``schemas/profiles``
``title``     for people
============  ===========================================================================================

Empty cells say nothing: of a node that is stored they change nothing. A link that is to be told again needs
its parent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from headend.ingest.csv_table import LineError, Row, read_table
from schemas.address import LinkAddress, Scheme
from schemas.models import load_any
from schemas.network import BEST_QUALITY, LONGEST_NAME, MOST_HOPS, STATIONS, LinkKind, NodeKind

T = TypeVar("T")

COLUMNS: Final = ("node", "kind", "parent", "link", "hops", "quality", "address", "model", "title")
_NAMES: Final = ("node", "parent", "title")
_OF_A_LINK: Final = ("link", "hops", "quality")
_OF_A_STATION: Final = ("address", "model")


@dataclass(frozen=True, slots=True)
class NetworkLine:
    """One node of the file, and the link it hangs on; None: the cell is empty."""

    line: int
    code: str
    kind: NodeKind
    parent: str | None
    link: LinkKind | None
    hops: int | None
    quality: int | None
    address: str | None
    model: str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """The nodes of a file, all names that it has (of wrong lines too), and what is wrong with it."""

    lines: tuple[NetworkLine, ...]
    codes: frozenset[str]
    errors: tuple[LineError, ...]


def read_network(data: bytes, profile_folders: tuple[Path, ...] = ()) -> NetworkFile:
    """The nodes of a file, and all that is wrong with it. Lines with errors are not among the nodes."""
    table = read_table(data, known=COLUMNS, required=COLUMNS[:2])
    errors = list(table.errors)
    lines = []
    for row in table.rows:
        line = _line(row, profile_folders, errors)
        if line is not None:
            lines.append(line)
    errors += _doubles(table.rows)
    codes = frozenset(row.cells["node"] for row in table.rows if "node" in row.cells)
    return NetworkFile(tuple(lines), codes, tuple(sorted(errors)))


def _line(row: Row, folders: tuple[Path, ...], errors: list[LineError]) -> NetworkLine | None:
    cells = row.cells
    before = len(errors)

    def wrong(column: str, reason: str) -> None:
        errors.append(LineError(row.line, column, reason))

    def convert(column: str, made: Callable[[str], T]) -> T | None:
        if column not in cells:
            return None
        try:
            return made(cells[column])
        except ValueError as error:
            wrong(column, str(error))
            return None

    for column in COLUMNS[:2]:
        if column not in cells:
            wrong(column, "is empty")
    for column in _NAMES:
        if len(cells.get(column, "")) > LONGEST_NAME:
            wrong(column, f"is longer than {LONGEST_NAME} characters")
    kind = convert("kind", _kind)
    link = convert("link", _link)
    hops = convert("hops", lambda text: _number(text, 1, MOST_HOPS))
    quality = convert("quality", lambda text: _number(text, 0, BEST_QUALITY))
    address = convert("address", _address)
    model = convert("model", lambda text: load_any(text, folders).name)
    if "parent" in cells and cells["parent"] == cells.get("node"):
        wrong("parent", "is the node itself")
    if "parent" not in cells:
        for column in _OF_A_LINK:
            if column in cells:
                wrong(column, "speaks of a link, and the parent that it leads to is empty")
    if kind is not None and kind not in STATIONS:
        reason = "belongs to concentrators and gateways"
        reason += "; a meter's is imported with the meter" if kind is NodeKind.METER else ""
        for column in _OF_A_STATION:
            if column in cells:
                wrong(column, reason)
    if kind is None or len(errors) > before:
        return None
    return NetworkLine(
        row.line,
        cells["node"],
        kind,
        cells.get("parent"),
        link,
        hops,
        quality,
        address,
        model,
        cells.get("title"),
    )


_KINDS: Final = {str(kind): kind for kind in NodeKind}
_LINKS: Final = {str(kind): kind for kind in LinkKind}


def _kind(text: str) -> NodeKind:
    if text not in _KINDS:
        raise ValueError(f"must be one of {', '.join(_KINDS)}")
    return _KINDS[text]


def _link(text: str) -> LinkKind:
    if text not in _LINKS:
        raise ValueError(f"must be one of {', '.join(_LINKS)}")
    return _LINKS[text]


def _number(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 3 or not least <= int(text) <= most:
        raise ValueError(f"must be a whole number of {least}..{most}")
    return int(text)


def _address(text: str) -> str:
    address = LinkAddress.parse(text)
    if address.scheme is Scheme.VIA:
        raise ValueError("a concentrator or gateway is reached by an address of its own, not via another")
    return str(address)


def _doubles(rows: Sequence[Row]) -> list[LineError]:
    """Nodes that are there twice; among all rows, wrong ones too."""
    errors = []
    seen: dict[str, int] = {}
    for row in rows:
        code = row.cells.get("node")
        if code is not None and seen.setdefault(code, row.line) != row.line:
            errors.append(LineError(row.line, "node", f"is the same as in line {seen[code]}"))
    return errors
