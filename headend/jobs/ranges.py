"""Which ranges are asked for: wanted ranges on each profile's grid, and due ranges joined where that is
cheaper. Pure functions of times."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from headend.drivers.contract import Curve, Recall
from headend.store.coverage import Due, Wanted

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
#: Due ranges of one profile that are closer than this are asked for as one: a request costs more than some
#: rows that are known already.
JOIN: Final = timedelta(hours=6)


def wanted_ranges(model: str, curves: Iterable[Curve], since: datetime, until: datetime) -> list[Wanted]:
    """For each load curve that the meters of ``model`` keep: its intervals that start in [since, until), in
    whole periods.

    Periods of a day and more are counted from local midnight, as the meter's clock does. What has not ended
    at ``until`` is not wanted. What cannot be asked for later is not
    wanted either.
    """
    found = []
    for curve in curves:
        if curve.recall is not Recall.STORED:
            continue
        first = _floor(since, curve)
        if first < since:
            first = _floor(since + timedelta(seconds=curve.period_s), curve)
        last = _floor(until, curve)
        if first < last:
            found.append(Wanted(model, curve.number, first, last))
    return found


def _floor(moment: datetime, curve: Curve) -> datetime:
    period = timedelta(seconds=curve.period_s)
    if period < _DAY:
        return moment.astimezone(UTC) - (moment - _EPOCH) % period
    local = moment.astimezone(curve.zone or UTC)
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


def older(due: Iterable[Due], moment: datetime) -> list[Due]:
    """The due ranges as far as they lie before ``moment``."""
    return [one._replace(until=min(one.until, moment)) for one in due if one.since < moment]
