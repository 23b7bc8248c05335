"""Campaigns go on: what was approved begins, wave by wave, and ends when nothing of it is left.

::

    approved ──> start, window ──> canaries ──> soak ──> wave 1 ──> soak ──> ... ──> done
                                       └── too many failed ──> stopped <──┘

Called each minute for all campaigns, and at once for those of which a meter has ended or a person has decided
(`campaigning`); once too often does nothing.
"""

from datetime import datetime, timedelta
from typing import Final

from headend.links.permits import Urgency
from headend.programs.dealing import CANARIES
from headend.programs.proposal import digest_now
from headend.programs.windows import opening
from headend.store import approvals, audit, campaign_course, campaign_meters, campaigns, jobs, queue
from headend.store.campaign_course import Standing
from headend.store.campaigns import Campaign
from headend.store.jobs import NewJob
from headend.store.sql import Connection
from schemas.campaign import FINAL, CampaignState, Plan
from schemas.job import Apply, JobKind

#: Of the jobs that campaigns make.
_PRIORITY: Final = 5
#: Who stops a campaign by its own rule, as the audit trail names him.
ITSELF: Final = "headend"
#: Until somebody brings them on, requests are put off for as long as they live.
_FOR_GOOD: Final = timedelta(days=3660)


async def advance(connection: Connection, campaign_id: int, now: datetime) -> None:
    """Take one campaign as far as it may go at ``now``, aware. In a transaction. Raises UnknownError."""
    campaign = await campaigns.lock(connection, campaign_id)
    if campaign.state is CampaignState.APPROVED:
        if not await _start(connection, campaign, now):
            return
        campaign = await campaigns.find(connection, campaign_id)
    if campaign.state not in (CampaignState.PROPOSED, CampaignState.REFUSED, CampaignState.DONE):
        await campaign_course.follow(connection, campaign_id)
    if campaign.state is CampaignState.RUNNING:
        await _run(connection, campaign, now)
    elif campaign.state in (CampaignState.PAUSED, CampaignState.STOPPED):
        await campaign_course.put_off(connection, campaign_id, now + _FOR_GOOD, midway=False)
    elif campaign.state in FINAL:
        await campaign_course.let_go(connection, campaign_id, reason=f"the campaign is {campaign.state}")


async def _start(connection: Connection, campaign: Campaign, now: datetime) -> bool:
    """Whether its time has come. One that could not begin in time begins no more, nor does one that is not
    exactly what was approved."""
    plan, number = campaign.plan, campaign.campaign_id
    if now >= last_start(plan, campaign.created_at):
        await _too_late(connection, number, f"it did not begin within {timedelta(seconds=plan.expires_s)}")
        return False
    if (plan.starts_at is not None and now < plan.starts_at) or opening(plan.window, now) > now:
        return False
    if not await approvals.holds(connection, f"campaign:{number}", await digest_now(connection, campaign)):
        await _too_late(connection, number, "what was approved is not what is there now")
        return False
    await campaigns.move(connection, number, CampaignState.RUNNING, before=[CampaignState.APPROVED])
    await _record(connection, number, "campaign.started", None)
    return True


async def _too_late(connection: Connection, campaign_id: int, why: str) -> None:
    """It was approved, and never begins."""
    reason = f"{why}: propose it anew"
    await campaigns.move(
        connection, campaign_id, CampaignState.ABORTED, before=[CampaignState.APPROVED], reason=reason
    )
    await campaign_course.let_go(connection, campaign_id, reason=reason)
    await _record(connection, campaign_id, "campaign.aborted", reason)


def last_start(plan: Plan, created_at: datetime) -> datetime:
    """When a campaign that was proposed at ``created_at`` is too old to begin: what was meant for last week
    does not happen today because somebody was away."""
    return max(plan.starts_at or created_at, created_at) + timedelta(seconds=plan.expires_s)


