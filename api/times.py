"""Instants and ranges as the API takes them: RFC 3339 with an offset, half-open [from, to), bounded."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator

from api.errors import BadValue, Place

#: The longest range of one answer. More than a year with its leap day, less than a table scan.
MAX_RANGE: Final = timedelta(days=400)

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<offset>[Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
#: No time of ours is longer, and no refusal repeats more than that of what came in.
_LONGEST: Final = 64
_LOST_PLUS: Final = re.compile(r".*\d\d:\d\d(:\d\d(\.\d+)?)? \d\d:\d\d", re.ASCII)


class Range(NamedTuple):
    """[start, end), both aware UTC."""

    start: datetime
    end: datetime


def parse(text: object) -> datetime:
    """``text`` as aware UTC. Raises ValueError that says what to change."""
    if not isinstance(text, str):
        raise ValueError("must be a string such as 2026-03-01T00:00:00Z")  # noqa: TRY004 - pydantic takes ValueError
    if len(text) > _LONGEST:
        raise ValueError(f"is no RFC 3339 date-time: it has {len(text)} characters")
    if _LOST_PLUS.fullmatch(text):
        raise ValueError(f"{text!r} holds a space where an offset's + was; write + as %2B, or use Z")
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 date-time; write it as 2026-03-01T00:00:00Z")
    if match["offset"] is None:
        raise ValueError(f"{text!r} has no UTC offset; append Z or +01:00")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"{text!r} is no date of the calendar: {exc}") from exc


#: An instant in a body: RFC 3339 with an offset; becomes aware UTC.
Instant = Annotated[datetime, BeforeValidator(parse)]


def instant(text: str, name: str) -> datetime:
    """As ``parse``, for a parameter: BadValue with its name."""
    try:
        return parse(text)
    except ValueError as exc:
        raise BadValue.parameter(name, str(exc)) from exc


def half_open(start_text: str, end_text: str, *, longest: timedelta = MAX_RANGE) -> Range:
    """The range [from, to). BadValue where it is empty, upside down, or longer than ``longest``."""
    start, end = instant(start_text, "from"), instant(end_text, "to")
    if start >= end:
        detail = "must be later than 'from'; the range is half-open [from, to)"
        raise BadValue(f"to: {detail}", places=[Place(parameter="to", detail=detail)])
    if end - start > longest:
        detail = f"is {(end - start).days} days after 'from'; ask for at most {longest.days} days at a time"
        raise BadValue(f"to: {detail}", places=[Place(parameter="to", detail=detail)])
    return Range(start, end)


def rfc3339(moment: datetime) -> str:
    """Aware UTC as ``2026-03-01T00:00:00Z``, with microseconds only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def micros(since_1970_us: int) -> datetime:
    """Microseconds since 1970-01-01 UTC as aware UTC, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since_1970_us)
