"""What concentrators that store and forward keep: into the database, and then released.

::

    directory ──> meters of ours ──> what of the kept rows is not covered ──> fetched, many meters at a time
        │                                                                          │
        ├ announced to the network                                batches ──> pipeline ──> committed
        └ silent meters: events                                                    │
                                         released, up to the last row <────────────┘

A concentrator may overwrite a row only when all that it keeps up to it is committed. What is committed is
asked of the database, not remembered: a round that was cut off after a commit is finished by the next one.
Rows of devices that are no meters of ours stay where they are.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from headend.clock import utc_now
from headend.drivers.contract import Conversation, Target
from headend.drivers.dlms.station import STATION, Answer, Ask, StationConversation
from headend.ingest.pipeline import Pipeline
from headend.jobs.shelves import Shelf, missing_range, parts
from headend.jobs.station_outcome import StationOutcome
from headend.session.access import Connect
from headend.store import announcements, coverage, meters, network
from headend.store.settlement import Settlement
from headend.store.sql import Connection
from headend.store.writer import UnknownMeter, Written
from protocols.dlms.store_forward import Entry, Reached, Release
from protocols.errors import CommunicationError, LinkTimeout, LocalProtocolError
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.meter import Meter, MeterState
from schemas.model import MeterModel, ModelError, load_model
from schemas.models import load_any
from schemas.network import Announced, Node, Place
from schemas.reading import registers_only

log = logging.getLogger(__name__)

#: How long a round may take, waiting for the database included, in seconds.
ROUND_S: Final = 1800.0

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


class _Committing(NamedTuple):
    shelf: Shelf
    committed: "asyncio.Future[Written]"


async def station_targets(connection: Connection, node_ids: Sequence[int]) -> dict[int, Target]:
    """Concentrators, each as the device that is called, by the number of their node: the one of its name
    among the meters, which has its keys, else one without keys. Raises UnavailableError."""
    nodes = [found.node for found in await network.find(connection, ids=node_ids)]
    devices = {
        one.asset_id: one for one in await meters.find(connection, asset_ids=[node.code for node in nodes])
    }
    return {node.node_id: Target(devices.get(node.code) or _device(node), _place(node)) for node in nodes}


class Forwarding:
    """Rounds of store-and-forward concentrators.

    Args:
        connect: gives a database connection.
        pipeline: takes what was fetched.
        profile_folders: where models are looked for before the packaged ones.
        now: aware, UTC.
    """

    def __init__(
        self,
        connect: Connect,
        pipeline: Pipeline,
        *,
        profile_folders: tuple[Path, ...] = (),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._pipeline = pipeline
        self._folders = profile_folders
        self._now = now
        #: rows fetched and profiles released since the start, by that name
        self.totals = {"fetched": 0, "released": 0, "failed": 0}

    async def fetch(
        self, conversation: Conversation, place: Place, settlement: Settlement, outcome: StationOutcome
    ) -> None:
        """One round of a concentrator, counted in ``outcome`` as it goes on; ``settlement`` goes with all
        that is stored.

        Raises the tree of `protocols.errors`, UnavailableError, PipelineClosed and LaneLost.
        """
        if not isinstance(conversation, StationConversation):
            raise LocalProtocolError(f"{place.station} is no concentrator that stores and forwards")
        try:
            async with asyncio.timeout(ROUND_S):
                await self._round(conversation, place, settlement, outcome)
        except TimeoutError:
            raise LinkTimeout(f"{place.station}: the round did not end within {ROUND_S:.0f} s") from None
        finally:
            self.totals["fetched"] += outcome.fetched
            self.totals["released"] += outcome.released
            for identity, reason in outcome.bad.items():
                log.warning("%s: %s: %s", place.station, identity, reason)

    async def _round(
        self, conversation: StationConversation, place: Place, settlement: Settlement, outcome: StationOutcome
    ) -> None:
        entries = await conversation.directory()
        outcome.meters = len(entries)
        outcome.lost = sum(kept.lost for entry in entries for kept in entry.kept)
        known = await self._announce(place, entries)
        outcome.unknown = len(entries) - len(known)
        told = await self._tell_silent(place, entries, known, settlement, outcome)
        before: list[_Committing] = []
        for part in parts(await self._shelves(entries, known, outcome)):
            answers = await conversation.fetch([shelf.ask for shelf in part if shelf.ask is not None])
            now = await self._submit(part, answers, settlement, outcome)
            # the one before is committed while this one was on its way
            await self._release(conversation, part, before, outcome)
            before = now
        await self._release(conversation, (), before, outcome)
        if told is not None:
            await told

    async def _announce(self, place: Place, entries: Sequence[Entry]) -> Mapping[str, int]:
        """Tell the network who is here; the numbers of the meters of ours, by identity."""
        told = [
            Announced(
                entry.identity,
                model=entry.kind if entry.kind and self._is_model(entry.kind) else None,
                address=f"via:?gateway={entry.address}",
                link=entry.link,
                hops=entry.hops,
                quality=entry.quality,
                parent=entry.via or None,
            )
            for entry in entries
        ]
        async with self._connect() as connection:
            return (await announcements.announce(connection, _node_id(place), told, now=self._now())).known

    def _is_model(self, name: str) -> bool:
        try:
            load_any(name, self._folders)
        except ModelError:
            return False
        return True

    async def _tell_silent(
        self,
        place: Place,
        entries: Sequence[Entry],
        known: Mapping[str, int],
        settlement: Settlement,
        outcome: StationOutcome,
    ) -> "asyncio.Future[Written] | None":
        """Hand on what the concentrator says of meters that it does not reach."""
        silent = [entry for entry in entries if entry.reached is Reached.SILENT]
        outcome.silent = len(silent)
        now_us = (self._now() - _EPOCH) // _US
        source = f"{STATION} {place.station}"
        events = [
            MeterEvent(
                known[entry.identity],
                EventLog.STATION,
                EventMeaning.METER_SILENT,
                None,
                None if entry.since is None else (entry.since - _EPOCH) // _US,
                now_us,
                source,
                text=f"not reached by {place.station}",
                standing=entry.since is None,
            )
            for entry in silent
            if entry.identity in known
        ]
        if not events:
            return None
        return await self._pipeline.submit(registers_only((), source=source, events=events), settlement)

    async def _shelves(
        self, entries: Sequence[Entry], known: Mapping[str, int], outcome: StationOutcome
    ) -> list[Shelf]:
        """What is kept of meters of ours, with what of it the database has not."""
        async with self._connect() as connection:
            have = await coverage.covered(connection, list(known.values()))
            models = await self._models(connection, list(known.values()))
        found = []
        for entry in entries:
            meter_id = known.get(entry.identity)
            if meter_id is None:
                continue
            model = models.get(meter_id)
            for kept in entry.kept:
                if kept.oldest is None or kept.newest is None:
                    continue
                if not isinstance(model, MeterModel):
                    outcome.bad[entry.identity] = str(model)
                    break
                since = kept.oldest - timedelta(seconds=kept.period_s)
                missing = missing_range((since, kept.newest), have.get((meter_id, kept.profile), ()))
                ask = None if missing is None else Ask(meter_id, model, entry.slot, kept, *missing)
                found.append(Shelf(entry.identity, Release(entry.slot, kept.profile, kept.newest), ask))
        return found

    async def _models(
        self, connection: Connection, meter_ids: Sequence[int]
    ) -> dict[int, MeterModel | ModelError]:
        """The models of these meters, or why one has none that a load profile can be read by."""
        found: dict[int, MeterModel | ModelError] = {}
        loaded: dict[str, MeterModel | ModelError] = {}
        for meter in await meters.find(connection, ids=meter_ids):
            if meter.model not in loaded:
                try:
                    loaded[meter.model] = load_model(meter.model, self._folders)
                except ModelError as error:
                    loaded[meter.model] = error
            found[meter.meter_id] = loaded[meter.model]
        return found

    async def _submit(
        self,
        part: Sequence[Shelf],
        answers: Sequence[Answer],
        settlement: Settlement,
        outcome: StationOutcome,
    ) -> list[_Committing]:
        asked = [shelf for shelf in part if shelf.ask is not None]
        committing = []
        for shelf, answer in zip(asked, answers, strict=True):
            if isinstance(answer.result, CommunicationError):
                outcome.bad[shelf.identity] = str(answer.result)
                continue
            outcome.fetched += len(answer.result)
            committed = await self._pipeline.submit(answer.result, settlement)
            committing.append(_Committing(shelf, committed))
        return committing

    async def _release(
        self,
        conversation: StationConversation,
        part: Sequence[Shelf],
        committing: Sequence[_Committing],
        outcome: StationOutcome,
    ) -> None:
        """Release what of ``part`` the database had already, and what was committed now."""
        releases = [shelf.release for shelf in part if shelf.ask is None]
        for shelf, committed in committing:
            try:
                await committed
            except (UnknownMeter, ValueError) as error:
                outcome.bad[shelf.identity] = str(error).split("\n", 1)[0]
            else:
                releases.append(shelf.release)
        await conversation.release(releases)
        outcome.released += len(releases)


def _node_id(place: Place) -> int:
    if place.station_id is None:
        raise LocalProtocolError(f"{place.station} is no node of the network")
    return place.station_id


def _device(node: Node) -> Meter:
    """A concentrator that is no device of the meters' table: no keys of it are stored."""
    return Meter(
        meter_id=-node.node_id,
        asset_id=node.code,
        model=node.model or "",
        system_title=None,
        logical_device_name=None,
        address=node.address,
        feeder=None,
        transformer=None,
        state=MeterState.COMMISSIONED,
        state_since=_EPOCH,
        created_at=_EPOCH,
        updated_at=_EPOCH,
    )


def _place(node: Node) -> Place:
    # no hop: its answers say nothing about those of its nearest meters
    return Place(node.node_id, node.code, node.address, node.model, hops=0)
