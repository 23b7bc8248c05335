"""Mass disconnection: more customers than an hour may have. A second person approves of it by itself.

Until that is approved, and where it is refused, the campaign is held to the number of an hour. The approval
is of the campaign's digest: of exactly these meters.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from headend.programs.waves import wake
from headend.store import campaign_course, campaigns, switching
from headend.store.approvals import Approval
from headend.store.sql import Connection
from headend.switching.rules import HOUR
from schemas.campaign import FINAL, CampaignState
from schemas.program import Program
from schemas.programs.switch import SwitchAction, SwitchProgram


async def why_mass(
    connection: Connection, program: Program, per_hour: int, now: datetime
) -> Mapping[str, Any] | None:
    """What is shown of it, where the campaign just proposed takes what is to be disconnected, with what was
    in the last hour, beyond ``per_hour``; else None."""
    if not isinstance(program, SwitchProgram) or program.action is not SwitchAction.DISCONNECT:
        return None
    sent, _ = await switching.disconnected(connection, now - HOUR)
    to_come = await switching.disconnecting(connection)
    if sent + to_come <= per_hour:
        return None
    return {"to_disconnect": to_come, "disconnected_within_the_hour": sent, "allowed_an_hour": per_hour}


class MassDisconnection:
    """See `headend.approvals.subjects.Subject`."""

    async def digest(self, connection: Connection, name: str) -> bytes | None:
        """That of the campaign, as long as it may still disconnect."""
        campaign = await campaigns.lock(connection, _number(name))
        return None if campaign.state in FINAL else campaign.digest

    async def approved(self, connection: Connection, approval: Approval) -> None:
        """Its meters wait for no hour any longer."""
        campaign = await campaigns.find(connection, _number(approval.subject))
        if campaign.state is CampaignState.RUNNING:
            lanes = await campaign_course.bring_on(connection, campaign.campaign_id, midway=False)
            await wake(connection, campaign, lanes)

    async def refused(self, connection: Connection, approval: Approval, reason: str) -> None:
        """It stays held to the number of an hour."""


def _number(subject: str) -> int:
    return int(subject.partition(":")[2])
