"""A conversation with one meter, for commands that look at what it has now."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from headend.cli.terminal import CommandError
from headend.drivers.contract import Conversation
from headend.house import House
from headend.jobs.lanes import LaneKeeper
from headend.links.permits import Urgency
from headend.processes.presence import this_process
from headend.store import lanes
from headend.store.workers import Kind
from protocols.errors import LocalProtocolError
from schemas.meter import Meter

#: So long it is waited for a line that others talk on, looked at about so often, in seconds.
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.5


@asynccontextmanager
async def conversation(house: House, meter: Meter) -> AsyncIterator[Conversation]:
    """Open inside, its lane held meanwhile: no worker talks with the meter then.

    Raises CommandError where the line is not free in time, and the tree of `protocols.errors`.
    """
    target = await house.target(meter)
    driver = house.drivers.of(meter.model)
    way = (await driver.prepare([target]))[meter.meter_id]
    if isinstance(way, LocalProtocolError):
        raise way
    async with house.base.pool.connection() as connection:
        lane = (await lanes.of_meters(connection, {meter.meter_id: target.place.station_id}))[meter.meter_id]
        await lanes.ensure(connection, [lane])
    name = this_process(Kind.WORKER).worker
    lease_s = house.base.settings.lane_lease_s
    async with LaneKeeper(house.base.pool, name, lease_s=lease_s) as keeper:
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE_S
        while True:
            async with keeper.holding(lane) as held:
                if held is not None:
                    async with house.links.conversation(
                        driver, way, urgency=Urgency.ON_DEMAND, force=True
                    ) as opened:
                        yield opened
                    return
            if loop.time() > end:
                raise CommandError(f"{meter.asset_id}: a worker talks on its line; try again later")
            await asyncio.sleep(_LOOK_S * random.uniform(0.5, 1.5))  # noqa: S311 - to be spread, not guessed
