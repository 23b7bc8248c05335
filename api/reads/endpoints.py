"""Reads on demand: of many meters as a job, of one with its values as the answer. Both go through the lanes,
beside whatever else is read: a meter is never dialled twice at once.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Response

from api.auth import OperatorWithin, actor
from api.errors import BadValue, Conflict, Forbidden, MeterFailed, NoAnswer, Place, responses
from api.headers import CorrelationId, IdempotencyKey, correlation, visible
from api.jobs.endpoints import detail
from api.jobs.models import JobAnswer, RequestModel
from api.meters.lookup import meter_by_asset, meters_within
from api.reads.models import MAX_PROFILE_RANGE, ReadAnswer, ReadAsk, ReadsAsk, WebhookAsk, bad_range
from api.services import Services, services
from api.shapes import AssetId, obis
from api.strict_json import StrictRoute
from api.times import half_open
from headend.moment import destination, reads
from headend.moment.reads import Ask, Begun, Key, KeyReused
from headend.moment.secrets import NoSecret
from headend.store import on_demand, results, selection
from headend.store.results import Result
from headend.store.sql import Connection
from headend.store.webhooks import NewWebhook
from schemas.job import CurveRange, Registers, RequestState, Retry, Work
from schemas.people import Principal
from schemas.read_result import ReadResult

log = logging.getLogger(__name__)

router = APIRouter(tags=["reads"], route_class=StrictRoute)

#: Jobs with more meters are not waited for, and their results come in pages.
MOST_AT_ONCE: Final = 1_000
#: Places of unknown meters that a refusal names.
_MOST_PLACES: Final = 100
#: Seconds that a person waits for one meter, waiting for its link included.
PATIENCE_S: Final = 120.0
#: And until that is told: who reads it has its own time to say so.
_GRACE_S: Final = 3.0


@router.post(
    "/reads",
    summary="Read meters now",
    responses={
        202: {"model": JobAnswer, "description": "Not ended yet: follow the job that Location names"},
        **responses(400, 401, 403, 409, 413, 422, 503),
    },
)
async def read_meters(
    token: OperatorWithin,
    house: Annotated[Services, Depends(services)],
    response: Response,
    ask: ReadsAsk,
    key: IdempotencyKey = None,
    correlation_id: CorrelationId = None,
) -> JobAnswer:
    """200 with what came of each meter where the job ends within ``wait_s``, else 202: follow the job.

    Nothing is begun where a meter of the list is unknown. Of more than 1,000 meters the results are in
    ``/jobs/{id}/requests`` only. A failed meter is a result like others: its state says so.
    """
    known_as = correlation(correlation_id)
    _check_works(ask.works)
    webhook = _webhook(house, ask.webhook)
    with ExitStack() as stack:
        async with house.pool.connection() as connection:
            meter_ids, about = await _whom(connection, house, ask, token)
            begun = await _begin(
                connection,
                house,
                Ask(
                    meter_ids=meter_ids,
                    works=tuple(_full(work) for work in ask.works),
                    title=f"read of {len(meter_ids)} meters" if about is None else f"read of {about}",
                    about=f"meter:{about}",
                    actor=actor(token),
                    correlation_id=known_as,
                    within=timedelta(seconds=ask.within_s),
                    priority=ask.priority,
                    retry=Retry(attempts=ask.attempts),
                    webhook=webhook,
                ),
                None
                if key is None
                else Key(_whose(token), visible("Idempotency-Key", key), _digest(ask.identity)),
            )
            waiter = stack.enter_context(house.moment.watch.of(begun.job_id))
            if not (begun.is_new and meter_ids):
                waiter.wake()  # it may have ended already
        if len(meter_ids) <= MOST_AT_ONCE:
            await house.moment.watch.until_end(begun.job_id, waiter, ask.wait_s, most=0)
    async with house.pool.connection() as connection:
        job = await detail(connection, house, begun.job_id)
        found: Sequence[Result] = ()
        if job.ended_at is not None and job.counts.total <= MOST_AT_ONCE:
            found = await results.page(connection, begun.job_id, limit=MOST_AT_ONCE)
    response.headers["Location"] = f"/api/v1/jobs/{begun.job_id}"
    response.headers["X-Correlation-Id"] = job.correlation_id
    response.status_code = 202 if job.ended_at is None else 200
    return JobAnswer(job=job, results=[RequestModel.of(one) for one in found])


@router.post(
    "/meters/{asset_id}/reads",
    summary="Read a meter now and store what it gives",
    responses=responses(400, 401, 403, 404, 409, 413, 422, 500, 502, 503, 504),
)
async def read_meter_now(
    token: OperatorWithin,
    house: Annotated[Services, Depends(services)],
    response: Response,
    asset_id: AssetId,
    ask: ReadAsk,
    correlation_id: CorrelationId = None,
) -> ReadAnswer:
    """Dials the meter and answers when it has. A failed exchange says whose fault, and at which stage."""
    known_as = correlation(correlation_id)
    works = _works(ask)
    with ExitStack() as stack:
        async with house.pool.connection() as connection:
            meter = await meter_by_asset(connection, asset_id, token)
            if meter.address is None:
                raise Conflict(f"meter {asset_id!r} has no address; it only pushes")
            # Committed before the meter is dialled: what was tried stays on record however it ends.
            begun = await _begin(
                connection,
                house,
                Ask(
                    meter_ids=(meter.meter_id,),
                    works=works,
                    title=f"read of {asset_id}",
                    about=f"meter:{asset_id}",
                    actor=actor(token),
                    correlation_id=known_as,
                    within=timedelta(seconds=PATIENCE_S),
                    retry=Retry(attempts=1),
                ),
            )
            number = begun.job_id
            waiter = stack.enter_context(house.moment.watch.of(number))
        job, found = await house.moment.watch.until_end(number, waiter, PATIENCE_S + _GRACE_S, most=1)
    response.headers["X-Correlation-Id"] = known_as
    if job is None or not found:
        raise Conflict(f"job {number} was removed before meter {asset_id!r} was read")
    one = found[0]
    if one.state is RequestState.FAILED:
        async with house.pool.connection() as connection:
            fault = await results.fault(connection, one.request_id, since=job.created_at)
        raise MeterFailed(one.stage, one.reason or "", fault)
    if one.state is RequestState.CANCELLED:
        raise Conflict(f"job {number} was cancelled before meter {asset_id!r} was read")
    if one.state is not RequestState.DONE:
        async with house.pool.connection() as connection:
            await reads.cancel(connection, number, actor=actor(token))
        raise NoAnswer(
            f"meter {asset_id!r} was not read within {PATIENCE_S:g} s: "
            f"{one.reason or 'its turn did not come'}; does a worker run?"
        )
    result = ReadResult.model_validate(one.result or {})
    return ReadAnswer(
        meter=asset_id,
        job=number,
        registers=list(result.registers),
        refused=list(result.refused),
        intervals=result.intervals,
        stored=result.stored,
    )


async def _begin(connection: Connection, house: Services, ask: Ask, key: Key | None = None) -> Begun:
    """The job. 422 for a key that stands for something else."""
    try:
        begun = await reads.begin(connection, ask, now=house.clock(), key=key)
    except KeyReused as error:
        raise BadValue.parameter("Idempotency-Key", str(error)) from error
    if begun.is_new:
        log.info(
            "job %d, %s, of %s, correlation id %s", begun.job_id, ask.title, ask.actor, ask.correlation_id
        )
    return begun


def _whose(asking: Principal) -> int:
    """What an idempotency key is bound to: a token, or (a negative number) an account that has none."""
    return asking.token if asking.token is not None else -(asking.account or 0)


# ---- whom -----------------------------------------------------------------------------------------------


async def _whom(
    connection: Connection, house: Services, ask: ReadsAsk, asking: Principal
) -> tuple[tuple[int, ...], str | None]:
    """Numbers of the meters, each once, and the name where it is a single one. 422 with the places of those
    that are unknown or cannot be asked."""
    within = await meters_within(connection, asking)
    if ask.selection is not None:
        unknown = await selection.unknown(connection, ask.selection)
        _refuse([Place(pointer=f"/selection{one.pointer}", detail=one.reason) for one in unknown])
        selected = await selection.meters(connection, ask.selection, at=house.clock())
        if within is not None and (beyond := len(set(selected) - within)):
            areas = ", ".join(sorted(asking.areas or ()))
            raise Forbidden(f"{beyond} meters of the selection are outside of {areas}; nothing was begun")
        return tuple(selected), None
    names = ask.meters or []
    found = await on_demand.named(connection, names)
    wrong = []
    for place, (name, meter) in enumerate(zip(names, found, strict=True)):
        if meter is None or (within is not None and meter.meter_id not in within):
            wrong.append(Place(pointer=f"/meters/{place}", detail=f"no meter has the asset id {name!r}"))
        elif meter.address is None:
            wrong.append(
                Place(pointer=f"/meters/{place}", detail=f"meter {name!r} has no address; it only pushes")
            )
    _refuse(wrong)
    ids = tuple(dict.fromkeys(meter.meter_id for meter in found if meter is not None))
    return ids, names[0] if len(ids) == 1 else None


def _refuse(wrong: Sequence[Place]) -> None:
    if wrong:
        first = "; ".join(f"{one.pointer}: {one.detail}" for one in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BadValue(f"{first}{more}; nothing was begun", places=wrong[:_MOST_PLACES])


# ---- what -----------------------------------------------------------------------------------------------


def _check_works(works: Sequence[Work]) -> None:
    for place, work in enumerate(works):
        if isinstance(work, CurveRange) and (bad := bad_range(work)) is not None:
            raise BadValue.field(f"/works/{place}/{bad[0]}", bad[1])
        if isinstance(work, Registers):
            for n, code in enumerate(work.obis):
                _obis(code, f"/works/{place}/obis/{n}")
        if work.kind == "billing":
            _obis(work.obis, f"/works/{place}/obis")


def _obis(code: str, pointer: str) -> str:
    try:
        return obis(code)
    except ValueError as error:
        raise BadValue.field(pointer, str(error)) from error


def _full(work: Work) -> Work:
    """With codes in their full written form, each once."""
    if isinstance(work, Registers):
        return work.model_copy(update={"obis": tuple(dict.fromkeys(obis(code) for code in work.obis))})
    return work


def _works(ask: ReadAsk) -> tuple[Work, ...]:
    works: list[Work] = []
    if ask.profile is not None:
        try:
            asked = half_open(ask.profile.from_, ask.profile.to, longest=MAX_PROFILE_RANGE)
        except BadValue as exc:
            (place,) = exc.places
            raise BadValue.field(f"/profile/{place.parameter}", place.detail) from exc
        works.append(CurveRange(profile=ask.profile.number, since=asked.start, until=asked.end))
    if ask.obis:
        works.append(Registers(obis=tuple(dict.fromkeys(ask.obis))))
    return tuple(works)


# ---- headers and webhook ---------------------------------------------------------------------------------


def _webhook(house: Services, ask: WebhookAsk | None) -> NewWebhook | None:
    if ask is None:
        return (
            None
            if house.moment.webhook_url is None
            else house.moment.secrets.sealed(house.moment.webhook_url, None)
        )
    try:
        destination.check(ask.url, house.moment.webhook_hosts)
    except destination.BadDestination as error:
        raise BadValue.field("/webhook/url", str(error)) from error
    try:
        return house.moment.secrets.sealed(ask.url, ask.secret)
    except NoSecret as error:
        raise BadValue.field("/webhook/secret", str(error)) from error


def _digest(identity: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()
