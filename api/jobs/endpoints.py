"""Jobs: paged list, one with its progress, its requests, its events as they happen, and its end by hand."""

import contextlib
import random
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import paging
from api.auth import OperatorWithin, ReaderWithin, actor
from api.errors import NotFound, Unavailable, responses
from api.jobs.models import JobDetail, JobModel, JobPage, RequestModel, RequestPage
from api.meters.lookup import within
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from headend.moment import feed, reads
from headend.moment.feed import Feeds
from headend.moment.progress import Progress, progress
from headend.moment.watch import look
from headend.store import jobs, results, webhooks
from headend.store.sql import Connection
from schemas.failure import Stage
from schemas.job import JobKind, RequestState
from schemas.people import Principal

router = APIRouter(tags=["jobs"], route_class=StrictRoute)

#: Milliseconds after which a client that lost its stream comes again: drawn, so that not all come at once.
_COME_AGAIN_MS: Final = (1_000, 5_000)

_STREAM: Final = 'event: progress\ndata: {"id": 4711, "state": "open", "counts": {"total": 3, "open": 1}}\n\n'

JobId = Annotated[int, Path(ge=1, le=2**63 - 1, description="the job's number", examples=[4711])]
After = Annotated[str | None, Query(max_length=512, description="cursor of the last page")]


class JobState(StrEnum):
    """Whether anything of a job is open."""

    OPEN = "open"
    ENDED = "ended"


@router.get("/jobs", summary="Jobs, paged and filtered", responses=responses(400, 401, 403, 422, 503))
async def list_jobs(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    kind: Annotated[JobKind | None, Query(description="only jobs of this kind")] = None,
    state: Annotated[JobState | None, Query(description="only jobs in this state")] = None,
    schedule: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="only runs of the schedule of this number")
    ] = None,
    limit: Limit = 100,
    after: After = None,
) -> JobPage:
    """Newest first. ``next`` in the answer and the Link header lead to the next page. Whoever is limited to
    areas sees his own, and those that ask nobody else than meters and stations of these areas."""
    before = None if after is None else _number(after)
    async with house.pool.connection() as connection:
        found = await jobs.page(
            connection,
            limit=limit + 1,
            before=before,
            kind=kind,
            schedule_id=schedule,
            is_open=None if state is None else state is JobState.OPEN,
            within=await within(connection, asking),
            own=asking.actor,
        )
        page = found[:limit]
        counts = await jobs.counts(connection, [job.job_id for job in page])
    cursor = paging.encode([page[-1].job_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    told = [JobModel.model_validate(JobModel.fields(job, counts[job.job_id])) for job in page]
    return JobPage(jobs=told, next=cursor)


@router.get(
    "/jobs/{job_id}", summary="One job and how far it is", responses=responses(400, 401, 403, 404, 422, 503)
)
async def get_job(
    asking: ReaderWithin, house: Annotated[Services, Depends(services)], job_id: JobId
) -> JobDetail:
    """Requests by state, failures by stage, and when it will be done at the rate of the last minute."""
    async with house.pool.connection() as connection:
        await _known(connection, job_id, asking)
        return await detail(connection, house, job_id)


@router.get(
    "/jobs/{job_id}/requests",
    summary="What a job wants of each meter, and what came of it",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def list_requests(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    job_id: JobId,
    state: Annotated[RequestState | None, Query(description="only requests in this state")] = None,
    stage: Annotated[Stage | None, Query(description="only those whose last attempt failed there")] = None,
    limit: Limit = 100,
    after: After = None,
) -> RequestPage:
    """In the order in which they were made. ``next`` and the Link header lead to the next page."""
    last = 0 if after is None else _number(after)
    async with house.pool.connection() as connection:
        await _known(connection, job_id, asking)
        found = await results.page(connection, job_id, limit=limit + 1, after=last, state=state, stage=stage)
    page = found[:limit]
    cursor = paging.encode([page[-1].request_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return RequestPage(requests=[RequestModel.of(one) for one in page], next=cursor)


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel what is open of a job",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def cancel_job(
    token: OperatorWithin, house: Annotated[Services, Depends(services)], job_id: JobId
) -> JobDetail:
    """What is under way at a meter ends by itself and is stored. Again, or when it has ended: no effect."""
    async with house.pool.connection() as connection:
        await _known(connection, job_id, token)
        await reads.cancel(connection, job_id, actor=actor(token))
    async with house.pool.connection() as connection:
        return await detail(connection, house, job_id)


async def _followed(
    house: Annotated[Services, Depends(services)], asking: ReaderWithin, job_id: JobId
) -> Feeds:
    """The feeds, where there is such a job and room: a stream that has begun can refuse nothing."""
    async with house.pool.connection() as connection:
        await _known(connection, job_id, asking)
    try:
        house.moment.feeds.check_room()
    except feed.TooMany as error:
        raise Unavailable(str(error), headers={"Retry-After": "5"}) from error
    return house.moment.feeds


@router.get(
    "/jobs/{job_id}/events",
    summary="A job as it goes on, as server-sent events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events: result, progress, end",
            "content": {"text/event-stream": {"example": _STREAM}},
        },
        **responses(400, 401, 403, 404, 422, 503),
    },
)
async def job_events(
    _asking: ReaderWithin, job_id: JobId, feeds: Annotated[Feeds, Depends(_followed)]
) -> AsyncIterator[ServerSentEvent]:
    """Begins with everything as it is; then each change, until the job ends or the service stops.

    ``result`` is a request that has ended (as in ``/requests``; told of jobs with at most 500 requests),
    ``progress`` the job (as in ``/jobs/{id}``), ``end`` the same once more, as the last event. A stream that
    was lost is taken up by asking again: it begins with everything, and results have the numbers of their
    requests. A comment comes every 15 seconds.
    """
    last: Progress | None = None
    retry: int | None = random.randint(*_COME_AGAIN_MS)  # noqa: S311 - jitter, not a secret
    async with contextlib.aclosing(feeds.follow(job_id)) as news:
        async for one in news:
            if isinstance(one, Progress):
                last = one
                yield ServerSentEvent(data=JobDetail.of(one), event="progress", retry=retry)
            else:
                yield ServerSentEvent(data=RequestModel.of(one), event="result", retry=retry)
            retry = None
    if last is not None and last.job.ended_at is not None:
        yield ServerSentEvent(data=JobDetail.of(last), event="end")


async def detail(connection: Connection, house: Services, job_id: int) -> JobDetail:
    """A job as of now. 404 where there is none."""
    now = house.clock()
    job = await look(connection, job_id)
    if job is None:
        raise _unknown(job_id)
    counted = await results.tally(connection, job_id, now=now)
    return JobDetail.of(progress(job, counted, now=now), await webhooks.find(connection, job_id))


async def _known(connection: Connection, job_id: int, asking: Principal) -> None:
    """404 where there is none, and, told alike, where it is another's and asks somebody outside of the areas
    of who asks."""
    job = await jobs.find(connection, job_id)
    if job is None:
        raise _unknown(job_id)
    own = None if job.actor == asking.actor else await within(connection, asking)
    if own is not None and not await jobs.is_within(connection, job_id, own):
        raise _unknown(job_id)


def _unknown(job_id: int) -> NotFound:
    return NotFound(f"there is no job {job_id}; GET /api/v1/jobs lists them")


def _number(after: str) -> int:
    number: int = paging.decode(after, int)[0]
    return max(0, min(number, 2**63 - 1))
