"""Applies the program of a campaign to the meter of one visit, and writes down what comes of it.

::

    request of a lane ──> look ahead: campaign, window, where the meter stands ──> outcome, without a visit
                                   │
                                   └──> conversation ──> procedure ──> outcome, or given up in the end
                                             ▲              │
                                             └── journal <──┘
                                             step by step, under the lane's fence, while the campaign runs
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from headend.clock import utc_now
from headend.drivers.contract import Conversation, Target
from headend.programs.contract import (
    AtStations,
    Barred,
    Commit,
    Failed,
    Finished,
    Guarded,
    Halted,
    Later,
    Outcome,
    Procedure,
    Task,
    Unfit,
    Unsure,
)
from headend.programs.journal import MeterJournal
from headend.programs.windows import opening
from headend.session.access import Connect
from headend.store import campaign_meters, campaigns, lanes, programs
from headend.store.campaign_meters import CampaignMeter
from headend.store.campaigns import Campaign
from headend.store.lanes import Lease
from headend.store.programs import StoredProgram
from schemas.campaign import FINAL, CampaignState, MeterProgress
from schemas.failure import Stage
from schemas.program import ProgramKind

#: Programs that are remembered.
MOST_PROGRAMS: Final = 100
#: How long one visit may work at a program before others of its lane have their turn, in seconds.
VISIT_S: Final = 20.0
#: The same while readings wait: long enough that an association pays.
CROWDED_S: Final = 5.0
#: While a campaign stands still, a meter at which a step is in the middle is looked at so often.
_STANDS_STILL: Final = timedelta(minutes=5)


class Applier:
    """Applies programs.

    Args:
        connect: gives a database connection outside of a transaction.
        procedures: one for each kind that this head-end can apply.
        visit_s: how long a visit may work before it gives way.
        now: aware, UTC.
    """

    def __init__(
        self,
        connect: Connect,
        procedures: Sequence[Procedure],
        *,
        visit_s: float = VISIT_S,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._procedures: Mapping[ProgramKind, Procedure] = {one.kind: one for one in procedures}
        self._visit_s = visit_s
        self._now = now
        self._programs: OrderedDict[int, StoredProgram] = OrderedDict()

    async def look_ahead(
        self, target: Target | None, campaign_id: int, meter_id: int, lease: Lease
    ) -> "Outcome | Begun":
        """Before anybody talks with the meter: whether a visit may begin now, else what comes of it without
        one, which is stored when this returns. ``target`` None: the meter is there no more.

        While the campaign stands still, or is over, only a meter at which a step is in the middle is visited.
        Raises LaneLost, UnavailableError.
        """
        async with self._connect() as connection:
            campaign = await campaigns.find(connection, campaign_id)
            standing = await campaign_meters.of_meter(connection, campaign_id, meter_id)
            stored = await self._program(connection, campaign.program_id)
        if standing is None:
            return Failed(f"it has no part in campaign {campaign_id}")
        if standing.ended_at is not None:
            return _as_it_ended(standing)
        if campaign.state is not CampaignState.RUNNING and not standing.midway:
            return await self._halted(campaign_id, meter_id, lease)
        now = self._now()
        if (opens := opening(campaign.plan.window, now)) > now:
            return Later(opens, f"its window opens at {opens:%F %R}Z")
        procedure = self._procedures.get(stored.kind)
        if procedure is None:
            return await self._ended(
                campaign_id, meter_id, lease, Unfit(f"programs of kind {stored.kind} are not applied here")
            )
        if target is not None and (why := procedure.unfit(stored.content, target)) is not None:
            return await self._ended(campaign_id, meter_id, lease, Unfit(why))
        if target is None or not isinstance(procedure, AtStations):
            return Begun(campaign, standing, stored, procedure)
        async with self._connect() as connection:
            found = await procedure.where(connection, target, campaign_id, now)
        return found if isinstance(found, Later) else Begun(campaign, standing, stored, procedure, found)

    async def apply(
        self,
        conversation: Conversation,
        target: Target,
        begun: "Begun",
        lease: Lease,
        *,
        wanted: Callable[[], bool],
        crowded: Callable[[], bool],
        commit: Commit,
    ) -> Outcome:
        """Take the meter's program as far as this visit gets; what came of it is stored when this returns.

        ``wanted`` says whether somebody more urgent waits for the line, ``crowded`` whether readings wait
        for it, or for a turn in the lane, ``commit`` stores what the procedure reads beside. Raises the tree
        of `protocols.errors`, LaneLost, UnavailableError.
        """
        campaign, standing, procedure = begun.campaign, begun.standing, begun.procedure
        campaign_id, meter_id = campaign.campaign_id, standing.meter_id
        task = Task(campaign_id, target, begun.program.content, campaign.actor, self._now(), commit)
        loop = asyncio.get_running_loop()
        began = loop.time()
        stands_still = campaign.state is not CampaignState.RUNNING

        def must_yield() -> bool:
            took_s = loop.time() - began
            return stands_still or wanted() or took_s >= self._visit_s or (took_s >= CROWDED_S and crowded())

        journal = MeterJournal(
            self._connect,
            lease,
            standing,
            must_yield,
            (lambda one: procedure.admit(one, task)) if isinstance(procedure, Guarded) else None,
        )
        outcome: Outcome
        try:
            outcome = await procedure.apply(conversation, task, journal)
        except Barred as barred:
            outcome = barred.outcome
        except Halted:
            return await self._halted(campaign_id, meter_id, lease)
        if not isinstance(outcome, Later):
            return await self._ended(campaign_id, meter_id, lease, outcome)
        if campaign.state in FINAL:  # to where it is safe, but not for ever
            return Later(outcome.at, outcome.why, counts=True)
        if stands_still:
            return Later(max(outcome.at, self._now() + _STANDS_STILL), outcome.why)
        return outcome

    async def turned_away(self, begun: "Begun", lease: Lease, why: str) -> Later:
        """The concentrator of a visit that was to be made there cannot be talked with: the meter is visited
        itself. Raises LaneLost, UnavailableError."""
        campaign_id, meter_id = begun.campaign.campaign_id, begun.standing.meter_id
        if isinstance(begun.procedure, AtStations):
            async with self._connect() as connection, connection.transaction():
                await lanes.share(connection, [lease])
                await begun.procedure.turned_away(connection, campaign_id, meter_id, why)
        return Later(self._now(), why)

    async def gave_up(
        self, campaign_id: int, meter_id: int, lease: Lease, stage: Stage | None, reason: str
    ) -> None:
        """No further visit is made: the meter's part is over, unless it is already; unsure where a step is in
        the middle. Raises LaneLost, UnavailableError."""
        async with self._connect() as connection, connection.transaction():
            await lanes.share(connection, [lease])
            standing = await campaign_meters.of_meter(connection, campaign_id, meter_id)
            if standing is None:
                return
            state = MeterProgress.FAILED
            if standing.midway:
                state, reason = MeterProgress.UNSURE, f"{reason}; {_unknown(standing)}"
            await campaign_meters.end(connection, campaign_id, meter_id, state, reason=reason, stage=stage)

    async def _program(self, connection: Any, program_id: int) -> StoredProgram:
        found = self._programs.get(program_id)
        if found is None:
            found = self._programs[program_id] = await programs.find(connection, program_id)
            while len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)
        return found

    async def _ended(self, campaign_id: int, meter_id: int, lease: Lease, outcome: Outcome) -> Outcome:
        state, reason = _final(outcome)
        async with self._connect() as connection, connection.transaction():
            await lanes.share(connection, [lease])
            await campaign_meters.end(
                connection, campaign_id, meter_id, state, reason=reason, proof=getattr(outcome, "proof", None)
            )
        return outcome

    async def _halted(self, campaign_id: int, meter_id: int, lease: Lease) -> Outcome:
        """Paused or stopped: looked at again. Over: so is the meter's part, unsure where a step is open."""
        async with self._connect() as connection, connection.transaction():
            await lanes.share(connection, [lease])
            state, why = await campaigns.state_shared(connection, campaign_id)
            standing = await campaign_meters.of_meter(connection, campaign_id, meter_id)
            if standing is None or standing.ended_at is not None:
                return Failed("the meter's part in the campaign is over")
            if state not in FINAL:
                return Later(self._now() + _STANDS_STILL, f"the campaign is {state}")
            reason = f"the campaign is {state}" + ("" if why is None else f": {why}")
            if standing.midway:
                reason = f"{reason}; {_unknown(standing)}"
            ends = MeterProgress.UNSURE if standing.midway else MeterProgress.CANCELLED
            await campaign_meters.end(connection, campaign_id, meter_id, ends, reason=reason)
        return Failed(reason)


