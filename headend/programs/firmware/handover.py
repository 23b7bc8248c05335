"""An image is handed to a concentrator once for all its meters that shall have it now.

::

    meter's visit: fits, needs it ──> asked ──┐
    (of a wave that is open)                  │
    concentrator's visits:  image ──> told ───┴──> holds ──> meter's visit: activated, version read back
    (whichever meter's turn)  once        └──────> failed ──> meter's visit: the image passed through to it

A visit at the concentrator serves it, not the meter whose turn it was: one package at a time, and of that the
meters whose campaigns run.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from headend.clock import utc_now
from headend.drivers.commands.firmware import Distributing, ImageState
from headend.drivers.contract import Target
from headend.firmware.package import PackageError
from headend.jobs.forwarding import station_targets
from headend.programs.contract import Failed, Journal, Later, Outcome, Task
from headend.programs.firmware.distribution import FAILED_FOR, Distribution, end_share
from headend.programs.firmware.packages import Packages
from headend.programs.firmware.plan import Record, Step, record_of
from headend.programs.firmware.station_journal import StationJournal
from headend.programs.firmware.transfer import MOST_STEPS, Transfer
from headend.store import campaign_meters, handovers
from headend.store.errors import UnknownError
from headend.store.handovers import ShareState
from headend.store.sql import Connection
from protocols.errors import CommunicationError, LinkError
from schemas.address import LinkAddress
from schemas.campaign import CampaignState

#: All but one of the meters that wait for their concentrator come back so much later; results bring them on
#: before.
_WAIT: Final = timedelta(minutes=2)
#: While one meter's visit is at the concentrator, no other's is; for so long at most.
_CLAIM: Final = timedelta(minutes=2)


class _Carrier(NamedTuple):
    """Campaign and meter whose visits are made at a concentrator; nobody else's are ``until`` then."""

    key: tuple[int, int]
    until: datetime


