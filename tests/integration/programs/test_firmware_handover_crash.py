"""A head-end that dies again and again while a concentrator is handed an image: no block is sent twice, to
whomever, and nobody is begun with twice.

The process dies where it waits for something, the database or a device, after so many waits as are drawn each
time: what it had in memory is gone, what it had committed is there. Then another goes on.
"""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

from concentrator_sim.image import ImageStore, simulated_image
from headend.drivers.contract import Target
from headend.drivers.targets import targets_of
from headend.programs.applier import Applier, Begun
from headend.programs.contract import Finished, Later, Outcome
from headend.programs.firmware.packages import Packages
from headend.programs.firmware.procedure import FirmwareProcedure
from headend.store import campaigns, lanes
from headend.store.lanes import Lease
from protocols.errors import LinkError
from schemas.campaign import CampaignState
from schemas.reading import ReadingBatch
from tests.integration.programs.dying import DiesAt
from tests.integration.programs.field import Works
from tests.integration.programs.test_firmware import SIZE, TRUSTED, packed, uploaded
from tests.integration.programs.test_firmware_handover import BLOCKS, behind, concentrator, stores

#: Rounds of all meters, and within how many waits their processes die.
ROUNDS = 2
LIVES = (5, 120)


async def _nothing_read(batch: ReadingBatch) -> None:
    raise AssertionError("firmware reads nothing")


class Clock:
    """Shows the time that somebody waits for as soon as he waits."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def wait_for(self, moment: datetime) -> None:
        self._ahead += max(timedelta(0), moment - self())


class Process:
    """What dies: who applies programs, with all that it remembers."""

    def __init__(self, here: Works, clock: Clock, lease: Lease) -> None:
        connect, self._drivers, self._lease = here.house.base.pool.connection, here.house.drivers, lease
        procedure = FirmwareProcedure(
            connect, Packages(connect, [TRUSTED]),
            lambda model: self._drivers.of(model).features(model), now=clock, draw=lambda: 0.0,
        )  # fmt: skip
        self._applier = Applier(connect, [procedure], now=clock)

    async def visit(self, target: Target, campaign_id: int) -> Outcome:
        """As a worker makes it: of the meter, or of its concentrator; a link that breaks is tried again."""
        begun = await self._applier.look_ahead(target, campaign_id, target.meter.meter_id, self._lease)
        if not isinstance(begun, Begun):
            return begun
        reachable = await self._drivers.prepare_one(begun.at or target)
        try:
            async with reachable.driver.open(reachable.way) as conversation:
                return await self._applier.apply(
                    conversation, target, begun, self._lease,
                    wanted=lambda: False, crowded=lambda: False, commit=_nothing_read,
                )  # fmt: skip
        except LinkError as error:
            return Later(datetime.now(UTC), str(error))


async def test_it_dies_again_and_again(embedded_database: Any) -> None:
    async with behind(embedded_database.dsn, 2, working=False) as here:
        async with here.house.base.pool.connection() as connection:
            targets = await targets_of(connection, list(here.meters.values()))
            lane = f"station:{targets[0].place.station_id}"
            await lanes.ensure(connection, [lane])
            (lease,) = await lanes.take(connection, [lane], holder="test", lease_s=600)
        head, clock, deaths = concentrator(here).head.part(ImageStore), Clock(), 0
        for turn in range(1, ROUNDS + 1):
            version = f"2.{turn}.0"
            program = await uploaded(
                here,
                packed(simulated_image(version, SIZE), identifier=version.encode().hex(),
                       version_to=version, versions_from=()),
            )  # fmt: skip
            campaign = await here.propose(program)
            await here.approve(campaign.campaign_id)
            await here.advance(campaign.campaign_id)
            deaths += await rounds(here, clock, lease, targets, campaign.campaign_id)
            assert {one.version for one in stores(here).values()} == {version}
            assert head.counts.blocks == turn * BLOCKS
            assert head.counts.again_told == head.counts.again_untold == 0
            for one in stores(here).values():
                assert one.counts == (turn * BLOCKS, 0, 0, turn)
        assert deaths > 2 * ROUNDS  # or nothing was ever cut off


async def rounds(here: Works, clock: Clock, lease: Lease, targets: list[Target], campaign_id: int) -> int:
    """Visit the meters in turn until all have it; how many processes died."""
    process, deaths, todo = Process(here, clock, lease), 0, list(targets)
    chance = random.Random(campaign_id)
    life = chance.randint(*LIVES)
    async with asyncio.timeout(30):
        for target in cycle(targets):
            if not todo:
                break
            if target not in todo:
                continue
            dying = DiesAt(process.visit(target, campaign_id), life)
            outcome = await dying
            life = dying.left
            if outcome is None:
                process, deaths = Process(here, clock, lease), deaths + 1
                life = chance.randint(*LIVES)
            elif isinstance(outcome, Later):
                clock.wait_for(outcome.at)
                await asyncio.sleep(0)
            else:
                assert isinstance(outcome, Finished), outcome
                todo.remove(target)
    async with here.house.base.pool.connection() as connection:
        await campaigns.move(connection, campaign_id, CampaignState.DONE, before=[CampaignState.RUNNING])
    return deaths
