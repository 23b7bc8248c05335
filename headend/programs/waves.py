"""Campaigns go on: what was approved begins, wave by wave, and ends when nothing of it is open."""

from datetime import datetime, timedelta
from typing import Final

from headend.links.permits import Urgency
from headend.store import campaigns, jobs, queue
from headend.store.campaigns import Campaign
from headend.store.jobs import NewJob
from headend.store.sql import Connection
from schemas.campaign import CampaignState
from schemas.job import Apply, JobKind

_PRIORITY: Final = 5


async def advance(connection: Connection, campaign_id: int, now: datetime) -> None:
    """Take one campaign as far as it may go now. In a transaction."""
    campaign = await campaigns.lock(connection, campaign_id)
    if campaign.state is CampaignState.APPROVED:
        await campaigns.move(connection, campaign_id, CampaignState.RUNNING, before=[CampaignState.APPROVED])
        await _begin(connection, campaign, 1, now)
    elif campaign.state is CampaignState.RUNNING and not await campaigns.open_meters(connection, campaign_id):
        await campaigns.move(connection, campaign_id, CampaignState.DONE, before=[CampaignState.RUNNING])


async def _begin(connection: Connection, campaign: Campaign, wave: int, now: datetime) -> None:
    """A job for the waiting meters of one wave."""
    drop_dead = now + timedelta(seconds=campaign.plan.expires_s)
    meters = await campaigns.begin_wave(connection, campaign.campaign_id, wave)
    job_id = await jobs.create(
        connection,
        NewJob(
            kind=JobKind.CAMPAIGN,
            title=f"{campaign.title}, wave {wave}",
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
        connection, job_id, meters, urgency=urgency, due_by=drop_dead, next_at=now, drop_dead=drop_dead
    )
    await campaigns.requested(connection, campaign.campaign_id, job_id)
    await queue.wake(connection, lanes, priority=int(campaign.plan.urgent))
