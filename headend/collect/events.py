"""Reads the event logs of all meters, round after round, each from where its last reading ended.

What a log may have got since, with a margin for clocks that are not ours, is asked for; that the margin comes
again costs nothing, since an event is stored once. A meter's cursor moves when its events are committed, so
that whatever fails is asked for again.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.collect.collector import CHUNK, Limits
from headend.collect.outcome import Failure, Outcome
from headend.collect.periodic import JITTER
from headend.drivers.contract import Feature
from headend.drivers.registry import Drivers, Reachable
from headend.drivers.targets import targets_of
from headend.ingest.pipeline import Pipeline, PipelineClosed
from headend.keys.seal import SealError
from headend.links.links import Links
from headend.session.access import Connect
from headend.session.retry import retrying
from headend.store import coverage, events
from headend.store.errors import UnavailableError
from headend.store.writer import UnknownMeter, Written
from protocols.errors import CommunicationError
from schemas.meter import Meter
from schemas.model import ModelError
from schemas.reading import ReadingBatch

log = logging.getLogger(__name__)

#: How far a meter's clock may be off, and events still be found by the range that is asked for.
MARGIN: Final = timedelta(days=1)
#: The first reading of a log asks for all of it.
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Round:
    """What belongs to one round. ``read_until`` by meter: None where its logs were never read."""

    read_until: dict[int, datetime | None]
    outcome: Outcome = field(default_factory=Outcome)
    read: list[tuple[int, datetime]] = field(default_factory=list)
    transactions: set[int] = field(default_factory=set)

    def committed(self, written: Written) -> None:
        """Count a transaction once: it may have carried other meters' batches too."""
        if written.batch_id is not None and written.batch_id not in self.transactions:
            self.transactions.add(written.batch_id)
            self.outcome.written = self.outcome.written.plus(written)


class EventRounds:
    """Rounds follow one another: a second one waits for the first to end.

    Args:
        connect: gives a database connection.
        drivers: the languages.
        links: the ways to the meters.
        pipeline: takes what was read.
        now: aware, UTC.
    """

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        links: Links,
        pipeline: Pipeline,
        *,
        limits: Limits | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._drivers = drivers
        self._links = links
        self._pipeline = pipeline
        self._limits = Limits() if limits is None else limits
        self._now = now
        self._room = asyncio.Semaphore(self._limits.meters)
        self._one = asyncio.Lock()

    async def run(self, period_s: float) -> None:
        """A round at once, and again every ``period_s`` seconds; ends by cancellation. A database that is
        away costs a round."""
        while True:
            try:
                outcome = await self.read()
            except UnavailableError as error:
                log.error("this round is left out, the database is away: %s", str(error).split("\n", 1)[0])  # noqa: TRY400
            else:
                log.info(
                    "event logs: %d meters read, %d failed, %d away, %d new events",
                    outcome.read, outcome.failed, outcome.away, outcome.written.events,
                )  # fmt: skip
            await asyncio.sleep(period_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - no secret

    async def read(self, meter_ids: Sequence[int] | None = None) -> Outcome:
        """Read the event logs of all commissioned meters that keep some, or of those named.

        Ends when everything that was read is committed. A meter's failure is in the outcome and costs nobody
        else. Raises UnavailableError while the database is away.
        """
        loop = asyncio.get_running_loop()
        async with self._one:
            began = loop.time()
            this = _Round(await self._due(meter_ids))
            numbers = list(this.read_until)
            this.outcome.due = len(numbers)
            for first in range(0, len(numbers), CHUNK):
                await self._chunk(numbers[first : first + CHUNK], this)
            this.outcome.seconds = loop.time() - began
        return this.outcome

    async def _due(self, meter_ids: Sequence[int] | None) -> dict[int, datetime | None]:
        """Meters by number, each with the moment until which its logs were read."""
        async with self._connect() as connection:
            models = []
            for name in await coverage.models_in_use(connection, meter_ids):
                try:
                    if Feature.EVENTS in self._drivers.of(name).features(name):
                        models.append(name)
                except ModelError as error:
                    log.error("event logs of model %s are not read: %s", name, error)  # noqa: TRY400
            return dict(await events.due(connection, models, meter_ids)) if models else {}

    async def _chunk(self, numbers: Sequence[int], this: _Round) -> None:
        """Read some meters, and then remember until when each was read."""
        async with self._connect() as connection:
            targets = await targets_of(connection, numbers)
        ways = await self._drivers.prepare(targets)
        this.read.clear()
        try:
            async with asyncio.TaskGroup() as group:
                for target in targets:
                    meter, way = target.meter, ways[target.meter.meter_id]
                    if isinstance(way, Reachable) and way.is_away:
                        this.outcome.away += 1
                        continue
                    await self._room.acquire()
                    group.create_task(self._meter(meter, way, this), name=f"events of {meter.asset_id}")
        finally:
            if this.read:
                async with self._connect() as connection:
                    await events.move_cursors(connection, this.read)

    async def _meter(self, meter: Meter, way: Reachable | Exception, this: _Round) -> None:
        """Read one meter, whatever comes: this is where a failure stops."""
        attempts = 1

        def again(attempt: int, error: BaseException) -> None:
            nonlocal attempts
            attempts = attempt + 1
            this.outcome.retries += 1
            log.debug("%s: events again after attempt %d: %s", meter.asset_id, attempt, error)

        try:
            if isinstance(way, Exception):
                raise way
            now, before = self._now(), this.read_until[meter.meter_id]
            since = BEGINNING if before is None else before - MARGIN
            batch = await retrying(
                lambda: self._talk(way, since, now + MARGIN), self._limits.retry, on_retry=again
            )
            if batch.events or batch.registers:
                this.committed(await (await self._pipeline.submit(batch)))
            this.read.append((meter.meter_id, now))
            this.outcome.read += 1
        except (CommunicationError, SealError, UnavailableError, UnknownMeter, PipelineClosed) as error:
            failure = Failure.of(meter.asset_id, error, attempts)
            this.outcome.fail(failure)
            log.info(
                "%s: events not read (%s): %s", meter.asset_id, failure.stage or "no conversation", error
            )
        except Exception as error:  # the boundary: a defect met at one meter must not end all others
            this.outcome.fail(Failure.of(meter.asset_id, error, attempts))
            log.exception("%s: events not read, by a defect", meter.asset_id)
        finally:
            self._room.release()

    async def _talk(self, way: Reachable, since: datetime, until: datetime) -> ReadingBatch:
        async with self._links.conversation(way.driver, way.way) as conversation:
            return await conversation.read_events(since, until)