@dataclass(frozen=True, slots=True)
class Begun:
    """A visit that may begin: the campaign and where the meter stands in it, as they were just read; ``at``
    a concentrator where that is visited, and not the meter."""

    campaign: Campaign
    standing: CampaignMeter
    program: StoredProgram
    procedure: Procedure
    at: Target | None = None


def _final(outcome: Outcome) -> tuple[MeterProgress, str | None]:
    match outcome:
        case Finished(changed=changed):
            return (MeterProgress.DONE if changed else MeterProgress.UNCHANGED), None
        case Failed(reason):
            return MeterProgress.FAILED, reason
        case Unsure(reason):
            return MeterProgress.UNSURE, reason
        case Unfit(reason):
            return MeterProgress.INCOMPATIBLE, reason
        case Later():
            raise ValueError("a program that goes on later has not ended")


def _as_it_ended(standing: CampaignMeter) -> Outcome:
    """It was stored, and its request was not settled yet: a process died in between."""
    if standing.state in {MeterProgress.DONE, MeterProgress.UNCHANGED}:
        return Finished(standing.proof or {}, standing.state is MeterProgress.DONE)
    return Failed(standing.reason or str(standing.state), standing.proof or {})


def _unknown(standing: CampaignMeter) -> str:
    return f"nobody knows whether {' and '.join(standing.midway)} took effect"