async def _run(connection: Connection, campaign: Campaign, now: datetime) -> None:
    number, plan = campaign.campaign_id, campaign.plan
    waves = await campaign_course.standing(connection, number)
    if (reason := _too_many_failed(campaign, waves)) is not None:
        await stand_still(connection, campaign, CampaignState.STOPPED, reason, now)
        await _record(connection, number, "campaign.stopped", reason)
        return
    opens = opening(plan.window, now)
    if opens > now:
        await campaign_course.put_off(connection, number, opens, midway=True)
        await _request(connection, campaign, await campaign_course.bereft(connection, number), opens)
        return
    await _request(connection, campaign, await campaign_course.bereft(connection, number), now)
    begun = [one for one in waves if campaign.wave is not None and one.wave <= campaign.wave]
    ahead = [one for one in waves if one not in begun and not one.is_over]
    if all(one.is_over for one in begun):
        if not ahead:
            await campaigns.move(connection, number, CampaignState.DONE, before=[CampaignState.RUNNING])
            return
        ended_at = max((one.ended_at for one in begun if one.ended_at is not None), default=None)
        if ended_at is not None and now < ended_at + timedelta(seconds=plan.soak_s):
            return
        wave = ahead[0].wave
        await campaigns.begin_wave(connection, number, wave)
    else:
        wave = begun[-1].wave
    fed = await campaign_course.feed(connection, number, wave=wave, per_station=plan.per_station)
    await _request(connection, campaign, fed, now)


def _too_many_failed(campaign: Campaign, waves: list[Standing]) -> str | None:
    """Why the campaign goes on no further; None where it does."""
    plan, current = campaign.plan, campaign.wave
    one = next((one for one in waves if one.wave == current), None)
    if one is None or all(one.is_over for one in waves):  # nothing is left to be kept from it
        return None
    ended = one.good + one.bad
    what = "canaries" if one.wave == CANARIES else f"meters of wave {one.wave}"
    enough = 1 if one.wave == CANARIES or one.is_over else plan.stop_from
    if ended >= enough and one.bad * 100 > plan.stop_percent * ended:
        return (
            f"{one.bad} of {ended} {what} failed or are unsure, which is more than {plan.stop_percent:g} %: "
            "look at them, then resume or abort"
        )
    if one.wave == CANARIES and one.is_over and not one.good and campaign.judged_from is None:
        return (
            "none of the canaries has it, so that nothing is known of it: look at them, then resume or abort"
        )
    return None


async def stand_still(
    connection: Connection, campaign: Campaign, state: CampaignState, reason: str, now: datetime
) -> None:
    """Paused or stopped: no visit begins but where a step is in the middle, and there at once, to see what
    came of it. The campaign is locked by the caller. Raises ConflictError."""
    number = campaign.campaign_id
    before = [CampaignState.RUNNING, CampaignState.APPROVED]
    if state is CampaignState.STOPPED:
        before.append(CampaignState.PAUSED)
    await campaigns.move(connection, number, state, before=before, reason=reason)
    await campaign_course.put_off(connection, number, now + _FOR_GOOD, midway=False)
    await wake(connection, campaign, await campaign_course.bring_on(connection, number, midway=True))


async def wake(connection: Connection, campaign: Campaign, lanes: list[str]) -> None:
    """Have the lanes looked after when the transaction is committed."""
    await queue.wake(connection, lanes, priority=int(campaign.plan.urgent))


async def _request(connection: Connection, campaign: Campaign, meters: list[int], at: datetime) -> None:
    """A job for open meters that have no request, to be visited from ``at`` on."""
    if not meters:
        return
    drop_dead = at + timedelta(seconds=campaign.plan.expires_s)
    job_id = await jobs.create(
        connection,
        NewJob(
            kind=JobKind.CAMPAIGN,
            title=f"{campaign.title} ({campaign.campaign_id})",
            work=(Apply(campaign=campaign.campaign_id),),
            priority=_PRIORITY,
            deadline=drop_dead,
            drop_dead=drop_dead,
            actor=campaign.actor,
            correlation_id=campaign.correlation_id,
            retry=campaign.plan.retry,
        ),
    )
    if job_id is None:
        raise AssertionError("a job without a schedule is never there already")
    urgency = Urgency.ON_DEMAND if campaign.plan.urgent else Urgency.PROGRAM
    lanes = await jobs.add_requests(
        connection, job_id, meters, urgency=urgency, due_by=drop_dead, next_at=at, drop_dead=drop_dead
    )
    await campaign_meters.requested(connection, campaign.campaign_id, job_id)
    await wake(connection, campaign, lanes)


async def _record(connection: Connection, campaign_id: int, action: str, reason: str | None) -> None:
    detail = {} if reason is None else {"reason": reason}
    await audit.record(
        connection, actor=ITSELF, action=action, object_=f"campaign:{campaign_id}", detail=detail
    )
