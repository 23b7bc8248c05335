"""The journal of one visit: each step committed under the lane's fence, and none while the campaign stands
still."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from headend.programs.contract import Also, Halted
from headend.session.access import Connect
from headend.store import campaign_meters, campaigns, lanes
from headend.store.campaign_meters import CampaignMeter
from headend.store.lanes import Lease
from headend.store.sql import Connection
from schemas.campaign import CampaignState


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

    async def intend(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        """See `Journal`."""
        await self._write(step, "intended", facts, also)

    async def done(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        """See `Journal`."""
        await self._write(step, "done", facts, also)

    async def note(self, what: str, also: Also | None = None, /, **facts: Any) -> None:
        """See `Journal`."""
        await self._write(what, "noted", facts, also)

    @asynccontextmanager
    async def fenced(self) -> AsyncIterator[Connection]:
        """See `Journal`."""
        async with self._connect() as connection, connection.transaction():
            await lanes.share(connection, [self._lease])
            yield connection

    async def _write(self, step: str, phase: str, facts: Mapping[str, Any], also: Also | None) -> None:
        async with self.fenced() as connection:
            if phase == "intended":
                state, reason = await campaigns.state_shared(connection, self._campaign_id)
                if state is not CampaignState.RUNNING:
                    raise Halted(f"the campaign is {state}: {reason or 'by a person'}")
                if self._admit is not None:
                    await self._admit(connection)
            there = await campaign_meters.note(
                connection, self._campaign_id, self._meter_id, step=step, phase=phase, facts=facts
            )
            if not there and phase == "intended":
                raise Halted("the meter's part in the campaign is over")
            if also is not None:
                await also(connection)
        self._facts.update(facts)
        if phase != "noted":
            self._steps[step] = phase
