"""Which intervals are meant: a local day, or [from, to)."""

from datetime import date, datetime, timedelta
from typing import Annotated, Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from fastapi import Depends, Query

from api.errors import BadValue
from api.services import Services, services
from api.times import half_open
from headend.completeness.standing import local_day

#: The longest range of one question.
_LONGEST: Final = timedelta(days=62)
#: Days that are told apart from the calendar's ends, where a zone would lead out of it.
_FIRST, _LAST = date(1970, 1, 2), date(2999, 12, 31)


class Window(NamedTuple):
    """[since, until), aware UTC."""

    since: datetime
    until: datetime


def window(
    house: Annotated[Services, Depends(services)],
    day: Annotated[
        str | None,
        Query(
            max_length=10,
            description="a day of `zone`, from midnight to midnight; yesterday where no time is given",
            examples=["2026-03-01"],
        ),
    ] = None,
    zone: Annotated[
        str,
        Query(max_length=64, description="time zone of `day`, as IANA names it", examples=["Europe/Berlin"]),
    ] = "UTC",
    from_: Annotated[
        str | None,
        Query(
            alias="from",
            max_length=64,
            description="start of [from, to) instead of a day: RFC 3339 with an offset",
        ),
    ] = None,
    to: Annotated[
        str | None, Query(max_length=64, description="end of [from, to), at most 62 days after its start")
    ] = None,
) -> Window:
    """A dependency. Raises BadValue with the parameter that is wrong."""
    if zone not in available_timezones():
        raise BadValue.parameter("zone", "is no time zone of the IANA database; one is Europe/Berlin")
    if from_ is not None or to is not None:
        if day is not None:
            raise BadValue.parameter("day", "is given beside from and to: give one or the other")
        if from_ is None or to is None:
            raise BadValue.parameter("to" if to is None else "from", "from and to are given together")
        found = half_open(from_, to, longest=_LONGEST)
        return Window(found.start, found.end)
    if day is None:
        return Window(
            *local_day(house.clock().astimezone(ZoneInfo(zone)).date() - timedelta(days=1), ZoneInfo(zone))
        )
    try:
        parsed = date.fromisoformat(day)
    except ValueError as exc:
        raise BadValue.parameter("day", f"{day!r} is no day of the calendar; write it as 2026-03-01") from exc
    if not _FIRST <= parsed <= _LAST:
        raise BadValue.parameter("day", f"lies outside of {_FIRST} to {_LAST}")
    return Window(*local_day(parsed, ZoneInfo(zone)))


#: The window that a request asks for.
Asked = Annotated[Window, Depends(window)]
