"""A year of a tariff document as a picture: twelve months by days, and each day's periods as a bar."""

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import date
from html import escape
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from rich.text import Text

from schemas.tariff.document import Day, TariffDocument
from schemas.tariff.explain import DateRule, year_of

#: Colours of kinds of days, and of periods, in their order; then again from the first.
DAY_COLOURS: Final = (
    "#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b", "#9d755d",
)  # fmt: skip
PERIOD_COLOURS: Final = (
    "#d62728", "#1f77b4", "#ff9f1c", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#bcbd22",
)  # fmt: skip
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_MIN: Final = 1440
#: Minutes of one character in a terminal's bar.
_STEP_MIN: Final = 30


def terminal(document: TariffDocument, year: int) -> Text:
    """For a terminal, with letters where it has no colours. Special days are marked with a star, first days
    of a season with a bar."""
    letters = _letters([one.name for one in document.days], ascii_uppercase)
    small = _letters(list(document.periods), ascii_lowercase)
    days = _colours([one.name for one in document.days], DAY_COLOURS)
    periods = _colours(list(document.periods), PERIOD_COLOURS)
    rules = {one.date: one for one in year_of(document, year)}
    out = Text(f"{document.name}, {year}, {document.zone}\n\n")
    out.append("     " + "".join(f"{n:<3}" for n in range(1, 32)) + "\n", "dim")
    for month, name in enumerate(_MONTHS, 1):
        out.append(f"{name}  ")
        for day in range(1, monthrange(year, month)[1] + 1):
            rule = rules[date(year, month, day)]
            out.append(f"{letters[rule.day.name]}{_mark(rule)}", f"white on {days[rule.day.name]}")
            out.append(" ")
        out.append("\n")
    out.append("\n* special day   | a season begins\n\n", "dim")
    width = max(len(one.name) for one in document.days)
    scale = "".join(f"{hour:<{6 * 60 // _STEP_MIN}}" for hour in range(0, 24, 6))
    out.append(" " * (width + 5) + scale + "24\n", "dim")
    for one in document.days:
        out.append(f" {letters[one.name]} ", f"white on {days[one.name]}")
        out.append(f" {one.name:<{width}} ")
        for minute in range(0, _DAY_MIN, _STEP_MIN):
            period = _period(one, minute)
            out.append(small[period], f"white on {periods[period]}")
        out.append("\n")
    out.append("\n")
    for name, number in document.periods.items():
        out.append(f" {small[name]} ", f"white on {periods[name]}")
        out.append(f" {name} (tariff {number})\n")
    return out


def svg(document: TariffDocument, year: int) -> str:
    """For a browser or a document."""
    return "\n".join(_svg(document, year)) + "\n"


def _svg(document: TariffDocument, year: int) -> Iterator[str]:
    days = _colours([one.name for one in document.days], DAY_COLOURS)
    periods = _colours(list(document.periods), PERIOD_COLOURS)
    cell, left, top = 22, 150, 60
    bars = top + 12 * cell + 60
    legend = bars + len(document.days) * 30 + 30
    width, height = left + 31 * cell + 20, legend + 30
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">'
    )
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    title = escape(f"{document.name}, {year} ({document.zone})")
    yield f'<text x="20" y="28" font-size="17">{title}</text>'
    for n in range(1, 32):
        yield f'<text x="{left + (n - 1) * cell + 5}" y="{top - 8}" fill="#777777">{n}</text>'
    for month, name in enumerate(_MONTHS):
        yield f'<text x="{left - 40}" y="{top + month * cell + 15}">{name}</text>'
    for rule in year_of(document, year):
        x, y = left + (rule.date.day - 1) * cell, top + (rule.date.month - 1) * cell
        what = f"{rule.date} {rule.date:%A}: {rule.day.name}, season {rule.season.name}"
        if rule.special is not None:
            what += f", special day {rule.special.name or ''}".rstrip()
        yield (
            f'<rect x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" '
            f'fill="{days[rule.day.name]}"><title>{escape(what)}</title></rect>'
        )
        mark = _mark(rule).strip()
        if mark:
            yield f'<text x="{x + 7}" y="{y + 15}" fill="#ffffff">{mark}</text>'
    yield f'<text x="{left}" y="{bars - 32}" fill="#777777">* special day, | a season begins</text>'
    wide = 24 * cell
    for hour in range(0, 25, 3):
        yield f'<text x="{left + wide * hour // 24}" y="{bars - 8}" fill="#777777">{hour:02d}:00</text>'
    for n, day in enumerate(document.days):
        y = bars + n * 30
        yield f'<rect x="20" y="{y}" width="14" height="18" fill="{days[day.name]}"/>'
        yield f'<text x="40" y="{y + 14}">{escape(day.name)}</text>'
        for since, until, period in _spans(day):
            begin, length = left + wide * since / _DAY_MIN, wide * (until - since) / _DAY_MIN
            told = escape(f"{since // 60:02d}:{since % 60:02d} {period}")
            yield (
                f'<rect x="{begin:.1f}" y="{y}" width="{length:.1f}" height="18" '
                f'fill="{periods[period]}"><title>{told}</title></rect>'
            )
    x = left
    for name, number in document.periods.items():
        label = f"{name} (tariff {number})"
        yield f'<rect x="{x}" y="{legend}" width="14" height="14" fill="{periods[name]}"/>'
        yield f'<text x="{x + 20}" y="{legend + 12}">{escape(label)}</text>'
        x += 40 + 7 * len(label)
    yield "</svg>"


def _mark(rule: DateRule) -> str:
    if rule.special is not None:
        return "*"
    return "|" if f"{rule.date:%m-%d}" == rule.season.from_ else " "


def _spans(day: Day) -> list[tuple[int, int, str]]:
    """(from, until, period) in minutes of the day."""
    in_order = sorted(day.switches, key=lambda one: one.minute)
    ends = [*(one.minute for one in in_order[1:]), _DAY_MIN]
    return [(one.minute, end, one.period) for one, end in zip(in_order, ends, strict=True)]


def _period(day: Day, minute: int) -> str:
    return next(period for since, until, period in _spans(day) if since <= minute < until)


def _letters(names: Sequence[str], letters: str) -> dict[str, str]:
    return {name: letters[n % len(letters)] for n, name in enumerate(names)}


def _colours(names: Sequence[str], colours: Sequence[str]) -> dict[str, str]:
    return {name: colours[n % len(colours)] for n, name in enumerate(names)}
