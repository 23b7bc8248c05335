"""What is asked of meters, made ready for many at once: what their works come to, and the ways to them.

::

    requests of some meters ──> works and policies of jobs ──> targets ──> ways (keys, counters, replay bars)
                                                                  └──> parts: due ranges (wanted − coverage)
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from headend.clock import utc_now
from headend.drivers.contract import Feature, Target
from headend.drivers.registry import Drivers, Reachable
from headend.drivers.targets import targets_of
from headend.jobs.forwarding import station_targets
from headend.jobs.ranges import joined, older, wanted_ranges
from headend.session.access import Connect
from headend.store import coverage, events, jobs
from headend.store.coverage import Due
from headend.store.errors import UnavailableError
from headend.store.requests import WAITED_FOR, Waiting
from headend.store.sql import Connection
from protocols.errors import LocalProtocolError
from schemas.job import (
    AnyWork,
    Apply,
    Billing,
    Breaker,
    Clock,
    CurveRange,
    Curves,
    Events,
    Forwarded,
    Registers,
    Retry,
)
from schemas.meter import MeterState
from schemas.model import ModelError

log = logging.getLogger(__name__)

#: Jobs whose works and policies are remembered.
MOST_JOBS: Final = 1000
#: How far a meter's clock may be off, and events still be found by the range that is asked for.
MARGIN: Final = timedelta(days=1)
#: The first reading of a log asks for all of it.
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Log(NamedTuple):
    """Event logs with stamps in [since, until); ``now`` becomes the cursor when they are stored."""

    since: datetime
    until: datetime
    now: datetime


#: What a conversation is asked for: a range of a load curve, or what a work says.
Part = Due | Log | Registers | Billing | Clock | Breaker | Forwarded | Apply


@dataclass(slots=True)
class Asked:
    """A request, and what it comes to. No parts: nothing is to be asked, it has what it wants."""

    waiting: Waiting
    retry: Retry
    parts: list[Part]

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for it."""
        return self.waiting.urgency <= WAITED_FOR


@dataclass(slots=True)
class Visit:
    """All that is asked of one meter in one association, the most urgent first. ``target`` is None where the
    meter is there no more; ``way`` then says so.

    A concentrator that is talked with itself has the negative number of its node, whatever its device's is.
    """

    meter_id: int
    asked: list[Asked]
    target: Target | None
    way: Reachable | Exception


class _Facts(NamedTuple):
    work: tuple[AnyWork, ...]
    retry: Retry


