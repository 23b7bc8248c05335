"""Schedules. A change is checked with all its places, audited in its transaction, and guarded by If-Match."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Annotated, Final
from urllib.parse import quote
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from api import paging
from api.auth import Operator, ReaderWithin, actor
from api.errors import BadValue, NotFound, Place, Stale, responses
from api.jobs.models import JobModel, JobPage
from api.meters.lookup import within
from api.schedules.models import (
    RunList,
    RunModel,
    ScheduleBody,
    ScheduleDetail,
    SchedulePage,
    StartedModel,
)
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from api.times import instant
from headend.schedules import calendar, changes, planner
from headend.schedules.changes import ChangedError
from headend.schedules.check import ScheduleError
from headend.store import jobs, schedules
from headend.store.errors import UnknownError
from headend.store.schedules import StoredSchedule
from schemas.schedule import Schedule

router = APIRouter(tags=["schedules"], route_class=StrictRoute)

_READ: Final = responses(400, 401, 403, 404, 422, 503)
_CHANGE: Final = responses(400, 401, 403, 404, 409, 412, 413, 422, 503)
Name = Annotated[
    str, Path(description="the schedule's name", min_length=1, max_length=128, examples=["nightly"])
]
IfMatch = Annotated[
    str | None,
    Header(
        max_length=128, description="the ETag of the schedule that was looked at: 412 if it changed since"
    ),
]


@router.get(
    "/schedules", summary="Schedules, paged and filtered", responses=responses(400, 401, 403, 422, 503)
)
async def list_schedules(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    enabled: Annotated[bool | None, Query(description="only those that run, or only paused ones")] = None,
    group: Annotated[
        str | None, Query(max_length=128, description="only those that select this group")
    ] = None,
    q: Annotated[str | None, Query(max_length=128, description="part of the name, in any case")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> SchedulePage:
    """In order of names. ``next`` in the answer and the Link header lead to the next page. Whoever is limited
    to areas sees the schedules that can ask nobody else: all groups, all stations or all meters that they
    name are in these areas."""
    last = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        found = await schedules.page(
            connection,
            limit=limit + 1,
            after=last,
            enabled=enabled,
            group=group,
            q=q,
            within=await within(connection, asking),
        )
    page = found[:limit]
    cursor = paging.encode([page[-1].plan.name]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return SchedulePage(schedules=[ScheduleDetail.of(one) for one in page], next=cursor)


@router.post("/schedules", summary="Make a schedule", status_code=201, responses=_CHANGE)
async def create_schedule(
    token: Operator, house: Annotated[Services, Depends(services)], response: Response, body: ScheduleBody
) -> ScheduleDetail:
    """It runs at the first of its times from now on. 422 tells every place that is wrong, and nothing is
    made; 409 where the name is in use."""
    async with _told(), house.pool.connection() as connection:
        made = await changes.add(
            connection, _plan(body), now=house.clock(), actor=actor(token), folders=house.profile_folders
        )
    response.headers["Location"] = f"/api/v1/schedules/{quote(made.plan.name, safe='')}"
    return _detail(made, response)


@router.get("/schedules/{name}", summary="One schedule", responses=_READ)
async def get_schedule(
    asking: ReaderWithin, house: Annotated[Services, Depends(services)], response: Response, name: Name
) -> ScheduleDetail:
    """As it stands; its ETag is for If-Match of a change. Within areas as in the list."""
    async with _told(), house.pool.connection() as connection:
        own = await within(connection, asking)
        return _detail(await schedules.get(connection, name, within=own), response)


@router.put("/schedules/{name}", summary="Change a schedule", responses=_CHANGE)
async def change_schedule(
    token: Operator,
    house: Annotated[Services, Depends(services)],
    response: Response,
    name: Name,
    body: ScheduleBody,
    if_match: IfMatch = None,
) -> ScheduleDetail:
    """All of it, its name too. It runs next at the first of its new times from now on; jobs that it became
    go on as they are. 409 for schedules that follow the settings."""
    async with _told(), house.pool.connection() as connection:
        changed = await changes.change(
            connection,
            name,
            _plan(body),
            now=house.clock(),
            actor=actor(token),
            version=_version(if_match),
            folders=house.profile_folders,
        )
    return _detail(changed, response)


@router.delete("/schedules/{name}", summary="Remove a schedule", status_code=204, responses=_CHANGE)
async def remove_schedule(
    token: Operator, house: Annotated[Services, Depends(services)], name: Name, if_match: IfMatch = None
) -> None:
    """Jobs that it has become stay, and go on."""
    async with _told(), house.pool.connection() as connection:
        await changes.remove(connection, name, actor=actor(token), version=_version(if_match))


@router.post("/schedules/{name}/pause", summary="Pause a schedule", responses=_CHANGE)
async def pause_schedule(
    token: Operator, house: Annotated[Services, Depends(services)], response: Response, name: Name
) -> ScheduleDetail:
    """Until it is resumed; again, it has no effect."""
    return await _enable(house, response, name, enabled=False, who=actor(token))


@router.post("/schedules/{name}/resume", summary="Resume a schedule", responses=_CHANGE)
async def resume_schedule(
    token: Operator, house: Annotated[Services, Depends(services)], response: Response, name: Name
) -> ScheduleDetail:
    """From its next time on; runs of the pause are not made up for. Again, it has no effect."""
    return await _enable(house, response, name, enabled=True, who=actor(token))


@router.post("/schedules/{name}/run", summary="Run a schedule now", status_code=202, responses=_CHANGE)
async def run_schedule(
    token: Operator, house: Annotated[Services, Depends(services)], response: Response, name: Name
) -> StartedModel:
    """Besides its runs, paused or not; window and deadline count from now. Follow the job of the Location."""
    async with _told(), house.pool.connection() as connection:
        planned = await planner.run_now(
            connection,
            name,
            house.clock(),
            actor=actor(token),
            correlation_id=str(uuid4()),
            folders=house.profile_folders,
        )
    response.headers["Location"] = f"/api/v1/jobs/{planned.job_id}"
    return StartedModel.of(planned)


@router.get("/schedules/{name}/runs", summary="When a schedule runs next", responses=_READ)
async def next_runs(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    name: Name,
    n: Annotated[int, Query(ge=1, le=400, description="so many runs")] = 10,
    after: Annotated[
        str | None, Query(max_length=64, description="later than this (RFC 3339 with an offset); default now")
    ] = None,
) -> RunList:
    """As if it were not paused: in UTC and on the clocks of its zone, with window and deadline."""
    begin = house.clock() if after is None else instant(after, "after")
    async with _told(), house.pool.connection() as connection:
        plan = (await schedules.get(connection, name, within=await within(connection, asking))).plan
    try:
        runs = islice(calendar.runs(plan, begin), n)
        told = [RunModel.of(calendar.times(plan, run), plan.zone) for run in runs]
    except OverflowError as exc:
        raise BadValue.parameter("after", "is at the end of the calendar") from exc
    return RunList(zone=plan.zone, runs=told)


@router.get("/schedules/{name}/jobs", summary="What a schedule became", responses=_READ)
async def list_jobs_of_schedule(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    name: Name,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> JobPage:
    """Its jobs, newest first. ``next`` in the answer and the Link header lead to the next page. Whoever is
    limited to areas sees those that asked nobody else."""
    before = None if after is None else paging.decode(after, int)[0]
    if before is not None and not 0 <= before < 2**63:
        raise BadValue.parameter("after", "is no cursor of this list")
    async with _told(), house.pool.connection() as connection:
        own = await within(connection, asking)
        stored = await schedules.get(connection, name, within=own)
        found = await jobs.page(
            connection,
            limit=limit + 1,
            before=before,
            schedule_id=stored.schedule_id,
            within=own,
            own=asking.actor,
        )
        page = found[:limit]
        counts = await jobs.counts(connection, [job.job_id for job in page])
    cursor = paging.encode([page[-1].job_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    told = [JobModel.model_validate(JobModel.fields(job, counts[job.job_id])) for job in page]
    return JobPage(jobs=told, next=cursor)


async def _enable(
    house: Services, response: Response, name: str, *, enabled: bool, who: str
) -> ScheduleDetail:
    async with _told(), house.pool.connection() as connection:
        changed = await changes.enable(connection, name, enabled=enabled, now=house.clock(), actor=who)
    return _detail(changed, response)


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """What goes wrong with schedules, in the API's words."""
    try:
        yield
    except ScheduleError as exc:
        places = [Place(pointer=one.pointer, detail=one.reason) for one in exc.wrong]
        raise BadValue(str(exc), places=places) from exc
    except ChangedError as exc:
        raise Stale(str(exc)) from exc
    except UnknownError as exc:
        raise NotFound(f"{exc}; GET /api/v1/schedules lists them") from exc


def _plan(body: ScheduleBody) -> Schedule:
    return Schedule.model_construct(**dict(body))


def _detail(stored: StoredSchedule, response: Response) -> ScheduleDetail:
    response.headers["ETag"] = _tag(stored.version)
    return ScheduleDetail.of(stored)


def _tag(version: int) -> str:
    return f'"{version}"'


def _version(if_match: str | None) -> int | None:
    """The version that If-Match names; None where any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    told = if_match.strip().removeprefix('"').removesuffix('"')
    if told.isascii() and told.isdigit() and _tag(int(told[:18])) == if_match.strip():
        return int(told)
    raise Stale(f"If-Match {if_match[:32]!r} is no ETag of a schedule; GET it first")
