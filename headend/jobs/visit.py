"""One association with one meter: all that is asked of it, most urgent first, and what became of it.

Whatever comes of it goes to the pipeline as one item: rows, requests and the attempt are committed together,
under the lane's fence. This is where a failure stops: it costs no other meter anything.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.drivers.contract import Conversation, Way
from headend.drivers.registry import Drivers, Reachable
from headend.ingest.pipeline import Pipeline, PipelineClosed
from headend.jobs import backoff
from headend.jobs.asked import Asked, Visit
from headend.jobs.course import Course
from headend.jobs.forwarding import Forwarding
from headend.jobs.reading import Gathered, read
from headend.jobs.station_outcome import StationOutcome
from headend.keys.seal import SealError
from headend.links.failures import stage_of
from headend.links.links import Links
from headend.links.opened import BreakerOpen
from headend.links.permits import Urgency
from headend.programs.applier import Applier, Begun
from headend.programs.contract import Outcome
from headend.store.attempts import Attempt
from headend.store.errors import UnavailableError
from headend.store.lanes import LaneLost, Lease
from headend.store.requests import Settled
from headend.store.settlement import Settlement
from headend.store.writer import Written
from protocols.errors import CommunicationError, LinkError, PeerRefused
from schemas.job import Apply, RequestState
from schemas.reading import ReadingBatch

log = logging.getLogger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
Committing = tuple["asyncio.Future[Written]", list[Asked]]


class Visitor:
    """Visits meters.

    Args:
        links: the ways to them.
        pipeline: takes what they give.
        forwarding: makes rounds of concentrators.
        applier: applies programs.
        drivers: find the ways to concentrators that are visited instead of their meters.
        worker: this process, as attempts name it.
        lease_s: length of the leases that visits are made under.
        now: aware, UTC.
    """

    def __init__(
        self,
        links: Links,
        pipeline: Pipeline,
        forwarding: Forwarding,
        applier: Applier,
        drivers: Drivers,
        *,
        worker: str,
        lease_s: float,
        now: Callable[[], datetime] = utc_now,
        draw: backoff.Draw = backoff.uniform,
    ) -> None:
        self._links = links
        self._pipeline = pipeline
        self._forwarding = forwarding
        self._applier = applier
        self._drivers = drivers
        self._worker = worker
        self._lease_s = lease_s
        self._now = now
        self._draw = draw

    async def visit(
        self, visit: Visit, lease: Lease, *, crowded: Callable[[], bool] = bool
    ) -> list[Committing]:
        """Make the visit, under the lease. What came of it is on its way to the database when this returns:
        futures, each with the requests that it settles. ``crowded``: whether readings wait for a turn.
        """
        course = Course(deque(visit.asked), (self._now() - _EPOCH) // _US, asyncio.get_running_loop().time())
        course.crowded, course.target = crowded, visit.target
        committing: list[Committing] = []
        error: BaseException | None = None
        attempted = False
        if not isinstance(visit.way, Exception) or _only_pushes(visit):
            for asked in [one for one in course.todo if not one.parts]:
                course.todo.remove(asked)
                course.finish(asked, Gathered(), talked=False)
        try:
            await self._look_ahead(visit, course, lease)
            way = visit.way
            if (at := course.turn_to_station()) is not None:
                way = await self._drivers.prepare_one(at)
            if not course.todo:
                pass
            elif isinstance(way, Exception):
                raise way
            elif way.is_away:
                now = self._now()
                course.rest([backoff.away(one.waiting, now, self._draw) for one in course.todo])
            else:
                attempted = True
                await self._talk(way, course, lease, committing)
        except (CommunicationError, SealError) as failure:
            error, attempted = failure, attempted and not isinstance(failure, BreakerOpen)
            await self._turned_away(course, lease, failure)
            course.rest([self._after(one, failure) for one in course.todo])
        except (UnavailableError, PipelineClosed, LaneLost) as ours:
            error, attempted, now = ours, False, self._now()
            course.rest([backoff.after_ours(one.waiting, ours, now, self._draw) for one in course.todo])
        except Exception as defect:  # the boundary: a defect met at one meter must not end all others
            log.exception("%s: not read, by a defect", _name(visit))
            error, reason = defect, f"a defect of ours: {backoff.told(defect)}"
            course.rest([_failed(one, reason) for one in course.todo])
        if error is not None:
            log.info("%s: not read (%s): %s", _name(visit), stage_of(error) or "no conversation", error)
        course.over += course.todo  # it gave way to somebody
        attempt = self._attempt(visit, course, error or course.refusal) if attempted else None
        if course.over or attempt is not None:
            committing.append(await self._hand_on(course, lease, attempt))
        return committing

    async def _turned_away(
        self, course: Course, lease: Lease, failure: CommunicationError | SealError
    ) -> None:
        """A concentrator could not be talked with, by whoever's fault but the link's: its meter goes on."""
        asked = course.todo[0] if course.todo else None
        begun = None if asked is None else course.begun.get(asked.waiting.request_id)
        if asked is None or begun is None or begun.at is None or isinstance(failure, LinkError):
            return
        try:
            later = await self._applier.turned_away(begun, lease, backoff.told(failure))
        except (UnavailableError, LaneLost) as ours:  # it is tried again as any failure
            log.info("campaign %d is not told: %s", begun.campaign.campaign_id, backoff.told(ours))
        else:
            course.todo.popleft()
            course.finish(asked, Gathered(outcome=later), talked=False)

    async def _look_ahead(self, visit: Visit, course: Course, lease: Lease) -> None:
        """Programs of which something comes without a conversation."""
        for asked in list(course.todo):
            for part in asked.parts:
                if not isinstance(part, Apply):
                    continue
                number = asked.waiting.request_id
                course.programs[number] = part.campaign
                found = await self._applier.look_ahead(visit.target, part.campaign, visit.meter_id, lease)
                if isinstance(found, Begun):
                    course.begun[number] = found
                else:
                    course.todo.remove(asked)
                    course.finish(asked, Gathered(outcome=found), talked=False)

    async def _talk(self, way: Reachable, course: Course, lease: Lease, committing: list[Committing]) -> None:
        """One association for what is left to be read."""
        waited_for = course.todo[0].is_waited_for
        urgency = Urgency(min(one.waiting.urgency for one in course.todo))
        if urgency is Urgency.PROGRAM and course.crowded():
            urgency = Urgency.SCHEDULED  # its turn among readings has come: permits do not take it away again
        async with self._links.conversation(
            way.driver, way.way, urgency=urgency, force=waited_for
        ) as conversation:
            try:
                while course.todo and await self._next(conversation, way.way, course, lease):
                    if course.settled[-1].result is not None and course.todo:
                        committing.append(await self._hand_on(course, lease, None))
            finally:
                course.traffic = conversation.traffic

    async def _next(self, conversation: Conversation, way: Way, course: Course, lease: Lease) -> bool:
        """Read the next request; False where it gave way to somebody."""
        asked, got = course.todo[0], Gathered()

        async def forwarding(station: Conversation, outcome: StationOutcome) -> None:
            under = Settlement(frozenset([lease]), lease_s=self._lease_s)
            await self._forwarding.fetch(station, way.target.place, under, outcome)

        async def applying(one: Conversation) -> Outcome:
            return await self._applier.apply(
                one,
                course.target or way.target,
                course.begun[asked.waiting.request_id],
                lease,
                wanted=lambda: self._links.wanted(way),
                crowded=lambda: course.crowded() or self._links.crowded(way),
                commit=commit,
            )

        async def commit(batch: ReadingBatch) -> None:
            under = Settlement(frozenset([lease]), lease_s=self._lease_s, urgent=True)
            await (await self._pipeline.submit(batch, under, urgent=True))

        try:
            is_over = await read(
                conversation,
                asked,
                got,
                shared=way.address.is_shared or way.target.place.station_id is not None,
                gives_way=lambda: self._links.wanted(way),
                forwarding=forwarding,
                applying=applying,
                now=self._now,
            )
        except PeerRefused as refused:  # it would not give this; the conversation goes on
            course.todo.popleft()
            course.take(got)
            course.refusal = course.refusal or refused
            course.settled.append(self._after(asked, refused))
            course.over.append(asked)
            return True
        except BaseException:
            course.take(got)
            raise
        if is_over:
            course.todo.popleft()
            course.finish(asked, got, talked=True)
        else:
            course.take(got)
        return is_over

    def _after(self, asked: Asked, error: BaseException) -> Settled:
        return backoff.after_failure(asked.waiting, error, asked.retry, self._now(), self._draw)

    async def _hand_on(self, course: Course, lease: Lease, attempt: Attempt | None) -> Committing:
        if course.programs:
            await self._give_up(course, lease)
        batch, settlement, over = course.hand_on(lease, self._lease_s, attempt)
        return await self._pipeline.submit(batch, settlement, urgent=settlement.urgent), over

    async def _give_up(self, course: Course, lease: Lease) -> None:
        """Where no further attempt is made at a program, the meter's part in its campaign is over."""
        meters = {one.waiting.request_id: one.waiting.meter_id for one in course.over}
        for one in course.settled:
            if one.state is RequestState.FAILED and one.request_id in course.programs:
                campaign_id, why = course.programs[one.request_id], one.reason or "it failed"
                try:
                    await self._applier.gave_up(campaign_id, meters[one.request_id], lease, one.stage, why)
                except (UnavailableError, LaneLost) as error:  # the campaign sees that its request failed
                    log.info("campaign %d is not told: %s", campaign_id, backoff.told(error))

    def _attempt(self, visit: Visit, course: Course, error: BaseException | None) -> Attempt:
        first = visit.asked[0].waiting
        return Attempt(
            course.began_us,
            first.request_id,
            first.job_id,
            visit.meter_id,
            round((asyncio.get_running_loop().time() - course.began) * 1000),
            *course.traffic,
            course.rows,
            first.attempts + 1,
            None if error is None else stage_of(error),
            None if error is None else _fault(error),
            None if error is None else backoff.told(error),
            self._worker,
        )


def _only_pushes(visit: Visit) -> bool:
    return visit.target is not None and visit.target.meter.address is None


def _failed(asked: Asked, reason: str) -> Settled:
    return Settled(asked.waiting.request_id, RequestState.FAILED, reason=reason)


def _fault(error: BaseException) -> str:
    return error.fault.value if isinstance(error, CommunicationError) else "ours"


def _name(visit: Visit) -> str:
    return f"meter number {visit.meter_id}" if visit.target is None else visit.target.meter.asset_id
