"""CSV files that people make: UTF-8, byte order mark or not, comma, semicolon or tab, quotes, any line end.

All that is wrong is collected with its line and column, so that a file is mended in one go.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

#: A cell longer than this is a quote that was never closed.
_LONGEST_CELL: Final = 4096
#: A first line with more columns is no heading of ours, and an error for each would help nobody.
_MOST_COLUMNS: Final = 100


@dataclass(frozen=True, slots=True, order=True)
class LineError:
    """What is wrong in a file. ``line`` counts from 1, 0 is the whole file; ``column`` is its heading."""

    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else "file"
        return f"{place}, {self.column}: {self.reason}" if self.column else f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Row:
    """One record: the line it begins on, and its cells by heading, without blanks around; no empty ones.

    Cells may hold keys, so they show in no repr.
    """

    line: int
    cells: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows that could be read, the headings, and what was wrong so far."""

    rows: tuple[Row, ...]
    headings: tuple[str, ...]
    errors: tuple[LineError, ...]


def read_table(data: bytes, *, known: Collection[str], required: Collection[str]) -> Table:
    """Read a file whose first line names its columns, in any order and case.

    Unknown, doubled or missing columns and rows of another length are errors; empty lines are not.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Table((), (), (LineError(line, "", "is not UTF-8: save the file as UTF-8"),))
    heading, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    errors: list[LineError] = []
    rows: list[Row] = []
    headings: tuple[str, ...] = ()
    begins = 1
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            errors.append(LineError(begins, "", f"is not CSV: {error}"))
            break  # past a broken quote nothing can be trusted
        if record is None:
            break
        line, begins = begins, reader.line_num + 1
        cells = [cell.strip() for cell in record]
        if not any(cells):
            continue
        if not headings:
            headings = tuple(cell.lower() for cell in cells)
            errors += _check_headings(line, headings, known, required)
            if errors:
                break  # without headings every line would be wrong
        elif len(cells) != len(headings):
            errors.append(LineError(line, "", f"has {len(cells)} cells, the heading has {len(headings)}"))
        else:
            wrong = _check_cells(line, headings, cells)
            errors += wrong
            if not wrong:
                rows.append(
                    Row(line, {name: cell for name, cell in zip(headings, cells, strict=True) if cell})
                )
    if not headings and not errors:
        errors.append(LineError(0, "", "is empty: the first line names the columns"))
    return Table(tuple(rows), headings, tuple(errors))


def _check_headings(
    line: int, headings: tuple[str, ...], known: Collection[str], required: Collection[str]
) -> list[LineError]:
    if len(headings) > _MOST_COLUMNS:
        reason = f"has {len(headings)} columns, at most {_MOST_COLUMNS} are read; known: {', '.join(known)}"
        return [LineError(line, "", reason)]
    errors = [
        LineError(line, name, f"is no column; known: {', '.join(known)}")
        for name in headings
        if name not in known
    ]
    errors += [
        LineError(line, name, "is there twice")
        for name, times in sorted(Counter(headings).items())
        if times > 1
    ]
    errors += [LineError(line, name, "is missing") for name in required if name not in headings]
    return errors


def _check_cells(line: int, headings: tuple[str, ...], cells: list[str]) -> list[LineError]:
    errors = []
    for name, cell in zip(headings, cells, strict=True):
        if len(cell) > _LONGEST_CELL:
            errors.append(LineError(line, name, f"is longer than {_LONGEST_CELL} characters"))
        elif not cell.isprintable():
            errors.append(LineError(line, name, "holds control characters or a line end"))
    return errors
