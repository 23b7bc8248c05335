"""GET of load curves: fetched on one snapshot, the connection given back, then the answer streamed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response, StreamingResponse

from api import etag
from api.auth import Reader, ReaderWithin
from api.errors import BadValue, NotFound, Place, responses
from api.load_curves import rendering
from api.load_curves.models import LoadCurve, PointLoadCurve, curve_responses
from api.meters.lookup import meter_by_asset
from api.services import Services, services
from api.shapes import AssetId, From, PointCode, Profile, To
from api.times import Range, half_open, rfc3339
from headend.store import curves
from headend.store.curves import CurveState
from headend.store.errors import UnknownError

router = APIRouter(tags=["load curves"])

#: Rows of one answer: 400 days of quarter-hours and some. Bounds the memory that one request can take.
MAX_ROWS: Final = 50_000

Format = Annotated[Literal["json", "csv"], Query(description="media type of the answer")]
IfNoneMatch = Annotated[
    str | None,
    Header(max_length=4096, description="ETags of answers the caller already has; 304 if one still holds"),
]


@router.get(
    "/meters/{asset_id}/load-curve",
    summary="A meter's load curve, as metered",
    response_class=StreamingResponse,
    responses={**curve_responses(LoadCurve), **responses(400, 401, 403, 404, 422, 503)},
)
async def meter_load_curve(
    asking: ReaderWithin,
    house: Annotated[Services, Depends(services)],
    asset_id: AssetId,
    from_: From,
    to: To,
    format: Format = "json",  # noqa: A002 - the parameter's public name
    profile: Profile = 1,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Intervals that start in [from, to): the meter's reading at the end of each, consumption derived.

    A cumulative reading is the register at the END of its interval; consumption is the difference to the
    reading at its start, null with a reason where that is unknown or means nothing. CT/VT ratios are not
    applied here.
    """
    asked = half_open(from_, to)
    async with house.pool.connection() as connection, curves.snapshot(connection):
        meter = await meter_by_asset(connection, asset_id, asking)
        state = await curves.meter_state(connection, meter.meter_id, profile, asked.start, asked.end)
        tag, headers = _tag({"meter": asset_id}, profile, asked, format, state)
        if etag.matches(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        _check_size(state)
        before, rows = await curves.rows(connection, state)
    head = _head({"meter": asset_id}, profile, asked, state)
    return _answer(
        rendering.Curve(head, before, rows, state.layouts, clock_changes=state.clock_changes), format, headers
    )


@router.get(
    "/points/{code}/load-curve",
    summary="A metering point's load curve, across meter exchanges, with its transformer ratio",
    response_class=StreamingResponse,
    responses={**curve_responses(PointLoadCurve), **responses(400, 401, 403, 404, 422, 503)},
)
async def point_load_curve(
    _token: Reader,
    house: Annotated[Services, Depends(services)],
    code: PointCode,
    from_: From,
    to: To,
    format: Format = "json",  # noqa: A002 - the parameter's public name
    profile: Profile = 1,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Intervals that start in [from, to), of whichever meter was installed at their end, on the primary side.

    Readings and consumption are multiplied by the CT/VT ratio valid throughout the interval. Where the ratio
    changes within it, consumption is null with a reason. Where the meter was exchanged within it, consumption
    is what the old meter counted up to its removal register and the new one from its start register on; where
    one of these readings is missing, it is null with the reason meter_exchange.
    """
    asked = half_open(from_, to)
    async with house.pool.connection() as connection, curves.snapshot(connection):
        try:
            state = await curves.point_state(connection, code, profile, asked.start, asked.end)
        except UnknownError as exc:
            raise NotFound(f"no metering point has the code {code!r}; GET /api/v1/points lists them") from exc
        tag, headers = _tag({"point": code}, profile, asked, format, state)
        if etag.matches(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        _check_size(state)
        before, rows = await curves.rows(connection, state)
    head = _head({"point": code}, profile, asked, state)
    head["installations"] = [
        {"meter": i.asset_id, "from": rfc3339(i.since), "to": None if i.until is None else rfc3339(i.until)}
        for i in state.installations
        if _touches(i.since, i.until, asked)
    ]
    meters = {i.meter_id: i.asset_id for i in state.installations}
    curve = rendering.Curve(
        head, before, rows, state.layouts, meters, state.ratios, state.installations, state.clock_changes
    )
    return _answer(curve, format, headers)


def _touches(since: datetime, until: datetime | None, asked: Range) -> bool:
    return since < asked.end and (until is None or until > asked.start)


def _tag(
    what: Mapping[str, str], profile: int, asked: Range, form: str, state: CurveState
) -> tuple[str, dict[str, str]]:
    tag = etag.strong(
        what,
        profile,
        asked,
        form,
        state.fingerprint,
        state.layouts,
        state.installations,
        state.ratios,
        state.clock_changes,
    )
    return tag, {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}


def _head(what: Mapping[str, str], profile: int, asked: Range, state: CurveState) -> dict[str, Any]:
    return {
        **what,
        "profile": profile,
        "from": rfc3339(asked.start),
        "to": rfc3339(asked.end),
        "count": state.count,
        "layouts": {str(n): rendering.channels(layout) for n, layout in sorted(state.layouts.items())},
    }


def _check_size(state: CurveState) -> None:
    if state.count > MAX_ROWS:
        detail = f"the range holds {state.count} intervals; ask for one with at most {MAX_ROWS}"
        raise BadValue(f"to: {detail}", places=[Place(parameter="to", detail=detail)])


def _answer(curve: rendering.Curve, form: str, headers: dict[str, str]) -> Response:
    if form == "csv":
        return StreamingResponse(
            rendering.as_csv(curve), media_type="text/csv; charset=utf-8; header=present", headers=headers
        )
    return StreamingResponse(rendering.as_json(curve), media_type="application/json", headers=headers)
