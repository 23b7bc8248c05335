"""What counts at a moment by a tariff document, and why; and each date of a year.

Local times are of the document's zone: its switches follow the wall clock through changes of daylight saving.
Documents here are right: `schemas.tariff.check` found no error.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple

from schemas.tariff.document import Day, Season, SpecialDay, Switch, TariffDocument, date_of, month_day

#: How far the next switching is looked for: a document may have one in a year.
_FAR: Final = 800


class DateRule(NamedTuple):
    """Which day a date is: by the week of its season, or as a special day."""

    date: date
    season: Season
    week: str
    day: Day
    special: SpecialDay | None


class Explanation(NamedTuple):
    """``at`` and ``next_at`` are aware; without a ``next_at`` nothing ever switches."""

    at: datetime
    rule: DateRule
    since: Switch
    tariff: int
    next_at: datetime | None
    next_period: str | None

    @property
    def period(self) -> str:
        """What counts."""
        return self.since.period

    @property
    def why(self) -> list[str]:
        """The way from the date to the period, a line for each step."""
        rule = self.rule
        lines = [f"season {rule.season.name!r}: began on {rule.season.from_}, has week {rule.week!r}"]
        weekday = rule.date.strftime("%A").lower()
        if rule.special is None:
            lines.append(f"day {rule.day.name!r}: {rule.date} is a {weekday}")
        else:
            named = f" ({rule.special.name})" if rule.special.name else ""
            lines.append(f"day {rule.day.name!r}: {rule.date}, a {weekday}, is a special day{named}")
        lines.append(f"period {self.period!r}: from {self.since.from_} on; tariff {self.tariff}")
        return lines


def rule_of(document: TariffDocument, day: date) -> DateRule:
    """Which day a date is."""
    season = _season(document, day)
    week = document.week(season.week)
    special = next((one for one in document.special_days if _is_on(one, day)), None)
    name = week.days[day.weekday()] if special is None else special.day
    return DateRule(day, season, week.name, document.day(name), special)


def explain(document: TariffDocument, at: datetime) -> Explanation:
    """What counts at ``at``; a naive time is one of the document's zone, its first where there are two."""
    local = (at.replace(tzinfo=document.tz) if at.tzinfo is None else at).astimezone(document.tz)
    rule = rule_of(document, local.date())
    since = _last_switch(rule.day, 60 * local.hour + local.minute)
    found = _next(document, local, since.period)
    next_at, next_period = (None, None) if found is None else found
    return Explanation(local, rule, since, document.periods[since.period], next_at, next_period)


def year_of(document: TariffDocument, year: int) -> list[DateRule]:
    """Each date of a year."""
    first = date(year, 1, 1)
    return [rule_of(document, first + timedelta(days=n)) for n in range((date(year + 1, 1, 1) - first).days)]


def _season(document: TariffDocument, day: date) -> Season:
    """The one that began last, in this year or the year before."""
    begun = [one for one in document.seasons if (month_day(one.from_) or (13, 0)) <= (day.month, day.day)]
    return max(begun or document.seasons, key=lambda one: month_day(one.from_) or (0, 0))


def _is_on(special: SpecialDay, day: date) -> bool:
    when = date_of(special.date)
    return when in ((day.year, day.month, day.day), (None, day.month, day.day))


def _last_switch(day: Day, minute: int) -> Switch:
    return max((one for one in day.switches if one.minute <= minute), key=lambda one: one.minute)


def _next(document: TariffDocument, local: datetime, period: str) -> tuple[datetime, str] | None:
    for n in range(_FAR):
        day = local.date() + timedelta(days=n)
        for switch in sorted(rule_of(document, day).day.switches, key=lambda one: one.minute):
            when = datetime.combine(day, time(switch.minute // 60, switch.minute % 60), document.tz)
            if when.astimezone(UTC) > local.astimezone(UTC) and switch.period != period:
                return when.astimezone(UTC).astimezone(document.tz), switch.period
    return None
