"""A head-end that dies at any moment of an upgrade: it is gone on with where it stood, no block that the
meter has is sent again, and the meter is activated once.

To initiate clears the meter's bitmap. It is done once, but for deaths around that very step: nobody knows
then whether the meter heard of it, and it is told again while it has no block that could be lost.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from concentrator_sim.concentrator import WIRE
from concentrator_sim.dlms_station import DlmsStation
from concentrator_sim.image import ImageStore, simulated_image
from concentrator_sim.meter import SimulatedMeter
from headend.programs.firmware.procedure import FirmwareProcedure
from headend.store.campaign_meters import CampaignMeter
from protocols.dlms.enums import ActionResult
from schemas.campaign import MeterProgress
from schemas.programs.firmware import FirmwareProgram
from tests.integration.programs.dying import Mortal, World, forget, sweep
from tests.integration.programs.field import Works
from tests.integration.programs.test_firmware import field, packed, uploaded
from tests.integration.programs.test_firmware_modbus import MODEL, station

#: More than lie between two deaths, so that some die among blocks.
BLOCKS = 16
PLAN = {"block_size": 128, "restart_s": 0}
IMAGE = simulated_image("2.0.0", BLOCKS * 128 - 60)
#: Waits of an upgrade around its one initiation, in which a death leaves it unknown.
_AROUND = 20


class Upgrades:
    """Of one meter, each from the beginning; what it was told in all of them is counted."""

    def __init__(
        self, meter: SimulatedMeter, program: Callable[[], FirmwareProgram], monkeypatch: pytest.MonkeyPatch,
        blocks: int = BLOCKS,
    ) -> None:  # fmt: skip
        self._meter, self._program, self._blocks = meter, program, blocks
        self.activated = self.campaigns = self.initiated = 0
        activate = ImageStore.activate

        def counted(store: ImageStore, now_s: float) -> ActionResult:
            result = activate(store, now_s)
            self.activated += result is ActionResult.SUCCESS
            return result

        monkeypatch.setattr(ImageStore, "activate", counted)

    def begin(self) -> FirmwareProgram:
        """A meter that never heard of an image."""
        forget(self._meter, ImageStore)
        return self._program()

    def ended(self, found: CampaignMeter) -> None:
        """As it shall be."""
        self.campaigns += 1
        memory = self._meter.part(ImageStore)
        assert found.state is MeterProgress.DONE, found.reason
        assert found.proof["version"] == memory.version == "2.0.0"
        assert memory.counts._replace(initiated=1) == (self._blocks, 0, 0, 1)
        assert memory.counts.initiated <= 2
        assert self.activated == self.campaigns
        self.initiated += memory.counts.initiated

    async def die(self, mortal: Mortal, stride: int) -> None:
        """At every ``stride``-th wait."""
        assert await sweep(mortal, self.begin, self.ended, stride=stride) > 40
        assert self.initiated <= self.campaigns + _AROUND // stride + 1


async def test_of_a_meter_that_answers_directly(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with field(embedded_database.dsn, meters=1, image=PLAN, working=False) as here:
        program = await uploaded(here, packed(IMAGE))
        made = Upgrades(here.simulated(), lambda: program, monkeypatch)
        await made.die(await Mortal.at(here, here.simulated().serial), stride=7)


async def test_of_a_meter_behind_a_concentrator_that_passes_through(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = {"kind": "pass_through", "meters": 1, "models": ["hls5"]}
    async with field(
        embedded_database.dsn, meters=0, stations=[behind], image=PLAN, working=False
    ) as here:  # fmt: skip
        (concentrator,) = here.field.stations
        assert isinstance(concentrator, DlmsStation)
        (member,) = concentrator._members
        member.route = WIRE  # what takes time or is lost is shown elsewhere
        program = await uploaded(here, packed(IMAGE))
        made = Upgrades(member.meter, lambda: program, monkeypatch)
        await made.die(await Mortal.at(here, member.meter.serial), stride=23)


async def test_of_a_slave_that_takes_file_records(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = {"kind": "modbus_tcp", "meters": 1, "models": [MODEL]}
    async with field(
        embedded_database.dsn, meters=0, stations=[bus], image=PLAN, working=False
    ) as here:  # fmt: skip
        meter = station(here)._slaves[1].meter
        program = await uploaded(here, packed(IMAGE, models=(MODEL,)))
        made = Upgrades(meter, lambda: program, monkeypatch)
        await made.die(await Mortal.at(here, meter.serial), stride=13)


def _at_a_moment(here: Works, world: World, package: str) -> Callable[[], FirmwareProgram]:
    """A program for half a minute later, by the world's clock."""
    (procedure,) = [one for one in here.house.procedures if isinstance(one, FirmwareProcedure)]
    procedure._now = world.now

    def program() -> FirmwareProgram:
        moment = world.now().replace(microsecond=0) + timedelta(seconds=30)
        return FirmwareProgram(package=package, activate_at=moment)

    return program


async def test_at_a_moment_that_the_meter_keeps(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single Action Schedule: it may be told twice, being the same, and activates once."""
    world = World()
    async with field(
        embedded_database.dsn, meters=1, image=PLAN, working=False, clock=world.seconds
    ) as here:  # fmt: skip
        package = (await uploaded(here, packed(IMAGE))).package
        made = Upgrades(here.simulated(), _at_a_moment(here, world, package), monkeypatch)
        await made.die(await Mortal.at(here, here.simulated().serial, world), stride=17)
        assert here.rows("SELECT count(*) > 0 FROM campaign_steps WHERE step = 'schedule'") == [(True,)]


async def test_at_a_moment_that_the_head_end_keeps(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meter without a timer: it is verified, and come back to at its moment, not before."""
    world = World()
    bus = {"kind": "modbus_tcp", "meters": 1, "models": [MODEL]}
    async with field(
        embedded_database.dsn, meters=0, stations=[bus], image=PLAN, working=False, clock=world.seconds
    ) as here:  # fmt: skip
        meter = station(here)._slaves[1].meter
        package = (await uploaded(here, packed(IMAGE, models=(MODEL,)))).package
        made = Upgrades(meter, _at_a_moment(here, world, package), monkeypatch)
        await made.die(await Mortal.at(here, meter.serial, world), stride=19)
        early = here.rows(
            "SELECT count(*) FROM campaign_steps s JOIN campaigns USING (campaign_id) JOIN programs p "
            "USING (program_id) WHERE s.step = 'activate' AND s.phase = 'intended' "
            "AND (s.detail ->> 'activated_at')::timestamptz < (p.content ->> 'activate_at')::timestamptz"
        )
        assert early == [(0,)]
