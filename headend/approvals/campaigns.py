"""Campaigns under four eyes: how one is put forward, what is shown of it, and what a decision does to it."""

from typing import Any, Final

from headend.clock import utc_now
from headend.programs import waves
from headend.programs.proposal import digest_now
from headend.store import campaign_views, campaigns, programs
from headend.store.approvals import Approval
from headend.store.campaigns import Campaign
from headend.store.sql import Connection
from schemas.campaign import CampaignState, MeterProgress
from schemas.program import PROGRAM

#: Names of meters that are shown of each end.
_NAMES: Final = 5


def subject_of(campaign_id: int) -> str:
    """As approvals and the audit trail name it."""
    return f"campaign:{campaign_id}"


class CampaignSubject:
    """See `headend.approvals.subjects.Subject`."""

    async def digest(self, connection: Connection, name: str) -> bytes | None:
        """Of the program, the plan and the meters as they are stored now."""
        campaign = await campaigns.lock(connection, _number(name))
        return await digest_now(connection, campaign) if campaign.state is CampaignState.PROPOSED else None

    async def approved(self, connection: Connection, approval: Approval) -> None:
        """It begins when its time comes, which may be now."""
        number = _number(approval.subject)
        await campaigns.move(connection, number, CampaignState.APPROVED, before=[CampaignState.PROPOSED])
        await waves.advance(connection, number, utc_now())

    async def refused(self, connection: Connection, approval: Approval, reason: str) -> None:
        """It never begins."""
        campaign = await campaigns.lock(connection, _number(approval.subject))
        if campaign.state is CampaignState.PROPOSED:
            await campaigns.move(
                connection,
                campaign.campaign_id,
                CampaignState.REFUSED,
                before=[CampaignState.PROPOSED],
                reason=reason,
            )


async def shown(connection: Connection, campaign: Campaign) -> dict[str, Any]:
    """Exactly what will be sent to whom and when, for people: JSON."""
    stored = await programs.find(connection, campaign.program_id)
    number = campaign.campaign_id
    dealt = (await campaigns.counts(connection, [number]))[number]
    unfit = sum(states.get(MeterProgress.INCOMPATIBLE, 0) for states in dealt.values())
    names = await campaign_views.ends(connection, number, most=_NAMES)
    return {
        "title": campaign.title,
        "kind": stored.kind.value,
        "program": PROGRAM.dump_python(stored.content, mode="json"),
        "program_name": stored.name,
        "program_digest": stored.digest.hex(),
        "meters": sum(sum(states.values()) for states in dealt.values()) - unfit,
        "unfit": unfit,
        "why_unfit": await campaign_views.why_unfit(connection, number, most=_NAMES),
        "models": await campaign_views.models(connection, number),
        "waves": [
            {
                "wave": wave,
                "meters": sum(states.values()) - states.get(MeterProgress.INCOMPATIBLE, 0),
            }
            for wave, states in sorted(dealt.items())
        ],
        "first": list(names.first),
        "last": list(names.last),
        "plan": campaign.plan.model_dump(mode="json"),
    }


def _number(subject: str) -> int:
    return int(subject.partition(":")[2])
