"""Whether meters take a tariff document: how much of one they keep is their model's `TariffLimits`."""

from collections.abc import Iterator, Sequence
from typing import Final

from schemas.model.tariff import TariffLimits
from schemas.tariff.document import WEEKDAYS, TariffDocument, date_of
from schemas.tariff.finding import Finding, Path, warning
from schemas.tariff.rest_days import split

_NAMED: Final = (("seasons", "season"), ("weeks", "week"))


def unfit(document: TariffDocument, limits: TariffLimits) -> Iterator[Finding]:
    """What of a document meters with ``limits`` do not take."""
    for kind, most in (
        ("seasons", limits.seasons),
        ("weeks", limits.weeks),
        ("days", limits.days),
        ("special_days", limits.special_days),
    ):
        count = len(getattr(document, kind))
        if count > most:
            yield Finding((kind, most), f"too many: {count} {kind}, the meter takes {most}")
    for place, day in enumerate(document.days):
        if len(day.switches) > limits.switches:
            yield Finding(
                ("days", place, "switches", limits.switches),
                f"too many: {len(day.switches)} switches in {day.name!r}, "
                f"the meter takes {limits.switches} a day",
            )
    for name, number in document.periods.items():
        if limits.selector(number) is None:
            known = ", ".join(map(str, sorted(limits.selectors)))
            yield Finding(("periods", name), f"the meter has no tariff {number}: it has {known}")
    if len(document.name) > limits.name_length:
        yield Finding(("name",), f"longer than the {limits.name_length} characters that the meter keeps")
    for kind, what in _NAMED:
        for place, one in enumerate(getattr(document, kind)):
            if len(one.name) > limits.name_length:
                yield Finding(
                    (kind, place, "name"),
                    f"the name of this {what} is longer than the {limits.name_length} characters "
                    "that the meter keeps",
                )
    if limits.special_years is not None:
        yield from _years(document, *limits.special_years)
    if limits.one_day_weeks:
        yield from _weeks(document, limits)


def _years(document: TariffDocument, first: int, last: int) -> Iterator[Finding]:
    for place, special in enumerate(document.special_days):
        date = date_of(special.date)
        if date is None:
            continue
        path: Path = ("special_days", place, "date")
        if date[0] is None:
            yield Finding(
                path,
                f"{special.date} of each year: the meter keeps special days with their year; "
                "write it once for each year that it is for",
            )
        elif not first <= date[0] <= last:
            yield Finding(path, f"the meter keeps special days of {first} to {last}")


def _weeks(document: TariffDocument, limits: TariffLimits) -> Iterator[Finding]:
    used = {one.week for one in document.seasons}
    places = [place for place, week in enumerate(document.weeks) if week.name in used]
    weeks = [document.weeks[place].days for place in places]
    if not limits.rest_days:
        for place, days in zip(places, weeks, strict=True):
            if len(set(days)) > 1:
                yield Finding(("weeks", place), "the meter knows no weeks: all seven days must be the same")
        return
    for n, place in enumerate(places):
        if split(weeks[: n + 1]) is None:
            yield Finding(
                ("weeks", place),
                "the meter knows no weeks but rest days: one day that counts on the same days of the week in "
                "all seasons, and on all others the season's own",
            )
            return
    found = split(weeks)
    if found is not None and found.weekdays:
        yield from _begins(document, found.weekdays)


def _begins(document: TariffDocument, weekdays: Sequence[int]) -> Iterator[Finding]:
    """Rest days have no second set: they are changed behind the activation."""
    try:
        at = document.activates_at
        weekday = None if at is None else at.astimezone(document.tz).weekday()
    except (KeyError, ValueError, OSError):
        return  # told already
    if weekday is not None and weekday in weekdays:
        yield warning(
            ("activation",),
            f"a {WEEKDAYS[weekday]} is a rest day: the meter's rest days are changed when it is visited "
            "behind the activation; a day that is none is safer",
        )
