"""What is wrong with a tariff document, all of it at once; each finding names the place it is about."""

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise
from zoneinfo import ZoneInfo

from schemas.model.tariff import TariffLimits
from schemas.tariff.document import (
    AT_ONCE,
    WEEKDAYS,
    TariffDocument,
    date_of,
    minute_of,
    month_day,
)
from schemas.tariff.finding import Finding, Path, warning
from schemas.tariff.fitting import unfit


def check(
    document: TariffDocument, *, limits: TariffLimits | None = None, now: dt.datetime | None = None
) -> list[Finding]:
    """All that is wrong: in itself, for meters with ``limits``, and at ``now`` (aware), each where given."""
    found = [
        *_names(document),
        *_days(document),
        *_weeks(document),
        *_seasons(document),
        *_special_days(document, now),
        *_unused(document),
        *_times(document, now),
        *(() if limits is None else unfit(document, limits)),
    ]
    return sorted(found, key=lambda one: one.severity)


def _names(document: TariffDocument) -> Iterator[Finding]:
    for kind in ("days", "weeks", "seasons"):
        seen: set[str] = set()
        for place, one in enumerate(getattr(document, kind)):
            if one.name in seen:
                yield Finding((kind, place, "name"), f"{one.name!r} is there twice")
            seen.add(one.name)
    tariffs: dict[int, str] = {}
    for name, number in document.periods.items():
        if number in tariffs:
            yield warning(
                ("periods", name),
                f"counts as tariff {number}, as {tariffs[number]!r} does: nobody can tell them apart",
            )
        tariffs.setdefault(number, name)


def _days(document: TariffDocument) -> Iterator[Finding]:
    for place, day in enumerate(document.days):
        here: Path = ("days", place)
        starts: dict[int, int] = {}
        if not day.switches:
            yield Finding((*here, "switches"), f"{day.name!r} has none: say what counts from 00:00 on")
        for n, switch in enumerate(day.switches):
            at: Path = (*here, "switches", n)
            if switch.period not in document.periods:
                known = ", ".join(document.periods)
                yield Finding((*at, "period"), f"{switch.period!r} is none of the periods: {known}")
            minute = minute_of(switch.from_)
            if minute is None:
                yield Finding((*at, "from"), f"{switch.from_!r} is no time of day: 00:00 to 23:59")
            elif minute in starts:
                yield Finding(
                    (*at, "from"),
                    f"overlap: {day.name!r} has two switches at {switch.from_}, to "
                    f"{day.switches[starts[minute]].period!r} and to {switch.period!r}",
                )
            else:
                starts[minute] = n
        if starts and 0 not in starts and all(minute_of(one.from_) is not None for one in day.switches):
            first = min(starts)
            yield Finding(
                (*here, "switches"),
                f"gap: nothing says what counts in {day.name!r} from 00:00 "
                f"to {first // 60:02d}:{first % 60:02d}",
            )
        in_order = sorted(starts)
        for before, after in pairwise(in_order):
            one, other = day.switches[starts[before]], day.switches[starts[after]]
            if one.period == other.period:
                yield warning(
                    (*here, "switches", starts[after]),
                    f"{other.period!r} counts already: it switches nothing",
                )


def _weeks(document: TariffDocument) -> Iterator[Finding]:
    known = [one.name for one in document.days]
    for place, week in enumerate(document.weeks):
        for weekday, day in zip(WEEKDAYS, week.days, strict=True):
            if day not in known:
                yield Finding(("weeks", place, weekday), f"{day!r} is none of the days: {', '.join(known)}")


def _seasons(document: TariffDocument) -> Iterator[Finding]:
    known = [one.name for one in document.weeks]
    starts: dict[tuple[int, int], str] = {}
    for place, season in enumerate(document.seasons):
        here: Path = ("seasons", place)
        if season.week not in known:
            yield Finding((*here, "week"), f"{season.week!r} is none of the weeks: {', '.join(known)}")
        start = month_day(season.from_)
        if start is None:
            yield Finding((*here, "from"), f"{season.from_!r} is no day of a year: MM-DD, as 10-01")
        elif start in starts:
            yield Finding(
                (*here, "from"),
                f"unreachable: {season.name!r} and {starts[start]!r} both begin on {season.from_}",
            )
        else:
            starts[start] = season.name
            if start == (2, 29):
                yield warning((*here, "from"), f"{season.name!r} begins in leap years alone")


