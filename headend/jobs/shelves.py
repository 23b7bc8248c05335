"""What concentrators keep of meters of ours, and what of it is fetched at once. Pure functions."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from headend.drivers.dlms.station import Ask
from protocols.dlms.store_forward import Release

#: Rows that one fetch asks for at most, but for those of a single meter: a megabyte or so of answer.
ROWS_AT_ONCE: Final = 24_000
#: Meters that one fetch asks for at most: a list that fits a request.
METERS_AT_ONCE: Final = 32

_Range = tuple[datetime, datetime]


class Shelf(NamedTuple):
    """A kept profile of a meter of ours: what is asked of it, None where we have it all."""

    identity: str
    release: Release
    ask: Ask | None


def missing_range(whole: _Range, covered: Sequence[_Range]) -> _Range | None:
    """From the first to the last moment of ``whole`` that none of the ``covered`` ranges, in order, has; None
    where they have it all. What lies between is asked for again with it: one range costs one request."""
    since, until = whole
    for begin, end in covered:
        if begin > since:
            break
        since = max(since, end)
    for begin, end in reversed(covered):
        if end < until:
            break
        until = min(until, begin)
    return (since, until) if since < until else None


def parts(shelves: Sequence[Shelf]) -> Iterator[list[Shelf]]:
    """Shelves in parts that are fetched at once."""
    part: list[Shelf] = []
    rows = asked = 0
    for shelf in shelves:
        more = 0 if shelf.ask is None else _rows(shelf.ask)
        if part and (rows + more > ROWS_AT_ONCE or asked >= METERS_AT_ONCE):
            yield part
            part, rows, asked = [], 0, 0
        part.append(shelf)
        rows += more
        asked += shelf.ask is not None
    if part:
        yield part


def _rows(ask: Ask) -> int:
    period = timedelta(seconds=max(1, ask.kept.period_s))
    return min(ask.kept.rows, (ask.until - ask.since) // period + 1)
