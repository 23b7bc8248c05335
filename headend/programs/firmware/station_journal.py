"""What is known of a concentrator that is given an image for its meters: the `Journal` of its transfer."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from headend.programs.contract import Also, Halted, Journal
from headend.store import handovers
from headend.store.handovers import StationImage
from headend.store.sql import Connection
from schemas.campaign import CampaignState


class StationJournal:
    """Writes under the fence of ``visit``, the journal of the meter whose visit is made at the concentrator.
    Steps count for ``campaign_id``; one is begun only while a campaign runs that has meters there."""

    def __init__(self, visit: Journal, station: int, campaign_id: int, image: StationImage) -> None:
        self._visit = visit
        self._station = station
        self._campaign_id = campaign_id
        self._facts = dict(image.facts)
        self._steps = dict(image.steps)

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

    @property
    def must_yield(self) -> Callable[[], bool]:
        """See `Journal`."""
        return self._visit.must_yield

    def fenced(self) -> AbstractAsyncContextManager[Connection]:
        """See `Journal`."""
        return self._visit.fenced()

    async def intend(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        """See `Journal`."""
        async with self.fenced() as connection:
            states = await handovers.states_shared(connection, self._station)
            if CampaignState.RUNNING not in states.values():
                raise Halted("no campaign that has meters there runs")
            await self._note(connection, step, "intended", facts, also)
        self._steps[step] = "intended"

    async def done(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        """See `Journal`."""
        async with self.fenced() as connection:
            await self._note(connection, step, "done", facts, also)
        self._steps[step] = "done"

    async def note(self, what: str, also: Also | None = None, /, **facts: Any) -> None:
        """See `Journal`."""
        async with self.fenced() as connection:
            await self._note(connection, what, "noted", facts, also)

    async def _note(
        self, connection: Connection, step: str, phase: str, facts: Mapping[str, Any], also: Also | None
    ) -> None:
        await handovers.note(
            connection, self._station, self._campaign_id, step=step, phase=phase, facts=facts
        )
        if also is not None:
            await also(connection)
        self._facts.update(facts)
