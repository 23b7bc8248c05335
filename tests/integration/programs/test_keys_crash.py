"""A head-end that dies at any moment of a rotation: the meter is always reached, and no counter comes twice.

The process dies at each place where it waits for anything, the database or the meter, one after another: what
it had in memory is gone, what it had committed is there. Then somebody else reads the meter, as any night
does, and then the rotation is gone on with.
"""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from concentrator_sim.key_slots import KeySlots, Mishap
from headend.drivers.contract import Target
from headend.drivers.dlms.driver import DlmsDriver
from headend.keys.counters import CounterBlocks
from headend.programs.applier import Applier, Begun
from headend.programs.contract import Finished, Later, Outcome
from headend.programs.keys import KeysProcedure
from headend.session.access import Access
from headend.session.deadlines import Deadlines
from headend.store import campaigns, lanes, meters
from protocols.dlms.ciphering import KeyUse
from protocols.errors import LinkError
from schemas.campaign import CampaignState
from schemas.meter import KeyPurpose
from schemas.programs.keys import KeysProgram
from schemas.reading import ReadingBatch
from tests.integration.programs.dying import DiesAt
from tests.integration.programs.field import Works, works
from tests.integration.programs.wire import Wire, tapped

ALL = KeysProgram(purposes=(KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION, KeyPurpose.MASTER))
TITLE = bytes.fromhex("4845440000000001")
USES = {"hls5-dedicated": KeyUse.DEDICATED, "hls5-wrapped": KeyUse.WRAPPED}
QUICK = Deadlines(connect_s=5, associate_s=0.3, response_s=0.3, release_s=0.3, session_s=10)


async def _nothing_read(batch: ReadingBatch) -> None:
    raise AssertionError("a rotation of keys reads nothing")


class Process:
    """What dies: an access with its counters in memory, and who applies programs."""

    def __init__(self, here: Works, wire: Wire, target: Target, lease: lanes.Lease) -> None:
        base = here.house.base
        connect = base.pool.connection
        self._target, self._lease = target, lease
        made: list[bytes] = []

        def random(length: int) -> bytes:
            made.append(os.urandom(length))
            if len(made) % 3 == 0:
                wire.made(*made[-3:])
            return made[-1]

        counters = CounterBlocks(connect, TITLE, block=8)
        self.access = Access(connect, here.house.vault, counters, system_title=TITLE, deadlines=QUICK)
        self._driver = DlmsDriver(self.access)
        self._applier = Applier(connect, [KeysProcedure(connect, base.vault, random=random)])

    async def read(self) -> None:
        """As any reading does."""
        reach = await self.access.prepare_one(self._target)
        async with self._driver.open(reach) as conversation:
            found = await conversation.read_registers(["1-0:1.8.0*255"])
        assert found.batch.registers

    async def visit(self, campaign_id: int) -> Outcome:
        """As a worker makes it; a link that breaks is tried again."""
        number = self._target.meter.meter_id
        begun = await self._applier.look_ahead(self._target, campaign_id, number, self._lease)
        if not isinstance(begun, Begun):
            return begun
        reach = await self.access.prepare_one(self._target)
        try:
            async with self._driver.open(reach) as conversation:
                return await self._applier.apply(
                    conversation,
                    self._target,
                    begun,
                    self._lease,
                    wanted=lambda: False,
                    crowded=lambda: False,
                    commit=_nothing_read,
                )
        except LinkError as error:
            return Later(datetime.now(UTC), str(error))


class Rotations:
    """Rotations of one meter, one campaign after another."""

    def __init__(self, here: Works, wire: Wire, target: Target, lease: lanes.Lease) -> None:
        self.here, self.wire = here, wire
        self._target, self._lease = target, lease

    def process(self) -> Process:
        return Process(self.here, self.wire, self._target, self._lease)

    async def begin(self) -> int:
        campaign = await self.here.propose(ALL)
        await self.here.approve(campaign.campaign_id)
        async with self.here.house.base.pool.connection() as connection:
            await campaigns.move(
                connection, campaign.campaign_id, CampaignState.RUNNING, before=[CampaignState.APPROVED]
            )
        return campaign.campaign_id

    async def dies_at(self, moment: int) -> bool:
        """One rotation whose process dies; afterwards all is as it should be. False where it got through
        before its time had come."""
        campaign_id = await self.begin()
        process, outcome = self.process(), None
        for _ in range(20):
            dying = DiesAt(process.visit(campaign_id), moment)
            outcome = await dying
            moment = dying.left
            if outcome is None:
                await self.process().read()
                process = self.process()
            elif not isinstance(outcome, Later):
                break
        assert isinstance(outcome, Finished), outcome
        await self.settled()
        return moment <= 0

    async def settled(self, *, known: bool = True) -> None:
        """The head-end has the meter's keys, nothing is pending, and it is read. Unless ``known`` is false,
        all keys were made in this process."""
        keys = self.here.simulated().keys
        meter_id = self._target.meter.meter_id
        async with self.here.house.base.pool.connection() as connection:
            vault = await self.here.house.base.vault()
            assert await vault.pending_many(connection, [meter_id]) == {}
            stored = await vault.get(connection, meter_id)
        assert stored[KeyPurpose.ENCRYPTION] == keys.encryption
        assert stored[KeyPurpose.AUTHENTICATION] == keys.authentication
        assert stored[KeyPurpose.MASTER] == keys.master
        await self.process().read()
        assert self.wire.reused == []
        assert not known or self.wire.unknown == 0


