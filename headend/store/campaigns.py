"""Campaigns: what they are, and in which state. Their meters are in `campaign_meters`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.campaign import CampaignState, MeterProgress, Plan
from schemas.program import ProgramKind

_QUERIES: Final = sql.load("campaigns")
#: Meters of a new campaign that change what the planner has to know.
_MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it is stored; times aware UTC. ``wave``: the newest that has begun, 0 the canaries."""

    campaign_id: int
    program_id: int
    title: str
    plan: Plan
    digest: bytes
    state: CampaignState
    reason: str | None
    wave: int | None
    wave_at: datetime | None
    version: int
    actor: str
    correlation_id: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    judged_from: datetime | None = None  # failures count from then on; None: all


class Placed(NamedTuple):
    """A meter of a new campaign: in which wave, or why it is not fit for it."""

    meter_id: int
    wave: int
    unfit: str | None = None
    station: int | None = None  # the node of the station that it is behind; None: it answers directly


async def create(
    connection: Connection,
    *,
    program_id: int,
    title: str,
    plan: Plan,
    digest: bytes,
    meters: Sequence[Placed],
    actor: str,
    correlation_id: str,
) -> int:
    """A new campaign with its meters, in state ``proposed``; its number. In a transaction."""
    cursor = await connection.execute(
        _QUERIES["create"],
        {
            "program": program_id,
            "title": title,
            "plan": Jsonb(plan.model_dump(mode="json")),
            "digest": digest,
            "actor": actor,
            "correlation_id": correlation_id,
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError("the campaign was not stored")
    number = int(row[0])
    fit, unfit = MeterProgress.WAITING.value, MeterProgress.INCOMPATIBLE.value
    await connection.execute(
        _QUERIES["add_meters"],
        {
            "campaign": number,
            "meters": [one.meter_id for one in meters],
            "waves": [one.wave for one in meters],
            "states": [fit if one.unfit is None else unfit for one in meters],
            "reasons": [one.unfit for one in meters],
            "stations": [one.station for one in meters],
        },
        prepare=False,
    )
    if len(meters) > _MANY:  # plans that were made for a small campaign take minutes for a large one
        await connection.execute(_QUERIES["know_them"])
    return number


async def find(connection: Connection, campaign_id: int) -> Campaign:
    """The campaign of this number. Raises UnknownError."""
    return await _one(connection, "find", campaign_id)


async def lock(connection: Connection, campaign_id: int) -> Campaign:
    """The same, kept from others until the transaction ends. Raises UnknownError."""
    return await _one(connection, "lock", campaign_id)


async def page(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    states: Sequence[CampaignState] | None = None,
    kind: ProgramKind | None = None,
    within: Collection[int] | None = None,
) -> list[Campaign]:
    """At most ``limit`` campaigns with numbers below ``before``, newest first; of those that are for none but
    the meters ``within``, where that is given."""
    cursor = await connection.execute(
        _QUERIES["page"],
        {
            "limit": limit,
            "before": before,
            "states": None if states is None else [one.value for one in states],
            "kind": None if kind is None else kind.value,
            "within": None if within is None else list(within),
        },
    )
    return [_campaign(row) for row in await cursor.fetchall()]


async def is_within(connection: Connection, campaign_id: int, meters: Collection[int]) -> bool:
    """Whether the campaign is for none but these meters; concentrators are none of them."""
    told = {"campaign": campaign_id, "within": list(meters)}
    row = await (await connection.execute(_QUERIES["outside"], told, prepare=False)).fetchone()
    return row is not None and not row[0]


async def move(
    connection: Connection,
    campaign_id: int,
    state: CampaignState,
    *,
    before: Sequence[CampaignState],
    reason: str | None = None,
) -> int:
    """Give it another state, from one of ``before``; its new version.

    Raises ConflictError where it is in none of them, UnknownError where there is no such campaign.
    """
    cursor = await connection.execute(
        _QUERIES["move"],
        {
            "campaign": campaign_id,
            "state": state.value,
            "reason": reason,
            "before": [one.value for one in before],
        },
    )
    row = await cursor.fetchone()
    if row is None:
        now = await find(connection, campaign_id)
        raise ConflictError(
            f"campaign {campaign_id} is {now.state}: only one that is {' or '.join(before)} can be {state}"
        )
    return int(row[0])


async def counts(
    connection: Connection, campaign_ids: Sequence[int]
) -> dict[int, dict[int, dict[MeterProgress, int]]]:
    """How many meters are in which state, by campaign and wave."""
    found: dict[int, dict[int, dict[MeterProgress, int]]] = {one: {} for one in campaign_ids}
    cursor = await connection.execute(_QUERIES["counts"], {"campaigns": list(campaign_ids)})
    for number, wave, state, count in await cursor.fetchall():
        found[number].setdefault(wave, {})[MeterProgress(state)] = count
    return found


async def state_shared(connection: Connection, campaign_id: int) -> tuple[CampaignState, str | None]:
    """The campaign's state and its reason, which nobody changes until the transaction ends. Raises
    UnknownError."""
    cursor = await connection.execute(_QUERIES["state_shared"], {"campaign": campaign_id})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no campaign has the number {campaign_id}")
    return CampaignState(row[0]), row[1]


async def begin_wave(connection: Connection, campaign_id: int, wave: int) -> None:
    """The wave has begun: its meters may be opened."""
    await connection.execute(_QUERIES["begin_wave"], {"campaign": campaign_id, "wave": wave})


async def _one(connection: Connection, query: str, campaign_id: int) -> Campaign:
    cursor = await connection.execute(_QUERIES[query], {"campaign": campaign_id})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no campaign has the number {campaign_id}")
    return _campaign(row)


def _campaign(row: Sequence[Any]) -> Campaign:
    (
        campaign_id, program_id, title, plan, digest, state, reason, wave, wave_at, version, actor,
        correlation_id, created_at, started_at, ended_at, judged_from,
    ) = row  # fmt: skip
    return Campaign(
        campaign_id=campaign_id,
        program_id=program_id,
        title=title,
        plan=Plan.model_validate(plan),
        digest=bytes(digest),
        state=CampaignState(state),
        reason=reason,
        wave=wave,
        wave_at=_utc(wave_at),
        version=version,
        actor=actor,
        correlation_id=correlation_id,
        created_at=created_at.astimezone(UTC),
        started_at=_utc(started_at),
        ended_at=_utc(ended_at),
        judged_from=_utc(judged_from),
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
