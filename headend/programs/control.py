"""What people decide about campaigns that go on: pause, resume, abort, stop, and the emergency stop.

Each moves the campaign, puts its requests off or brings them on, and is audited with its reason, all in the
caller's transaction. What is in the middle of a step at a meter goes on to where it is safe: its procedure
sees what came of the step, and is `Halted` at the next one.
"""

from collections.abc import Iterable
from typing import Final

from headend.clock import utc_now
from headend.programs.waves import stand_still, wake
from headend.store import audit, campaign_course, campaigns
from headend.store.campaigns import Campaign
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from schemas.campaign import CampaignState
from schemas.program import ProgramKind

_OPEN: Final = (
    CampaignState.PROPOSED,
    CampaignState.APPROVED,
    CampaignState.RUNNING,
    CampaignState.PAUSED,
    CampaignState.STOPPED,
)


async def pause(connection: Connection, campaign_id: int, *, actor: str, reason: str) -> Campaign:
    """No visit begins any more, until it is resumed. Raises UnknownError, ConflictError."""
    return await _stand_still(connection, campaign_id, CampaignState.PAUSED, actor, reason)


async def stop(connection: Connection, campaign_id: int, *, actor: str, reason: str) -> Campaign:
    """As `pause`, of a paused one too, and told as what it is. Raises UnknownError, ConflictError."""
    return await _stand_still(connection, campaign_id, CampaignState.STOPPED, actor, reason)


async def resume(connection: Connection, campaign_id: int, *, actor: str, reason: str) -> Campaign:
    """It goes on where it stood; what failed so far counts no more. Raises UnknownError, and ConflictError
    also where another campaign of the kind was begun at its meters since it was stopped."""
    campaign = await campaigns.lock(connection, campaign_id)
    rival = await campaign_course.rival(connection, campaign_id)
    if rival is not None and campaign.state is CampaignState.STOPPED:
        raise ConflictError(
            f"campaign {rival} is at meters of it by now: wait for its end, or abort one of them"
        )
    state = CampaignState.APPROVED if campaign.started_at is None else CampaignState.RUNNING
    await campaigns.move(
        connection, campaign_id, state, before=[CampaignState.PAUSED, CampaignState.STOPPED], reason=None
    )
    await campaign_course.judge_anew(connection, campaign_id)
    lanes = await campaign_course.bring_on(connection, campaign_id, midway=False)
    await campaign_course.say(connection, campaign_id)
    await _record(connection, campaign_id, "resume", actor, reason)
    await wake(connection, campaign, lanes)
    return await campaigns.find(connection, campaign_id)


async def abort(connection: Connection, campaign_id: int, *, actor: str, reason: str) -> Campaign:
    """It ends: meters that wait are cancelled, and open ones at which no step is in the middle; of the others
    the next visit tells what came of the step. Raises UnknownError, ConflictError."""
    campaign = await campaigns.lock(connection, campaign_id)
    await campaigns.move(connection, campaign_id, CampaignState.ABORTED, before=_OPEN, reason=reason)
    await campaign_course.let_go(connection, campaign_id, reason=f"the campaign is aborted: {reason}")
    lanes = await campaign_course.bring_on(connection, campaign_id, midway=True)
    await campaign_course.say(connection, campaign_id)
    await _record(connection, campaign_id, "abort", actor, reason)
    await wake(connection, campaign, lanes)
    return await campaigns.find(connection, campaign_id)


async def halt_all(
    connection: Connection, kinds: Iterable[ProgramKind], *, actor: str, reason: str
) -> list[int]:
    """The emergency stop: every campaign of these kinds that is approved, runs or is paused is stopped, or
    none where this raises; their numbers."""
    halted = []
    for number in await campaign_course.of_kinds(connection, tuple(kinds)):
        try:
            await stop(connection, number, actor=actor, reason=f"emergency stop: {reason}")
        except ConflictError:  # it ended while we waited for it
            continue
        halted.append(number)
    return halted


async def _stand_still(
    connection: Connection, campaign_id: int, state: CampaignState, actor: str, reason: str
) -> Campaign:
    campaign = await campaigns.lock(connection, campaign_id)
    await stand_still(connection, campaign, state, reason, utc_now())
    await campaign_course.say(connection, campaign_id)
    await _record(
        connection, campaign_id, "pause" if state is CampaignState.PAUSED else "stop", actor, reason
    )
    return await campaigns.find(connection, campaign_id)


async def _record(connection: Connection, campaign_id: int, what: str, actor: str, reason: str) -> None:
    await audit.record(
        connection,
        actor=actor,
        action=f"campaign.{what}",
        object_=f"campaign:{campaign_id}",
        detail={"reason": reason},
    )