async def rotations(here: Works, wire: Wire) -> Rotations:
    async with here.house.base.pool.connection() as connection:
        (meter,) = await meters.find(connection, asset_ids=[here.simulated().serial])
        await lanes.ensure(connection, ["test"])
        (lease,) = await lanes.take(connection, ["test"], holder="test", lease_s=600)
    return Rotations(here, wire, Target(meter), lease)


@pytest.mark.parametrize(
    ("security", "stride"),
    [
        ("hls5", 1),
        ("hls5-suite1", 11),
        ("hls5-suite2", 11),
        ("hls5-general", 11),
        ("hls5-dedicated", 11),
        ("hls5-wrapped", 11),
    ],
)
async def test_it_dies_at_every_step(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch, security: str, stride: int
) -> None:
    async with works(embedded_database.dsn, meters=1, security=security) as here:
        wire = tapped(monkeypatch, here.simulated())
        made = await rotations(here, wire)
        moment = 1
        slots = here.simulated().part(KeySlots)
        while await made.dies_at(moment):
            moment += stride
            slots.answers_new = moment % 2 == 1
            slots.mishaps = [Mishap.ANSWER_LOST] if moment % 8 == 3 else []
        assert moment > 50
        assert len(wire.seen) > 500 // stride
        assert USES.get(security, KeyUse.GLOBAL) in wire.uses


#: A worker that is killed with SIGKILL at one place of its first rotation.
_VICTIM = """
import asyncio, os, signal, sys

from headend.drivers.dlms.commands.keys import KeysCommands
from headend.foundation import open_base
from headend.house import open_house
from schemas.config import load_settings

dsn, where = sys.argv[1:]
transfer = KeysCommands.transfer_keys

async def dies(self, new, *, under):
    if where == "behind":
        await transfer(self, new, under=under)
    os.kill(os.getpid(), signal.SIGKILL)

KeysCommands.transfer_keys = dies

async def main():
    settings = load_settings(database_url=dsn, master_key="42" * 32, lane_lease_s=1)
    async with open_base(settings) as base, open_house(base) as house:
        async with house.at_work("victim") as crew:
            await crew.run(drain_s=1)

asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["before", "behind"])
async def test_a_worker_is_killed_at_the_transfer(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """By the system, in a process of its own; another worker takes its lane over."""
    settings = {"lane_lease_s": 1}
    async with works(embedded_database.dsn, meters=1, settings=settings, working=False) as here:
        wire = tapped(monkeypatch, here.simulated())
        slots = here.simulated().part(KeySlots)
        before = slots.keys
        campaign = await here.propose(ALL)
        await here.approve(campaign.campaign_id)
        await here.advance(campaign.campaign_id)
        victim = await asyncio.create_subprocess_exec(sys.executable, "-c", _VICTIM, here.dsn, where)
        assert await asyncio.wait_for(victim.wait(), 60) == -signal.SIGKILL
        assert slots.transfers == (1 if where == "behind" else 0)
        taken = slots.keys
        assert (taken == before) == (where == "before")
        made = await rotations(here, wire)
        wire.made(*(one.reveal() for one in (taken.encryption, taken.authentication, taken.master) if one))
        await made.process().read()
        async with here.house.at_work("another") as crew:
            running = asyncio.create_task(crew.run(drain_s=5))
            (found,) = await here.ended(campaign.campaign_id)
            running.cancel()
            await asyncio.wait([running])
        assert found.state == "done", found.reason
        assert slots.keys != before
        has = slots.keys
        wire.made(*(one.reveal() for one in (has.encryption, has.authentication, has.master) if one))
        await made.settled(known=False)
