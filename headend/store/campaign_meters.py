"""Where each meter of a campaign stands, and the steps that were taken there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.sql import Connection
from schemas.campaign import MeterProgress
from schemas.failure import Stage

_QUERIES: Final = sql.load("campaign_meters")


@dataclass(frozen=True, slots=True)
class CampaignMeter:
    """Where one meter stands; times aware UTC. ``steps``: 'intended' or 'done' by the name of the step."""

    campaign_id: int
    meter_id: int
    wave: int
    state: MeterProgress
    step: str | None
    facts: Mapping[str, Any]
    steps: Mapping[str, str]
    proof: Any
    stage: Stage | None
    reason: str | None
    request_id: int | None
    began_at: datetime | None
    ended_at: datetime | None

    @property
    def midway(self) -> tuple[str, ...]:
        """Steps that were begun, and of which nobody knows whether they took effect."""
        return tuple(step for step, phase in self.steps.items() if phase == "intended")


class Step(NamedTuple):
    """A step that was taken at a meter: ``phase`` is 'intended', 'done' or 'noted'."""

    at: datetime
    step: str
    phase: str
    detail: Mapping[str, Any]


async def page(
    connection: Connection,
    campaign_id: int,
    *,
    limit: int,
    after: int | None = None,
    states: Sequence[MeterProgress] | None = None,
) -> list[CampaignMeter]:
    """At most ``limit`` meters of the campaign with numbers above ``after``, in order."""
    cursor = await connection.execute(
        _QUERIES["page"],
        {
            "campaign": campaign_id,
            "after": after,
            "states": None if states is None else [one.value for one in states],
            "limit": limit,
        },
    )
    return [of_row(row) for row in await cursor.fetchall()]


async def of_meter(connection: Connection, campaign_id: int, meter_id: int) -> CampaignMeter | None:
    """Where the meter stands in the campaign; None where it has no part in it."""
    cursor = await connection.execute(_QUERIES["of_meter"], {"campaign": campaign_id, "meter": meter_id})
    row = await cursor.fetchone()
    return None if row is None else of_row(row)


async def steps(connection: Connection, campaign_id: int, meter_id: int) -> list[Step]:
    """What was done at the meter, in order."""
    cursor = await connection.execute(_QUERIES["steps"], {"campaign": campaign_id, "meter": meter_id})
    return [Step(at.astimezone(UTC), *rest) for at, *rest in await cursor.fetchall()]


async def note(
    connection: Connection,
    campaign_id: int,
    meter_id: int,
    *,
    step: str,
    phase: str,
    facts: Mapping[str, Any],
) -> bool:
    """Write a step down, and remember ``facts`` beside those known; False where the meter's part is over."""
    cursor = await connection.execute(
        _QUERIES["note"],
        {
            "campaign": campaign_id,
            "meter": meter_id,
            "step": step,
            "phase": phase,
            "facts": Jsonb(dict(facts)),
        },
    )
    return await cursor.fetchone() is not None


async def end(
    connection: Connection,
    campaign_id: int,
    meter_id: int,
    state: MeterProgress,
    *,
    reason: str | None = None,
    stage: Stage | None = None,
    proof: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> bool:
    """The meter's part is over, with this outcome; False where it was already."""
    cursor = await connection.execute(
        _QUERIES["end"],
        {
            "campaign": campaign_id,
            "meter": meter_id,
            "state": state.value,
            "reason": reason,
            "stage": None if stage is None else stage.value,
            "proof": None if proof is None else Jsonb(dict(proof)),
            "facts": Jsonb(dict(facts or {})),
        },
    )
    return await cursor.fetchone() is not None


async def requested(connection: Connection, campaign_id: int, job_id: int) -> None:
    """The requests of this job work at the campaign's meters."""
    await connection.execute(_QUERIES["requested"], {"campaign": campaign_id, "job": job_id}, prepare=False)


def of_row(row: Sequence[Any]) -> CampaignMeter:
    """A row of ``campaign_meters`` in the order of `CampaignMeter`."""
    (
        campaign_id, meter_id, wave, state, step, facts, steps, proof, stage, reason, request_id, began_at,
        ended_at,
    ) = row  # fmt: skip
    return CampaignMeter(
        campaign_id=campaign_id,
        meter_id=meter_id,
        wave=wave,
        state=MeterProgress(state),
        step=step,
        facts=facts,
        steps=steps,
        proof=proof,
        stage=None if stage is None else Stage(stage),
        reason=reason,
        request_id=request_id,
        began_at=_utc(began_at),
        ended_at=_utc(ended_at),
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
