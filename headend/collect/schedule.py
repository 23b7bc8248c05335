"""Which ranges are asked for: wanted ranges on each profile's grid, and due ranges joined where that is
cheaper. Pure functions of times."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from headend.store.coverage import Due, Wanted
from schemas.model import MeterModel

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
#: Due ranges of one profile that are closer than this are asked for as one: a request costs more than some
#: rows that are known already.
JOIN: Final = timedelta(hours=6)


def wanted_ranges(model: MeterModel, since: datetime, until: datetime) -> list[Wanted]:
    """For each load profile of the model: its intervals that start in [since, until), in whole periods.

    Periods of a day and more are counted from local midnight, as the meter's clock does. What has not ended
    at ``until`` is not wanted. Empty for models that are never dialled.
    """
    if model.driver != "dlms":
        return []
    found = []
    for profile in model.load_profiles:
        first = _floor(since, profile.period_s, model)
        if first < since:
            first = _floor(since + timedelta(seconds=profile.period_s), profile.period_s, model)
        last = _floor(until, profile.period_s, model)
        if first < last:
            found.append(Wanted(model.name, profile.number, first, last))
    return found


def _floor(moment: datetime, period_s: int, model: MeterModel) -> datetime:
    period = timedelta(seconds=period_s)
    if period < _DAY:
        return moment.astimezone(UTC) - (moment - _EPOCH) % period
    local = moment.astimezone(model.clock.zone or UTC)
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def joined(due: Iterable[Due]) -> list[Due]:
    """The due ranges of one meter, those of a profile joined that are closer than `JOIN`; in order of profile
    and time, as they come from the store."""
    found: list[Due] = []
    for one in due:
        last = found[-1] if found else None
        if last is not None and last.profile == one.profile and one.since - last.until < JOIN:
            found[-1] = last._replace(until=one.until)
        else:
            found.append(one)
    return found
