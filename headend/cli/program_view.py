"""A program as people read it before they approve of it: all that it says, in lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from schemas.program import PROGRAM
from schemas.programs.tariff import TariffProgram
from schemas.tariff.document import WEEKDAYS, SpecialDay, TariffDocument

#: A day of the week, as a line of a week names it.
_SHORT: Final = 2


def program_lines(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A program that was stored: a tariff document in its own words, any other field by field."""
    program = PROGRAM.validate_python(plain)
    if isinstance(program, TariffProgram):
        yield from _document(program.document)
    else:
        yield from lines({name: value for name, value in plain.items() if name != "kind" and value != ""})


def lines(plain: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A JSON value as lines: where, and what is there. Lists of simple values stand in one line."""
    if isinstance(plain, Mapping) and (plain or not prefix):
        for name, value in plain.items():
            yield from lines(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(plain, Sequence) and not isinstance(plain, str):
        if all(not isinstance(one, Mapping | list) for one in plain):
            yield prefix, ", ".join(_plain(one) for one in plain)
        else:
            for place, value in enumerate(plain):
                yield from lines(value, f"{prefix}[{place}]")
    else:
        yield prefix, _plain(plain)


def _document(told: TariffDocument) -> Iterator[tuple[str, str]]:
    yield "program", told.name
    yield "activation", f"{told.activation}, local times of {told.zone}"
    yield "periods", ", ".join(f"{name} = tariff {number}" for name, number in told.periods.items())
    for day in told.days:
        yield f"day {day.name}", ", ".join(f"{one.from_} {one.period}" for one in day.switches)
    for week in told.weeks:
        names = zip(WEEKDAYS, week.days, strict=True)
        yield f"week {week.name}", ", ".join(f"{name[:_SHORT].title()} {day}" for name, day in names)
    for season in told.seasons:
        yield f"season {season.name}", f"from {season.from_}: week {season.week}"
    if told.special_days:
        yield "special days", ", ".join(map(_special, told.special_days))


def _special(one: SpecialDay) -> str:
    beside = ", ".join(part for part in (one.weekday, one.name) if part)
    return f"{one.date}{f' ({beside})' if beside else ''}: day {one.day}"


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