class Handover:
    """See the module. Arguments as `FirmwareProcedure` has them."""

    def __init__(
        self,
        packages: Packages,
        *,
        now: Callable[[], datetime] = utc_now,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._packages = packages
        self._now = now
        self._draw = draw
        self._carriers: dict[int, _Carrier] = {}

    async def ask(self, task: Task, journal: Journal, package: str, state: ImageState) -> Later | None:
        """The meter, which is in this state, shall have the package from its concentrator; None where that
        failed already in this campaign."""
        place, address = task.target.place, task.target.meter.address
        gateway = None if address is None else LinkAddress.parse(address).gateway
        if place.station_id is None or gateway is None:
            return None
        async with journal.fenced() as connection:
            image = await handovers.image_of(connection, place.station_id)
            served = image is not None and image.package == package
            if image is not None and served and task.campaign_id in image.facts.get(FAILED_FOR, ()):
                return None
            is_first = not await handovers.open_shares(connection, place.station_id)
            await handovers.ask(
                connection, task.campaign_id, task.meter_id, station=place.station_id, package=package,
                gateway=str(gateway), block_size=state.block_size, now=self._now(),
            )  # fmt: skip
            if is_first:
                await handovers.serve(connection, place.station_id, package)
            await campaign_meters.note(
                connection, task.campaign_id, task.meter_id, step="handed over", phase="noted",
                facts={"through": place.station},
            )  # fmt: skip
        return Later(self._now(), f"{place.station} is handed the image for it")

    async def where(
        self, connection: Connection, target: Target, campaign_id: int, now: datetime
    ) -> Target | Later | None:
        """See `headend.programs.contract.AtStations`."""
        share = await handovers.share_of(connection, campaign_id, target.meter.meter_id)
        if share is None or not share.is_open or share.station != target.place.station_id:
            return None
        carrier, why = self._carriers.get(share.station), f"waits for {target.place.station}"
        if carrier is not None and carrier.key != share.key and carrier.until > now:
            return Later(now + _WAIT * (0.5 + self._draw() / 2), why)
        if share.look_at > now:
            if carrier is None or carrier.key == share.key:
                self._carriers[share.station] = _Carrier(share.key, now)
                return Later(share.look_at, why)
            return Later(share.look_at + _WAIT * (0.5 + self._draw() / 2), why)
        self._carriers[share.station] = _Carrier(share.key, now + _CLAIM)
        return (await station_targets(connection, [share.station])).get(share.station)

    async def turned_away(self, connection: Connection, campaign_id: int, meter_id: int, why: str) -> None:
        """See `headend.programs.contract.AtStations`."""
        share = await handovers.share_of(connection, campaign_id, meter_id)
        if share is not None and share.is_open:
            self._carriers.pop(share.station, None)
            await end_share(connection, share, f"its concentrator cannot be talked with: {why}")

    async def go(self, station: Distributing, task: Task, journal: Journal) -> Outcome:
        """One visit at the concentrator. Raises as `Procedure.apply`."""
        node, name = task.target.place.station_id, task.target.place.station
        if node is None or name is None:
            raise ValueError("a concentrator is a node of the network")
        key = (task.campaign_id, task.meter_id)
        try:
            return await self._serve(station, node, name, task, journal)
        finally:
            self._carriers[node] = _Carrier(key, self._now())

    async def _serve(
        self, station: Distributing, node: int, name: str, task: Task, journal: Journal
    ) -> Outcome:
        async with journal.fenced() as connection:
            package = await self._choose(connection, node)
            image = await handovers.image_of(connection, node)
            shares = [one for one in await handovers.open_shares(connection, node) if one.package == package]
        if package is None or image is None:
            return Later(self._now() + _WAIT, f"no campaign that has meters behind {name} runs")
        own = StationJournal(journal, node, shares[0].campaign_id, image)
        work = Distribution(station, own, node, name, package, now=self._now)
        try:
            outcome = await self._transfer(station, own, package)
            if outcome is None:
                return await work.go(task)
        except LinkError:
            raise
        except CommunicationError as error:  # its own fault, which its meters are not to suffer
            outcome = Failed(str(error))
        if isinstance(outcome, Later):
            async with journal.fenced() as connection:
                await handovers.look_at(connection, node, outcome.at)
            return Later(outcome.at, f"{name}: {outcome.why}")
        return await work.fail(task, f"{name} could not be given the image: {outcome.reason}")

    async def _choose(self, connection: Connection, node: int) -> str | None:
        """Which package the concentrator is served with now: the one that meters are told of, else the one
        that it has, else the oldest that is asked for. None: nothing is."""
        states = await handovers.states_shared(connection, node)
        shares = await handovers.open_shares(connection, node)
        image = await handovers.image_of(connection, node)
        told = [one.package for one in shares if one.state is ShareState.TOLD]
        asked = [one.package for one in shares if states[one.campaign_id] is CampaignState.RUNNING]
        if image is None or not (told or asked):
            return None
        chosen = told[0] if told else image.package if image.package in asked else asked[0]
        if chosen != image.package:
            await handovers.serve(connection, node, chosen)
        return chosen

    async def _transfer(
        self, station: Distributing, journal: StationJournal, package: str
    ) -> Later | Failed | None:
        """Bring it the image, as far as this visit gets; None where it holds it verified."""
        try:
            opened = await self._packages.get(package)
        except (PackageError, UnknownError) as error:
            return Failed(f"package {package[:12]} is not sent: {error}")

        async def record() -> Record | None:
            image = journal.facts.get("image")
            return None if image is None else record_of(image, confirmed=journal.is_done("initiate"))

        transfer = Transfer(
            station, journal, opened, record, who="the concentrator", now=self._now, draw=self._draw
        )
        for _ in range(MOST_STEPS):
            state = await station.read_image_state()
            step, why = await transfer.next(state)
            if step is Step.ACTIVATE:
                return None
            outcome = await transfer.take(step, why, state)
            if outcome is not None:
                return outcome
        return transfer.no_further(step, why, state)
