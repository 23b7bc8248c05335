"""Applies the program of a campaign to the meter of one visit, and writes down what comes of it.

::

    request of a lane ──> campaign, program, where the meter stands ──> procedure ──> outcome
                                   ▲                                       │
                                   └── journal, step by step <─────────────┘
                                       under the lane's fence, while the campaign is running
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headend.clock import utc_now
from headend.drivers.contract import Conversation, Target
from headend.programs.contract import (
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
from headend.session.access import Connect
from headend.store import campaigns, lanes, programs
from headend.store.campaigns import CampaignMeter
from headend.store.lanes import Lease
from headend.store.programs import StoredProgram
from headend.store.sql import Connection
from schemas.campaign import FINAL, CampaignState, MeterProgress
from schemas.program import ProgramKind

#: Programs that are remembered.
MOST_PROGRAMS: Final = 100
#: How long one visit may work at a program before others of its lane have their turn, in seconds.
VISIT_S: Final = 20.0
#: A campaign that stands still is looked at so often by the requests of its open meters.
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

    async def apply(
        self,
        conversation: Conversation,
        target: Target,
        campaign_id: int,
        meter_id: int,
        lease: Lease,
        wanted: Callable[[], bool],
        commit: Commit,
    ) -> Outcome:
        """Take the meter's program as far as this visit gets; what came of it is stored when this returns.

        ``wanted`` says whether somebody more urgent waits for the line, ``commit`` stores what the procedure
        reads beside. Raises the tree of
        `protocols.errors`, LaneLost, UnavailableError.
        """
        async with self._connect() as connection:
            campaign = await campaigns.find(connection, campaign_id)
            standing = await campaigns.of_meter(connection, campaign_id, meter_id)
            stored = await self._program(connection, campaign.program_id)
        if standing is None:
            return Failed(f"it has no part in campaign {campaign_id}")
        if standing.ended_at is not None:
            return _as_it_ended(standing)
        if campaign.state is not CampaignState.RUNNING:
            return await self._halted(campaign_id, meter_id, lease, standing)
        procedure = self._procedures.get(stored.kind)
        now = self._now()
        task = Task(campaign_id, target, stored.content, campaign.actor, now, commit)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._visit_s
        journal = MeterJournal(
            self._connect,
            lease,
            standing,
            lambda: wanted() or loop.time() >= end,
            (lambda one: procedure.admit(one, task)) if isinstance(procedure, Guarded) else None,
        )
        outcome: Outcome
        if procedure is None:
            outcome = Unfit(f"programs of kind {stored.kind} are not applied here")
        elif (why := procedure.unfit(stored.content, target)) is not None:
            outcome = Unfit(why)
        else:
            try:
                outcome = await procedure.apply(conversation, task, journal)
            except Barred as barred:
                outcome = barred.outcome
            except Halted:
                return await self._halted(campaign_id, meter_id, lease, standing)
        if not isinstance(outcome, Later):
            await self._end(campaign_id, meter_id, lease, outcome)
        return outcome

    async def _program(self, connection: Any, program_id: int) -> StoredProgram:
        found = self._programs.get(program_id)
        if found is None:
            found = self._programs[program_id] = await programs.find(connection, program_id)
            while len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)
        return found

    async def _end(self, campaign_id: int, meter_id: int, lease: Lease, outcome: Outcome) -> None:
        state, reason = _final(outcome)
        async with self._connect() as connection, connection.transaction():
            await lanes.share(connection, [lease])
            await campaigns.end_meter(
                connection, campaign_id, meter_id, state, reason=reason, proof=getattr(outcome, "proof", None)
            )

    async def _halted(
        self, campaign_id: int, meter_id: int, lease: Lease, standing: CampaignMeter
    ) -> Outcome:
        """Paused or stopped: looked at again. Over: so is the meter's part, unsure where a step is open."""
        async with self._connect() as connection:
            campaign = await campaigns.find(connection, campaign_id)
        if campaign.state not in FINAL:
            return Later(self._now() + _STANDS_STILL, f"the campaign is {campaign.state}")
        reason = f"the campaign is {campaign.state}"
        open_steps = [step for step, phase in standing.steps.items() if phase == "intended"]
        async with self._connect() as connection, connection.transaction():
            await lanes.share(connection, [lease])
            if open_steps:
                reason += f", and nobody knows whether {open_steps[-1]} took effect"
                await campaigns.end_meter(
                    connection, campaign_id, meter_id, MeterProgress.UNSURE, reason=reason
                )
                return Unsure(reason)
            await campaigns.end_meter(
                connection, campaign_id, meter_id, MeterProgress.CANCELLED, reason=reason
            )
        return Failed(reason)


class MeterJournal:
    """The `Journal` of one visit. ``admit`` is asked for each step that is intended, in its transaction."""

    def __init__(
        self,
        connect: Connect,
        lease: Lease,
        standing: CampaignMeter,
        must_yield: Callable[[], bool],
        admit: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._connect = connect
        self._lease = lease
        self._campaign_id, self._meter_id = standing.campaign_id, standing.meter_id
        self._facts = dict(standing.facts)
        self._steps = dict(standing.steps)
        self._must_yield = must_yield
        self._admit = admit

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `Journal`."""
        return self._facts

    def is_intended(self, step: str) -> bool:
        """See `Journal`."""
        return self._steps.get(step) == "intended"

    def is_done(self, step: str) -> bool:
        """See `Journal`."""
        return self._steps.get(step) == "done"

    def must_yield(self) -> bool:
        """See `Journal`."""
        return self._must_yield()

    async def intend(self, step: str, **facts: Any) -> None:
        """See `Journal`."""
        await self._write(step, "intended", facts)

    async def done(self, step: str, **facts: Any) -> None:
        """See `Journal`."""
        await self._write(step, "done", facts)

    async def note(self, what: str, **facts: Any) -> None:
        """See `Journal`."""
        await self._write(what, "noted", facts)

    async def _write(self, step: str, phase: str, facts: Mapping[str, Any]) -> None:
        async with self._connect() as connection, connection.transaction():
            await lanes.share(connection, [self._lease])
            if phase == "intended":
                state, reason = await campaigns.state_shared(connection, self._campaign_id)
                if state is not CampaignState.RUNNING:
                    raise Halted(f"the campaign is {state}: {reason or 'by a person'}")
                if self._admit is not None:
                    await self._admit(connection)
            there = await campaigns.note(
                connection, self._campaign_id, self._meter_id, step=step, phase=phase, facts=facts
            )
            if not there and phase == "intended":
                raise Halted("the meter's part in the campaign is over")
        self._facts.update(facts)
        if phase != "noted":
            self._steps[step] = phase


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