def _special_days(document: TariffDocument, now: dt.datetime | None) -> Iterator[Finding]:
    known = [one.name for one in document.days]
    today = None if now is None else now.astimezone(dt.UTC).date()
    dates: dict[tuple[int | None, int, int], int] = {}
    for place, special in enumerate(document.special_days):
        here: Path = ("special_days", place)
        if special.day not in known:
            yield Finding((*here, "day"), f"{special.day!r} is none of the days: {', '.join(known)}")
        if special.weekday is not None and special.weekday.lower() not in WEEKDAYS:
            yield Finding(
                (*here, "weekday"), f"{special.weekday!r} is no day of the week: {', '.join(WEEKDAYS)}"
            )
        date = date_of(special.date)
        if date is None:
            yield Finding(
                (*here, "date"), f"{special.date!r} is no date: MM-DD for each year, or YYYY-MM-DD for once"
            )
            continue
        year, month, day = date
        for same in ((year, month, day), (None, month, day)):
            if same in dates:
                other = document.special_days[dates[same]].date
                yield Finding((*here, "date"), f"overlap: {special.date} is there already, as {other}")
                break
        else:
            twin = next(
                (n for (_, m, d), n in dates.items() if year is None and (m, d) == (month, day)), None
            )
            if twin is not None:
                other = document.special_days[twin].date
                yield Finding((*here, "date"), f"overlap: {special.date} is there already, as {other}")
        dates.setdefault(date, place)
        yield from _weekday(document, place, date)
        if year is not None and today is not None and dt.date(year, month, day) < today:
            yield warning((*here, "date"), f"{special.date} is over")


def _weekday(document: TariffDocument, place: int, date: tuple[int | None, int, int]) -> Iterator[Finding]:
    special = document.special_days[place]
    if special.weekday is None or special.weekday.lower() not in WEEKDAYS:
        return
    path: Path = ("special_days", place, "weekday")
    year, month, day = date
    if year is None:
        yield Finding(
            path, f"{special.date} is a {special.weekday} in some years only: name the year, or no weekday"
        )
    elif (true := WEEKDAYS[dt.date(year, month, day).weekday()]) != special.weekday.lower():
        yield Finding(path, f"{special.date} is a {true}, not a {special.weekday.lower()}")


def _unused(document: TariffDocument) -> Iterator[Finding]:
    weeks = {one.week for one in document.seasons}
    for place, week in enumerate(document.weeks):
        if week.name not in weeks:
            yield warning(("weeks", place, "name"), f"no season uses {week.name!r}")
    days = {day for week in document.weeks for day in week.days} | {one.day for one in document.special_days}
    for place, day in enumerate(document.days):
        if day.name not in days:
            yield warning(("days", place, "name"), f"no week and no special day uses {day.name!r}")
    periods = {switch.period for day in document.days for switch in day.switches}
    for name in document.periods:
        if name not in periods:
            yield warning(("periods", name), f"no day uses {name!r}")


def _times(document: TariffDocument, now: dt.datetime | None) -> Iterator[Finding]:
    try:
        zone = ZoneInfo(document.zone)
    except (KeyError, ValueError, OSError):
        yield Finding(
            ("zone",), f"{document.zone!r} is no time zone of the IANA database, as Europe/Berlin is"
        )
        return
    if document.activation == AT_ONCE:
        return
    path: Path = ("activation",)
    try:
        moment = dt.datetime.fromisoformat(document.activation)
    except ValueError:
        yield Finding(path, f"{document.activation!r} is neither '{AT_ONCE}' nor a time, as 2027-01-01T00:00")
        return
    if moment.tzinfo is None:
        first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        if first.utcoffset() != second.utcoffset():
            exists = first.astimezone(dt.UTC).astimezone(zone).replace(tzinfo=None) == moment
            what = "exists twice" if exists else "does not exist"
            yield Finding(path, f"{moment.isoformat()} {what} in {document.zone}: write it with its offset")
        moment = first
    if now is not None and moment <= now:
        yield Finding(
            path, f"{document.activation} is past: name a time to come, or write activation = '{AT_ONCE}'"
        )
