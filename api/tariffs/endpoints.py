"""Tariffs of a meter by time, and documents checked before anybody is told of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.auth import allowed
from api.errors import BadValue, responses
from api.meters.lookup import meter_by_asset
from api.services import Services, services
from api.shapes import AssetId, Limit
from api.strict_json import StrictRoute
from api.tariffs.models import CheckAnswer, CheckBody, FindingModel, MeterTariffModel, MeterTariffs
from api.times import instant
from headend.drivers.commands.tariff import limits_of
from headend.store import tariffs
from schemas.model import ModelError
from schemas.model.tariff import TariffLimits
from schemas.models import load_any
from schemas.people import Permission, Principal
from schemas.tariff.reading import read, read_plain

router = APIRouter(tags=["tariffs"], route_class=StrictRoute)
Reader = Annotated[Principal, Depends(allowed(Permission.READ))]


@router.get(
    "/meters/{asset_id}/tariffs",
    summary="Which time-of-use program a meter had from when to when",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def list_meter_tariffs(
    asset_id: AssetId,
    _principal: Reader,
    house: Annotated[Services, Depends(services)],
    at: Annotated[str | None, Query(max_length=64, description="what it had then: one, or none")] = None,
    limit: Limit = 100,
) -> MeterTariffs:
    """Newest first. A calendar that a campaign brought is known by when it became active; one that was found
    in the meter by when that was (``is_exact`` false)."""
    when = None if at is None else instant(at, "at")
    async with house.pool.connection() as connection:
        meter = await meter_by_asset(connection, asset_id)
        found = await tariffs.history(connection, meter.meter_id, at=when, limit=limit)
    return MeterTariffs(tariffs=[MeterTariffModel.of(one) for one in found])


@router.post(
    "/tariffs/check",
    summary="Say all that is wrong with a tariff document",
    responses=responses(400, 401, 403, 413, 422, 503),
)
async def check_tariff(
    body: CheckBody, _principal: Reader, house: Annotated[Services, Depends(services)]
) -> CheckAnswer:
    """Gaps, overlaps, times that are none, seasons that never come, holidays on other weekdays, activations
    in the past, and what meters of ``model`` do not take. Nothing is stored. A document with errors is a good
    question: the answer is 200."""
    limits = None if body.model is None else _limits(body.model, house)
    now = house.clock()
    if body.text is not None:
        found = read(body.text, limits=limits, now=now)
    else:
        found = read_plain(body.document or {}, limits=limits, now=now)
    return CheckAnswer(is_right=found.is_right, findings=[FindingModel.of(one) for one in found.findings])


def _limits(model: str, house: Services) -> TariffLimits:
    try:
        found = limits_of(load_any(model, house.profile_folders))
    except ModelError as error:
        raise BadValue.field("/model", str(error)) from error
    if found is None:
        raise BadValue.field("/model", f"meter model {model} says nothing of tariffs")
    return found
