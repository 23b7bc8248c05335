"""A concentrator that holds the image gives it to the meters that shall have it: it is told of them, and
asked how far they are."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headend.drivers.commands.firmware import Distributed, Distributing
from headend.programs.contract import Later, Task
from headend.programs.firmware.station_journal import StationJournal
from headend.programs.firmware.transfer import LONGEST_POLL_S, POLL_S
from headend.store import campaign_meters, handovers, queue
from headend.store.handovers import Share, ShareState
from headend.store.sql import Connection
from schemas.address import GatewayAddress
from schemas.campaign import FINAL, CampaignState

#: Fact of a concentrator: campaigns that need not hand it this image again, for it failed.
FAILED_FOR: Final = "failed_for"


class Distribution:
    """One visit of one concentrator, node ``node`` called ``name``, with one package (digest in hexadecimal).

    A meter is written down as told before the concentrator is: where that came to nothing it does not know of
    the meter, and is told again.
    """

    def __init__(
        self,
        station: Distributing,
        journal: StationJournal,
        node: int,
        name: str,
        package: str,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._station = station
        self._journal = journal
        self._node = node
        self._name = name
        self._package = package
        self._now = now
        self._ended: list[Share] = []

    async def go(self, task: Task) -> Later:
        """Tell it whom, and see how far they are. Raises as `Procedure.apply`."""
        told = await self._read()
        await self._withdraw(told)
        async with self._journal.fenced() as connection:
            still = await self._note_results(connection, told)
            new = await self._admit(connection)
        wanted = [_gateway(one) for one in (*still, *new)]
        if new or any(one not in told for one in wanted):
            await self._journal.intend("distribute", meters=len(wanted))
            await self._station.distribute(wanted)
            await self._journal.done("distribute", looks=0)
            told = await self._read()
            async with self._journal.fenced() as connection:
                still = await self._note_results(connection, told, is_asked=True)
        return await self._look_again(task, still)

    async def _read(self) -> dict[GatewayAddress, Distributed]:
        return {one.gateway: one for one in await self._station.read_distribution()}

    async def _withdraw(self, told: Mapping[GatewayAddress, Distributed]) -> None:
        """Meters that shall not have it from it any more are off its list before they are given up."""
        async with self._journal.fenced() as connection:
            gone = await self._gone(connection)
            shares = await self._shares(connection)
        under_way = {one for one, how in told.items() if not how.holds and how.failed is None}
        stay = [_gateway(one) for one in shares if one.state is ShareState.TOLD and one.key not in gone]
        if under_way - set(stay):
            await self._journal.note("withdraw", meters=len(under_way - set(stay)))
            await self._station.distribute([one for one in stay if one in under_way])
        async with self._journal.fenced() as connection:
            for share in shares:
                if share.key in gone:
                    await self._end(connection, share, gone[share.key])

    async def fail(self, task: Task, why: str) -> Later:
        """None of its meters gets the image from it."""
        async with self._journal.fenced() as connection:
            shares = await self._shares(connection)
            for share in shares:
                await self._end(connection, share, why)
        await self._journal.note(
            "failed", **{FAILED_FOR: sorted({one.campaign_id for one in shares})}, failed_because=why
        )
        return await self._look_again(task, [])

    # ---- what is written down ------------------------------------------------------------------------

    async def _shares(self, connection: Connection) -> list[Share]:
        found = await handovers.open_shares(connection, self._node)
        return [one for one in found if one.package == self._package]

    async def _gone(self, connection: Connection) -> dict[tuple[int, int], str]:
        """Meters that it is not to serve any more, and why."""
        states = await handovers.states_shared(connection, self._node)
        over = await handovers.over(connection, self._node)
        longest, now = timedelta(seconds=self._station.distribute_s), self._now()
        found = {}
        for share in await self._shares(connection):
            if states[share.campaign_id] in FINAL or share.key in over:
                found[share.key] = "the meter's part in the campaign is over"
            elif share.told_at is not None and now - share.told_at > longest:
                found[share.key] = f"{self._name} has not given it the image within {longest}"
        return found

    async def _note_results(
        self, connection: Connection, told: Mapping[GatewayAddress, Distributed], *, is_asked: bool = False
    ) -> list[Share]:
        """End what has come to something; the meters that it was told of and that are still to come.
        ``is_asked``: it was just asked for each of these."""
        still = []
        for share in await self._shares(connection):
            how = told.get(_gateway(share))
            if share.state is ShareState.ASKED:
                continue
            if how is None and is_asked:
                await self._end(connection, share, f"{self._name} does not take it on its list")
            elif how is not None and how.holds:
                await self._end(connection, share, None)
            elif how is not None and how.failed is not None:
                await self._end(connection, share, f"{self._name} could not give it the image: {how.failed}")
            else:
                still.append(share)
        return still

    async def _admit(self, connection: Connection) -> list[Share]:
        """Meters that it is told of from now on: those whose campaigns run."""
        states = await handovers.states_shared(connection, self._node)
        found = []
        for share in await self._shares(connection):
            if share.state is not ShareState.ASKED or states[share.campaign_id] is not CampaignState.RUNNING:
                continue
            image = {
                "package": self._package,
                "size": self._journal.facts["image"]["size"],
                "block_size": share.block_size,
                "at": self._now().isoformat(),
                "station": self._name,
            }
            if await _note_meter(connection, share, "intended", image=image):
                await handovers.tell(connection, share, now=self._now())
                found.append(share)
        return found

    async def _end(self, connection: Connection, share: Share, why: str | None) -> None:
        await end_share(connection, share, why)
        self._ended.append(share)

    # ---- who comes next ------------------------------------------------------------------------------

    async def _look_again(self, task: Task, still: Sequence[Share]) -> Later:
        """Meters of which something came are visited now, and the concentrator when more may have come."""
        now = self._now()
        looks = int(self._journal.facts.get("looks", 0))
        at = now + timedelta(seconds=min(POLL_S * 2**looks, LONGEST_POLL_S)) if still else now
        if still:
            await self._journal.note("distributes", looks=looks + 1, meters=len(still))
        own = (task.campaign_id, task.meter_id)
        async with self._journal.fenced() as connection:
            await handovers.look_at(connection, self._node, at)
            lanes = set()
            for share in self._ended:
                lanes |= set(await handovers.bring_on(connection, share.campaign_id, [share.meter_id], now))
            others = [one for one in await handovers.open_shares(connection, self._node) if one.key != own]
            if others and own in {one.key for one in self._ended}:  # somebody must come and look
                first = others[0]
                lanes |= set(await handovers.bring_on(connection, first.campaign_id, [first.meter_id], at))
            await queue.wake(connection, sorted(lanes))
        if own in {one.key for one in self._ended}:
            return Later(now, f"{self._name} is done with it")
        return Later(at, f"{self._name} distributes the image: {len(still)} meters are still to have it")


def _gateway(share: Share) -> GatewayAddress:
    network, _, physical = share.gateway.partition(":")
    return GatewayAddress(int(network), bytes.fromhex(physical))


async def end_share(connection: Connection, share: Share, why: str | None) -> None:
    """The meter holds the image, or has none from its concentrator, and why: its visits are its own again."""
    state = ShareState.HOLDS if why is None else ShareState.FAILED
    await handovers.end(connection, share, state, reason=why)
    facts = {"distributed": state.value} | ({} if why is None else {"distribution_failed": why})
    phase = "noted" if share.state is ShareState.ASKED else "done"
    await _note_meter(connection, share, phase, **facts)


async def _note_meter(connection: Connection, share: Share, phase: str, **facts: Any) -> bool:
    return await campaign_meters.note(
        connection, share.campaign_id, share.meter_id, step="distribute", phase=phase, facts=facts
    )
