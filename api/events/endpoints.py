"""GET of events: filtered by whom they speak of, what they mean and where they came from."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from api import paging
from api.auth import ReaderWithin
from api.errors import BadValue, Place, responses
from api.events.models import EventModel, EventPage, as_csv, page_responses
from api.meters.lookup import meter_by_asset, within
from api.services import Services, services
from api.shapes import Limit
from api.times import instant, rfc3339
from headend.store import events
from headend.store.events import EventFilter
from schemas.event import EventLog, EventMeaning

router = APIRouter(tags=["events"])


@router.get(
    "/events",
    summary="What meters, concentrators and brokers report, newest first",
    response_model=None,
    responses={**page_responses(), **responses(400, 401, 403, 404, 422, 503)},
)
async def list_events(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    meter: Annotated[str | None, Query(max_length=128, description="asset id of a meter")] = None,
    node: Annotated[
        str | None, Query(max_length=128, description="code of the node that it speaks of, or that told it")
    ] = None,
    feeder: Annotated[
        str | None, Query(max_length=128, description="what stands below this feeder now")
    ] = None,
    transformer: Annotated[
        str | None, Query(max_length=128, description="what stands below this transformer now")
    ] = None,
    meaning: Annotated[list[EventMeaning] | None, Query(max_length=64, description="any of these")] = None,
    log: Annotated[list[EventLog] | None, Query(max_length=16, description="any of these")] = None,
    from_: Annotated[
        str | None, Query(alias="from", max_length=64, description="that happened from then on, inclusive")
    ] = None,
    to: Annotated[str | None, Query(max_length=64, description="that happened before then")] = None,
    limit: Limit = 200,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
    format: Annotated[Literal["json", "csv"], Query(description="media type of the answer")] = "json",  # noqa: A002 - the parameter's public name
) -> Response | EventPage:
    """Events of a half-open range [from, to) by the meter's own time, ours where it told none.

    Nothing is concluded here: a power failure that a meter's logs, an alarm and its concentrator tell of is
    as many events. Each is told once, however often it was read or sent. Whoever is limited to areas sees
    those of his meters, and those of stations in his areas.
    """
    since = None if from_ is None else instant(from_, "from")
    until = None if to is None else instant(to, "to")
    if since is not None and until is not None and since >= until:
        detail = "must be later than 'from'; the range is half-open [from, to)"
        raise BadValue(f"to: {detail}", places=[Place(parameter="to", detail=detail)])
    before = _position(after)
    async with house.pool.connection() as connection:
        number = None if meter is None else (await meter_by_asset(connection, meter, asking)).meter_id
        only = EventFilter(
            since,
            until,
            number,
            node,
            tuple(code for code in (feeder, transformer) if code is not None),
            tuple(meaning or ()),
            tuple(log or ()),
            await within(connection, asking),
        )
        found = await events.page(connection, only, limit=limit + 1, before=before)
    page, more = found[:limit], len(found) > limit
    cursor = paging.encode([rfc3339(page[-1].at), str(page[-1].identity)]) if more else None
    told = [EventModel.of(one) for one in page]
    if format == "csv":
        text = Response(as_csv(told), media_type="text/csv; charset=utf-8; header=present")
        paging.link_next(request, text, cursor)
        return text
    paging.link_next(request, response, cursor)
    return EventPage(events=told, next=cursor)


def _position(after: str | None) -> tuple[datetime, UUID] | None:
    if after is None:
        return None
    at, identity = paging.decode(after, str, str)
    try:
        return datetime.fromisoformat(at).astimezone(UTC), UUID(identity)
    except (ValueError, OverflowError):
        raise BadValue.parameter(
            "after", "is no cursor of this list; use the one that the last answer has"
        ) from None
