"""Import of register readings that a person typed in or took with a hand-held unit, from CSV.

==============  ==========================================================================================
column          meaning
==============  ==========================================================================================
``asset_id``    the meter; required
``obis``        any written form of an OBIS code; required
``time``        when it was read, ISO 8601 with its offset from UTC, as ``2026-11-22T07:30+01:00``; required
``value``       decimal with a point, no separators of thousands; required
``unit``        symbol of a DLMS unit, ``k`` or ``M`` before it allowed: stored exactly in the plain unit
==============  ==========================================================================================

All of the file is stored or nothing. A reading that is stored already has no effect; another value for the
same register and moment is kept in the inbox, as for every source.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from headend.ingest.csv_table import LineError, Row, read_table
from headend.store import meters
from headend.store.sql import Connection
from headend.store.writer import Written, write
from protocols.dlms import units
from protocols.dlms.obis import Obis
from schemas.reading import Quality, RegisterRead, registers_only

COLUMNS: Final = ("asset_id", "obis", "time", "value", "unit")
#: Attribute 2 of a register is its value.
_VALUE_ATTRIBUTE: Final = 2
_DECIMAL: Final = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Before this nobody read meters by OBIS codes: a typing error.
_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
_PREFIXES: Final = {"k": 3, "M": 6}
_PREFIXED: Final = frozenset({"W", "VA", "var", "Wh", "VAh", "varh", "V", "A"})


@dataclass(frozen=True, slots=True)
class ReadingImport:
    """What an import did. With errors nothing was stored and ``written`` is None."""

    written: Written | None = None
    errors: tuple[LineError, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    line: int
    asset_id: str
    obis: str
    read_us: int
    value: Decimal
    unit: str | None


async def import_readings(
    connection: Connection, data: bytes, *, quality: Quality, now: datetime, source: str
) -> ReadingImport:
    """Import a file as ``quality`` MANUAL or HANDHELD; nothing in it may be later than ``now`` (aware).

    ``source`` is kept with the batch, as ``file readings.csv by anna``. Raises ValueError for another
    quality.
    """
    if quality not in (Quality.MANUAL, Quality.HANDHELD):
        raise ValueError("readings are imported as MANUAL or HANDHELD")
    lines, errors = read_readings(data, now=now)
    found = await meters.find(connection, asset_ids=sorted({line.asset_id for line in lines}))
    numbers = {meter.asset_id: meter.meter_id for meter in found}
    errors += (
        LineError(line.line, "asset_id", f"there is no meter {line.asset_id}")
        for line in lines
        if line.asset_id not in numbers
    )
    if errors:
        return ReadingImport(errors=tuple(sorted(errors)))
    registers = tuple(
        RegisterRead(
            meter_id=numbers[line.asset_id],
            obis=line.obis,
            attribute=_VALUE_ATTRIBUTE,
            read_us=line.read_us,
            meter_us=None,
            value=line.value,
            text=None,
            unit=line.unit,
            quality=quality,
        )
        for line in lines
    )
    return ReadingImport(await write(connection, registers_only(registers, source=source)))


def read_readings(data: bytes, *, now: datetime) -> tuple[list[_Line], list[LineError]]:
    """The readings of a file, and all that is wrong with it. Lines with errors are not among the readings."""
    table = read_table(data, known=COLUMNS, required=COLUMNS[:4])
    errors = list(table.errors)
    lines: list[_Line] = []
    seen: dict[tuple[str, str, int], int] = {}
    for row in table.rows:
        wrong = _wrong(row, now)
        errors += wrong
        if wrong:
            continue
        line = _line(row)
        first = seen.setdefault((line.asset_id, line.obis, line.read_us), line.line)
        if first != line.line:
            errors.append(LineError(line.line, "time", f"the same register and moment as in line {first}"))
        lines.append(line)
    return lines, sorted(errors)


def _line(row: Row) -> _Line:
    cells = row.cells
    exponent, unit = _unit(cells.get("unit"))
    return _Line(
        line=row.line,
        asset_id=cells["asset_id"],
        obis=str(Obis.parse(cells["obis"])),
        read_us=(_time(cells["time"]) - _EPOCH) // timedelta(microseconds=1),
        value=units.scale(Decimal(cells["value"]), exponent),
        unit=unit,
    )


def _wrong(row: Row, now: datetime) -> list[LineError]:
    """What is wrong with the cells of a row."""
    errors = [LineError(row.line, column, "is empty") for column in COLUMNS[:4] if column not in row.cells]
    checks = {
        "obis": Obis.parse,
        "time": lambda text: _check_time(_time(text), now),
        "value": _check_value,
        "unit": _unit,
    }
    for column, check in checks.items():
        if column in row.cells:
            try:
                check(row.cells[column])
            except ValueError as error:
                errors.append(LineError(row.line, column, str(error)))
    return errors


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is no ISO 8601 time, as 2026-11-22T07:30+01:00") from None
    if moment.tzinfo is None:
        raise ValueError("has no offset from UTC: write one, as 2026-11-22T07:30+01:00 or ...Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no time of ours") from None


def _check_time(moment: datetime, now: datetime) -> None:
    if not _EARLIEST <= moment <= now:
        raise ValueError(f"is before {_EARLIEST.year} or in the future")


def _check_value(text: str) -> None:
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError(
            "is no decimal number: digits with a point, no separators of thousands, as 12345.678"
        )


def _unit(text: str | None) -> tuple[int, str | None]:
    """Power of ten and plain symbol of a unit; (0, None) for none."""
    if text is None:
        return 0, None
    if text[0] in _PREFIXES and text[1:] in _PREFIXED:
        return _PREFIXES[text[0]], text[1:]
    try:
        units.code(text)
    except ValueError:
        raise ValueError("is no DLMS unit, as Wh, kWh or varh") from None
    return 0, text
