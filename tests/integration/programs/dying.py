"""A head-end that dies while it applies a program: at each place where it waits for anything, the database or
the meter, one after another. What it had in memory is gone, what it had committed is there."""

import time
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

from concentrator_sim.meter import SimulatedMeter
from headend.drivers.contract import Target
from headend.programs.applier import Applier, Begun
from headend.programs.contract import Later, Outcome
from headend.store import campaign_meters, campaigns, lanes, meters
from headend.store.campaign_meters import CampaignMeter
from headend.store.settlement import Settlement
from protocols.errors import LinkError
from schemas.campaign import CampaignState, Plan
from schemas.job import Selection
from schemas.program import Program
from schemas.reading import ReadingBatch
from tests.integration.programs.field import RETRY, Works

#: Visits in which a campaign ends with its meter, or it goes round in circles.
_MOST_VISITS = 40


class Killed(BaseException):
    """Nobody catches it: the process is gone."""


class DiesAt:
    """Runs a coroutine up to its ``moment``-th wait, and kills it there. ``left`` is what of that was left
    where it ended before; 0 or less: it died."""

    def __init__(self, work: Coroutine[Any, Any, Outcome], moment: int) -> None:
        self._work = work
        self.left = moment

    def __await__(self) -> Generator[Any, Any, Outcome | None]:
        died = False
        try:
            awaited = self._work.send(None)
            while True:
                self.left -= 1
                if self.left == 0 and not died:
                    died = True
                    # transactions are rolled back and links are cut, as they are where a process is gone
                    awaited = self._work.throw(Killed())
                try:
                    result = yield awaited
                except BaseException as error:  # noqa: BLE001 - handed on
                    awaited = self._work.throw(error)
                else:
                    awaited = self._work.send(result)
        except StopIteration as end:
            outcome: Outcome = end.value
            return None if died else outcome
        except Killed:
            return None


class World:
    """The clock of field and head-end: the real one, moved to a place within a quarter of an hour where one
    is given, and moved on by tests."""

    def __init__(self, into_quarter_s: int | None = None) -> None:
        self.ahead_s = 0 if into_quarter_s is None else (into_quarter_s - int(time.time())) % 900

    def seconds(self) -> int:
        """As the field has it."""
        return int(self.now().timestamp())

    def now(self) -> datetime:
        """As the head-end has it."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    def wait_until(self, moment: datetime) -> None:
        """The moment has come, where it had not."""
        self.ahead_s += max(0, -((self.now() - moment) // timedelta(seconds=1)))


def forget(meter: SimulatedMeter, kind: type[Any]) -> None:
    """This part of the meter is as it was when the meter was new."""
    if meter._parts is not None:
        meter._parts.pop(kind, None)


class Mortal:
    """Visits one meter for its campaigns, and dies at it. In ``world`` the time passes until the next visit;
    without one nobody waits."""

    def __init__(self, here: Works, target: Target, lease: lanes.Lease, world: World | None) -> None:
        self._here = here
        self._target = target
        self._lease = lease
        self._world = world

    @classmethod
    async def at(cls, here: Works, asset_id: str, world: World | None = None) -> "Mortal":
        """At this meter of a field where nobody else works."""
        async with here.house.base.pool.connection() as connection:
            (meter,) = await meters.find(connection, asset_ids=[asset_id])
            await lanes.ensure(connection, [asset_id])
            (lease,) = await lanes.take(connection, [asset_id], holder="test", lease_s=600)
        return cls(here, await here.house.target(meter), lease, world)

    async def dies_at(self, program: Program, moment: int) -> tuple[CampaignMeter, bool]:
        """Where the meter stands at the end of a campaign that died in its ``moment``-th wait; whether it had
        so many."""
        number, meter_id = await self._begin(program), self._target.meter.meter_id
        for _ in range(_MOST_VISITS):
            dying = DiesAt(self._visit(number), moment)
            outcome, moment = await dying, dying.left
            if isinstance(outcome, Later):
                if self._world is not None:
                    self._world.wait_until(outcome.at)
            elif outcome is not None:
                break
        async with self._here.house.base.pool.connection() as connection:
            found = await campaign_meters.of_meter(connection, number, meter_id)
        assert found is not None
        assert found.ended_at is not None, (found.facts, found.steps, outcome)
        return found, moment <= 0

    async def _begin(self, program: Program) -> int:
        """A campaign that runs, of this meter alone."""
        plan = Plan(selection=Selection(meters=(self._target.meter.asset_id,)), retry=RETRY)
        campaign = await self._here.propose(program, plan)
        await self._here.approve(campaign.campaign_id)
        async with self._here.house.base.pool.connection() as connection:
            await campaigns.move(
                connection, campaign.campaign_id, CampaignState.RUNNING, before=[CampaignState.APPROVED]
            )
        return campaign.campaign_id

    async def _visit(self, campaign_id: int) -> Outcome:
        """As a worker makes it; a link that breaks is tried again."""
        house, lease, target = self._here.house, self._lease, self._target
        clock = {} if self._world is None else {"now": self._world.now}
        applier = Applier(house.base.pool.connection, house.procedures, **clock)
        begun = await applier.look_ahead(target, campaign_id, target.meter.meter_id, lease)
        if not isinstance(begun, Begun):
            return begun

        async def commit(batch: ReadingBatch) -> None:
            await (
                await house.pipeline.submit(batch, Settlement(frozenset([lease]), urgent=True), urgent=True)
            )

        way = await house.drivers.prepare_one(target)
        try:
            async with way.driver.open(way.way) as conversation:
                return await applier.apply(
                    conversation, target, begun, lease,
                    wanted=lambda: False, crowded=lambda: False, commit=commit,
                )  # fmt: skip
        except LinkError as error:
            return Later(datetime.now(UTC), str(error))


async def sweep(
    mortal: Mortal,
    program: Callable[[], Program],
    ended: Callable[[CampaignMeter], None],
    *,
    stride: int = 1,
) -> int:
    """Campaigns one after the other, each of which dies ``stride`` waits later than the last; ``program``
    makes the meter as it was before and gives what it shall have, ``ended`` looks at what came of it. How
    many waits one campaign has."""
    moment, came_so_far = 1, True
    while came_so_far:
        found, came_so_far = await mortal.dies_at(program(), moment)
        ended(found)
        moment += stride
    return moment - stride
