"""What stands before each switching: the emergency stop, critical customers, and the number of an hour.

Asked twice: when a campaign is proposed, and in the transaction that writes the sending down as intended.
That one waits its turn behind all others that switch or stop switching, so that none slips past a stop or a
count.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.programs.contract import Barred, Later, Task, Unfit
from headend.session.access import Connect
from headend.store import approvals, audit, campaigns, switching
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from schemas.program import Program
from schemas.programs.switch import LimitProgram, SwitchAction, SwitchProgram

HOUR: Final = timedelta(hours=1)
#: Meters that wait for the hour come back one after the other within so much.
_SPREAD: Final = timedelta(minutes=10)
#: A meter that an emergency stop keeps from being switched is looked at again so much later.
_STOPPED: Final = timedelta(minutes=5)


#: The kind of approvals of more, and what stands before the colon of their subjects.
MASS: Final = "mass-disconnection"


def mass_subject(campaign_id: int) -> str:
    """As approvals and the audit trail name it."""
    return f"{MASS}:{campaign_id}"


class Rules:
    """The rules.

    Args:
        per_hour: disconnections that may be sent in any hour without an approval of their own.
        now: aware, UTC.
    """

    def __init__(self, per_hour: int, *, now: Callable[[], datetime] = utc_now) -> None:
        self._per_hour = per_hour
        self._now = now

    async def forbidden(
        self, connection: Connection, program: Program, meters: Sequence[int], now: datetime
    ) -> Mapping[int, str]:
        """Meters of critical customers. Raises ConflictError while all switching is stopped."""
        stopped = await switching.halt(connection)
        if stopped is not None:
            raise ConflictError(_told(stopped))
        if not _protects(program):
            return {}
        found = await switching.critical(connection, meters, now)
        return {number: _critical(why) for number, why in found.items()}

    async def admit(self, connection: Connection, task: Task, what: str) -> None:
        """Whether it may be sent now; it is counted as sent. Raises Barred."""
        program, now = task.program, self._now()
        if not isinstance(program, SwitchProgram | LimitProgram):
            raise TypeError(f"{program.kind} is no switching")
        await switching.turn(connection)
        stopped = await switching.halt(connection)
        if stopped is not None:
            raise Barred(Later(now + _STOPPED, _told(stopped)))
        if _protects(program):
            flagged = await switching.critical(connection, [task.meter_id], now)
            if flagged:
                raise Barred(Unfit(_critical(flagged[task.meter_id])))
        if what == SwitchAction.DISCONNECT:
            await self._within_the_hour(connection, task, now)
        await switching.sent(
            connection,
            task.campaign_id,
            task.meter_id,
            action=what,
            reason=program.reason,
            note=program.note,
            actor=task.actor,
            at=now,
        )
        await audit.record(
            connection,
            actor=task.actor,
            action=f"switch.{what}",
            object_=f"meter:{task.target.meter.asset_id}",
            detail={"campaign": task.campaign_id, "reason": program.reason},
        )

    async def refused(self, connect: Connect, task: Task, what: str, barred: Barred) -> None:
        """Audit what was not admitted for good; what only waits is no refusal."""
        if not isinstance(barred.outcome, Unfit):
            return
        async with connect() as connection:
            await audit.record(
                connection,
                actor=task.actor,
                action="switch.refused",
                object_=f"meter:{task.target.meter.asset_id}",
                detail={"campaign": task.campaign_id, "what": what, "why": barred.outcome.reason},
            )

    async def _within_the_hour(self, connection: Connection, task: Task, now: datetime) -> None:
        count, first = await switching.disconnected(
            connection, now - HOUR, but=(task.campaign_id, task.meter_id)
        )
        if count < self._per_hour:
            return
        campaign = await campaigns.find(connection, task.campaign_id)
        subject = mass_subject(task.campaign_id)
        if await approvals.holds(connection, subject, campaign.digest):
            return
        raise Barred(
            Later(
                (first or now) + HOUR + random.random() * _SPREAD,  # noqa: S311 - no secret
                f"{count} customers were disconnected within the hour, {self._per_hour} may be: it goes on "
                f"when the hour allows, or when {subject} is approved",
            )
        )


def _protects(program: Program) -> bool:
    """Whether it takes something away from a customer."""
    return isinstance(program, LimitProgram) or (
        isinstance(program, SwitchProgram) and program.action is SwitchAction.DISCONNECT
    )


def _critical(why: str) -> str:
    return f"a critical customer, who is not switched off or limited: {why} (`headend switch critical list`)"


def _told(halt: switching.Halt) -> str:
    return (
        f"all switching is stopped by {halt.actor} since {halt.at:%Y-%m-%d %H:%M} UTC: {halt.reason}; "
        "`headend switch allow` ends that"
    )
