"""How complete load curves are now and will be, who is missing and why, gaps, and reports of nights."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import paging
from api.auth import ReaderWithin
from api.completeness.models import (
    ChannelModel,
    Channels,
    Completeness,
    ForecastModel,
    GapModel,
    GapPage,
    GroupModel,
    MissingModel,
    MissingPage,
    Numbers,
    ReportModel,
    ReportPage,
    span,
)
from api.completeness.window import Asked
from api.errors import BadValue, NotFound, responses
from api.meters.lookup import meter_by_asset, meters_within, within
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from headend.completeness.standing import standing
from headend.store import completeness, gaps, reports
from headend.store.completeness import By, MissingFilter
from headend.store.gaps import GapState

router = APIRouter(tags=["completeness"], route_class=StrictRoute)

#: To count values, rows are read.
_LONGEST_OF_CHANNELS: Final = timedelta(days=2)

_After = Annotated[str | None, Query(max_length=512, description="cursor of the last page")]
_House = Annotated[Services, Depends(services)]


def _filter(description: str) -> object:
    return Query(max_length=128, description=description)


@router.get(
    "/completeness", summary="How complete load curves are", responses=responses(400, 401, 403, 422, 503)
)
async def get_completeness(
    asking: ReaderWithin,
    house: _House,
    request: Request,
    response: Response,
    asked: Asked,
    by: Annotated[By, Query(description="what meters are grouped by")] = By.NETWORK,
    limit: Limit = 100,
    after: _After = None,
) -> Completeness:
    """Of all commissioned meters: now, by the deadline of what is under way, and by groups. Whoever is
    limited to areas is told of the meters there, here and in all that is below."""
    skip = 0 if after is None else max(0, min(paging.decode(after, int)[0], 2**31))
    async with house.pool.connection() as connection:
        found = await standing(
            connection,
            *asked,
            now=house.clock(),
            by=by,
            limit=limit + 1,
            skip=skip,
            within=await within(connection, asking),
        )
    cursor = paging.encode([skip + limit]) if len(found.groups) > limit else None
    paging.link_next(request, response, cursor)
    return Completeness(
        **span(*asked),
        now=Numbers(**Numbers.fields(found.now)),
        forecast=ForecastModel.of(found.forecast),
        by=by,
        groups=[GroupModel.of(one) for one in found.groups[:limit]],
        next=cursor,
    )


@router.get("/completeness/missing", summary="Who is missing", responses=responses(400, 401, 403, 422, 503))
async def list_missing(
    asking: ReaderWithin,
    house: _House,
    request: Request,
    response: Response,
    asked: Asked,
    cause: Annotated[str | None, _filter("only of this cause")] = None,
    station: Annotated[str | None, _filter("only behind this concentrator or gateway")] = None,
    feeder: Annotated[str | None, _filter("only on this feeder")] = None,
    model: Annotated[str | None, _filter("only of this model")] = None,
    limit: Limit = 100,
    after: _After = None,
) -> MissingPage:
    """Curves that lack intervals, lost ones too, with the cause and what of them may still come."""
    behind = None
    if after is not None:
        asset_id, profile = paging.decode(after, str, int)
        behind = (asset_id, max(-1, min(profile, 2**31 - 1)))
    async with house.pool.connection() as connection:
        own = await meters_within(connection, asking)
        meter_ids = None if own is None else sorted(own)
        await completeness.count(connection, *asked, now=house.clock(), meter_ids=meter_ids)
        found = await completeness.missing(
            connection,
            limit=limit + 1,
            only=MissingFilter(cause, station, feeder, model),
            after=behind,
        )
    page = found[:limit]
    cursor = paging.encode([page[-1].asset_id, page[-1].profile]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return MissingPage(missing=[MissingModel.of(one) for one in page], next=cursor)


@router.get(
    "/completeness/channels",
    summary="Values within the rows, by quantity",
    responses=responses(400, 401, 403, 422, 503),
)
async def get_channels(asking: ReaderWithin, house: _House, asked: Asked) -> Channels:
    """Of the rows that are stored: how many have a place for a quantity, and how many a value. At most two
    days at a time."""
    if asked.until - asked.since > _LONGEST_OF_CHANNELS:
        raise BadValue.parameter("to", "is more than two days after 'from': values are counted row by row")
    async with house.pool.connection() as connection:
        found = await completeness.channels(connection, *asked, within=await within(connection, asking))
    return Channels(
        **span(*asked),
        channels=[ChannelModel.of(one) for one in found],
    )


@router.get("/completeness/gaps", summary="The gap ledger", responses=responses(400, 401, 403, 404, 422, 503))
async def list_gaps(
    asking: ReaderWithin,
    house: _House,
    request: Request,
    response: Response,
    state: Annotated[GapState | None, Query(description="only in this state")] = None,
    cause: Annotated[str | None, _filter("only of this cause")] = None,
    meter: Annotated[str | None, _filter("only of the meter with this asset id")] = None,
    limit: Limit = 100,
    after: _After = None,
) -> GapPage:
    """Ranges that should be there and are not, and what became of them; newest first."""
    before = _number(after)
    async with house.pool.connection() as connection:
        number = None if meter is None else (await meter_by_asset(connection, meter, asking)).meter_id
        found = await gaps.page(
            connection,
            limit=limit + 1,
            before=before,
            state=state,
            cause=cause,
            meter_id=number,
            within=await within(connection, asking),
        )
    page = found[:limit]
    cursor = paging.encode([page[-1].gap_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return GapPage(gaps=[GapModel.of(one) for one in page], next=cursor)


@router.get(
    "/completeness/reports",
    summary="Reports of the runs of schedules",
    responses=responses(400, 401, 403, 422, 503),
)
async def list_reports(
    asking: ReaderWithin,
    house: _House,
    request: Request,
    response: Response,
    schedule_id: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="only of this schedule")] = None,
    job_id: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="only of this job")] = None,
    limit: Limit = 100,
    after: _After = None,
) -> ReportPage:
    """Newest first, without their lists of stations and meters. Whoever is limited to areas sees those of
    runs that asked nobody else."""
    before = _number(after)
    async with house.pool.connection() as connection:
        found = await reports.page(
            connection,
            limit=limit + 1,
            before=before,
            schedule_id=schedule_id,
            job_id=job_id,
            within=await within(connection, asking),
        )
    page = found[:limit]
    cursor = paging.encode([page[-1].report_id]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return ReportPage(reports=[ReportModel.of(one) for one in page], next=cursor)


@router.get(
    "/completeness/reports/{report_id}",
    summary="One report",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def get_report(
    asking: ReaderWithin,
    house: _House,
    report_id: Annotated[int, Path(ge=1, le=2**63 - 1, examples=[3])],
) -> ReportModel:
    """With the stations and meters that lack something, at most 200 and 1,000."""
    async with house.pool.connection() as connection:
        found = await reports.find(connection, report_id, within=await within(connection, asking))
    if found is None:
        raise NotFound(f"no report {report_id}; GET /api/v1/completeness/reports lists them")
    return ReportModel.of(found)


def _number(after: str | None) -> int | None:
    return None if after is None else max(-(2**62), min(int(paging.decode(after, int)[0]), 2**62))