class Preparer:
    """Makes visits of requests.

    Args:
        connect: gives a database connection.
        drivers: the languages.
        forwarded: how long a concentrator has to hand on what it keeps, until its meter is asked itself.
        now: aware, UTC.
    """

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        *,
        forwarded: timedelta = timedelta(0),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._drivers = drivers
        self._forwarded = forwarded
        self._now = now
        self._jobs: OrderedDict[int, _Facts] = OrderedDict()

    async def prepare(self, groups: Sequence[Sequence[Waiting]]) -> list[Visit]:
        """A visit for each group, which holds the requests of one meter; in order. A defect met at one meter
        is its way, and ends nobody else's.

        Raises UnavailableError.
        """
        try:
            return await self._prepare(groups)
        except UnavailableError:
            raise
        except Exception as defect:  # the boundary: which of them is it?
            if len(groups) > 1:
                return [visit for group in groups for visit in await self.prepare([group])]
            log.exception("meter number %d cannot be prepared, by a defect", groups[0][0].meter_id)
            return [
                Visit(groups[0][0].meter_id, [Asked(one, Retry(), []) for one in groups[0]], None, defect)
            ]

    async def _prepare(self, groups: Sequence[Sequence[Waiting]]) -> list[Visit]:
        async with self._connect() as connection:
            await self._learn({one.job_id for group in groups for one in group}, connection)
            targets = await self._targets(connection, [group[0].meter_id for group in groups])
            known = [
                (one, targets[one.meter_id]) for group in groups for one in group if one.meter_id in targets
            ]
            parts = await self._parts(connection, known)
        visits = []
        for group in groups:
            asked = [
                Asked(one, self._jobs[one.job_id].retry, parts.get(one.request_id, []))
                for one in sorted(group, key=lambda one: (one.urgency, one.due_by, one.request_id))
            ]
            meter_id = group[0].meter_id
            visits.append(Visit(meter_id, asked, targets.get(meter_id), _GONE))
        await self._find_ways(visits)
        return visits

    async def _targets(self, connection: Connection, numbers: Sequence[int]) -> dict[int, Target]:
        found = {}
        if meters := [one for one in numbers if one > 0]:
            found = {one.meter.meter_id: one for one in await targets_of(connection, meters)}
        if nodes := [-one for one in numbers if one < 0]:
            stations = await station_targets(connection, nodes)
            found |= {-node_id: target for node_id, target in stations.items()}
        return found

    async def _learn(self, numbers: set[int], connection: Connection) -> None:
        """Works and policies of jobs, which do not change."""
        for number in numbers - self._jobs.keys():
            job = await jobs.find(connection, number)
            if job is not None:  # its requests hold it
                self._jobs[number] = _Facts(job.work, job.retry)
        while len(self._jobs) > MOST_JOBS + len(numbers):
            self._jobs.popitem(last=False)

    async def _find_ways(self, visits: Sequence[Visit]) -> None:
        called = []
        for visit in visits:
            if visit.target is None:
                continue
            why_not = _why_not(visit.target, visit.asked)
            if why_not is None:
                called.append(visit.target)
            else:
                visit.way = LocalProtocolError(why_not)
        ways = await self._drivers.prepare(called)
        for visit in visits:
            if visit.target is not None and (way := ways.get(visit.target.meter.meter_id)) is not None:
                visit.way = way

    # ---- what works come to -----------------------------------------------------------------------------

    async def _parts(
        self, connection: Connection, known: Sequence[tuple[Waiting, Target]]
    ) -> Mapping[int, list[Part]]:
        """What is asked, by request: due ranges by one query for each different work, cursors by one."""
        now = self._now()
        parts: dict[int, list[Part]] = {one.request_id: [] for one, _ in known}
        of_curves: dict[Curves, list[tuple[Waiting, Target]]] = defaultdict(list)
        of_events: list[Waiting] = []
        for one, target in known:
            for work in self._jobs[one.job_id].work if one.work is None else one.work:
                match work:
                    case Curves():
                        of_curves[work].append((one, target))
                    case CurveRange():
                        parts[one.request_id].append(Due(one.meter_id, work.profile, work.since, work.until))
                    case Events():
                        if self._has(target, Feature.EVENTS):
                            of_events.append(one)
                    case Clock():
                        if self._has(target, Feature.CLOCK):
                            parts[one.request_id].append(work)
                    case Breaker():
                        if self._has(target, Feature.SWITCH):
                            parts[one.request_id].append(work)
                    case _:
                        parts[one.request_id].append(work)
        for curves, some in of_curves.items():
            due = await self._due(
                connection, curves, {target.meter.meter_id: target for _, target in some}, now
            )
            for one, _ in some:
                parts[one.request_id] += due.get(one.meter_id, ())
        if of_events:
            cursors = await events.cursors(connection, [one.meter_id for one in of_events])
            for one in of_events:
                before = cursors.get(one.meter_id)
                since = BEGINNING if before is None else before - MARGIN
                parts[one.request_id].append(Log(since, now + MARGIN, now))
        return parts

    def _has(self, target: Target, feature: Feature) -> bool:
        model = target.meter.model
        try:
            return feature in self._drivers.of(model).features(model)
        except ModelError:
            return False  # the way to it says so

    async def _due(
        self, connection: Connection, work: Curves, targets: Mapping[int, Target], now: datetime
    ) -> dict[int, list[Due]]:
        """What is due of these meters' load curves, by meter."""
        wanted = []
        for model in {target.meter.model for target in targets.values()}:
            try:
                curves = self._drivers.of(model).curves(model)
            except ModelError:  # the way to each of its meters says so
                continue
            asked = [one for one in curves if not work.profiles or one.number in work.profiles]
            wanted += wanted_ranges(model, asked, now - timedelta(days=work.days), now)
        if not wanted:
            return {}
        by_meter: dict[int, list[Due]] = defaultdict(list)
        for due in await coverage.due(connection, wanted, list(targets)):
            by_meter[due.meter_id].append(due)
        before = now - self._forwarded
        return {
            meter_id: its_own(self._drivers, targets[meter_id], due, before)
            for meter_id, due in by_meter.items()
        }


def its_own(drivers: Drivers, target: Target, due: Iterable[Due], before: datetime) -> list[Due]:
    """What the meter itself is asked for: not what a concentrator keeps of it since ``before`` and will yet
    hand on. Ranges that are close are joined."""
    found = joined(due)
    return older(found, before) if drivers.forwards(target.place.station_model) else found


_GONE: Final = LocalProtocolError("it is there no more")


def _why_not(target: Target, asked: Sequence[Asked]) -> str | None:
    """Why the meter is not called; None where it is. A person may call one that is not commissioned yet."""
    meter = target.meter
    if meter.address is None:
        return f"meter {meter.asset_id} has no address: it only pushes"
    is_station = any(isinstance(part, Forwarded) for one in asked for part in one.parts)
    if is_station or meter.state is MeterState.COMMISSIONED or any(one.is_waited_for for one in asked):
        return None
    return f"meter {meter.asset_id} is {meter.state}, not commissioned"
