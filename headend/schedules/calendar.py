"""When a schedule runs, and the times of one run. Pure functions.

Local times and the changes of clocks:

- A local time that does not exist runs at the next valid instant; one that occurs twice runs once, the first
  time. So cronsim has it for expressions without a leading star in minute and hour; others are rewritten
  before it sees them (``*/30 2`` as ``0-59/30 2``), so that the rule holds for all.
- An expression that fits every hour (``*/15 * * * *``) is a rhythm, not a time of day: it goes on through the
  repeated hour (eight quarter hours of two hours) and has nothing to make up for in the missing one.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from schemas.schedule import Schedule, until

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: How far back the newest of many missed runs is looked for: no run of every minute is counted over a year.
_LOOK_BACK: Final = (timedelta(hours=2), timedelta(days=2), timedelta(days=70), timedelta(days=36_500))
_FIELDS: Final = 5
_ALL_HOURS: Final = set(range(24))


class CronError(ValueError):
    """A cron expression that cannot be used; the message says why."""


class Times(NamedTuple):
    """Of one run, aware UTC: no attempt before ``opens``, none after ``drop_dead``, done by ``deadline``."""

    run: datetime
    opens: datetime
    deadline: datetime
    drop_dead: datetime


def runs(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Every run later than ``after``, aware UTC, in order. Raises CronError."""
    if schedule.every_min is not None:
        return _every(timedelta(minutes=schedule.every_min), after)
    return _cron(schedule.cron or "", ZoneInfo(schedule.zone), after)


def next_runs(schedule: Schedule, after: datetime, n: int) -> list[datetime]:
    """The next ``n`` runs after ``after``, fewer where there are no more. Raises CronError."""
    return list(islice(runs(schedule, after), n))


def latest(schedule: Schedule, since: datetime, now: datetime) -> datetime:
    """The newest run in [since, now], of which ``since`` is one. Looks back no further than it must."""
    found = since
    for span in _LOOK_BACK:
        after = max(since, now - span)
        for run in takewhile(lambda run: run <= now, runs(schedule, after)):
            found = run
        if found > since or after == since:
            break
    return found


def bounds(schedule: Schedule, start: datetime) -> tuple[datetime, datetime | None, datetime]:
    """When the window of a run that begins at ``start`` opens and closes, and its deadline: as they are told,
    whether or not that makes sense."""
    zone = ZoneInfo(schedule.zone)
    opens, closes = schedule.window.opens, schedule.window.closes
    return (
        start if opens is None else _until(opens, start, zone),
        None if closes is None else _until(closes, start, zone),
        _until(schedule.deadline, start, zone),
    )


def times(schedule: Schedule, run: datetime, begins: datetime | None = None) -> Times:
    """The times of a run; of one that is caught up they count from where it ``begins``.

    A window that a change of clocks pushed to its deadline opens at once: a run is never left without time.
    """
    start = run if begins is None else begins
    opens, closes, deadline = bounds(schedule, start)
    if opens >= deadline:
        opens = start
    last = deadline if schedule.retry.drop_dead is None else start + schedule.retry.drop_dead
    if closes is not None and closes > opens:
        last = min(last, closes)
    return Times(run, opens, deadline, last)


def _every(period: timedelta, after: datetime) -> Iterator[datetime]:
    run = after.astimezone(UTC) - (after - _EPOCH) % period
    while True:
        try:
            run += period
        except OverflowError:
            return
        yield run


def _cron(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    told = _parsed(expression, zone, after)

    def later() -> Iterator[datetime]:
        last = after.astimezone(UTC)
        try:
            for local in told:
                run = local.astimezone(UTC)
                if run > last:  # begun in the repeated hour, it tells of the first one again
                    last = run
                    yield run
        except (OverflowError, ValueError):  # the end of the calendar
            return

    return later()


def _parsed(expression: str, zone: ZoneInfo, after: datetime) -> CronSim:
    fields = expression.split()
    if len(fields) != _FIELDS:
        raise CronError(
            f"{expression!r} has {len(fields)} fields; cron has five: minute hour day month weekday"
        )
    local = after.astimezone(zone)
    try:
        if CronSim(expression, local).hours == _ALL_HOURS:
            fields[1] = "*"
        else:
            fields[0], fields[1] = _starless(fields[0], 59), _starless(fields[1], 23)
        return CronSim(" ".join(fields), local)
    except CronSimError as error:
        raise CronError(f"{expression!r}: {str(error).lower()}") from error


def _starless(field: str, last: int) -> str:
    return ",".join(f"0-{last}{term[1:]}" if term.startswith("*") else term for term in field.split(","))


def _until(text: str, start: datetime, zone: ZoneInfo) -> datetime:
    told = until(text)
    if isinstance(told, timedelta):
        return start + told
    return next(_cron(f"{told.minute} {told.hour} * * *", zone, start))
