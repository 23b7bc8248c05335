"""From a pushed APDU to committed values, or to the inbox: never lost silently, acknowledged after commit."""

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

from headend.ingest.pipeline import Pipeline
from headend.listen.directory import Connect
from headend.listen.heartbeat import Claim
from headend.listen.push_stream import Payload
from headend.listen.recognise import Context, Explained, Kept, Proof, Recogniser
from headend.listen.replay import ReplayBar
from headend.store import inbox
from headend.store.errors import UnavailableError
from headend.store.writer import UnknownMeter, Written
from protocols.dlms.apdu import DataNotificationConfirm
from protocols.dlms.association.events import Notification
from schemas.meter import Meter
from schemas.reading import registers_only

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Longest wait before the database is asked again; each is drawn from [0, bound].
_LONGEST_RETRY_S: Final = 5.0
_MOST_SOURCES: Final = 1_000


@dataclass(slots=True)
class PushTotals:
    """What came since the start. ``stored`` counts messages whose values are committed, ``kept`` those in the
    inbox, ``dropped`` those for which the inbox had no room (1,000 unresolved of one source)."""

    messages: int = 0
    stored: int = 0
    confirmed: int = 0
    kept: int = 0
    dropped: int = 0
    replayed: int = 0
    bad_frames: int = 0


@dataclass(slots=True)
class Totals:
    """Of all sources together, and of each of the last thousand."""

    everything: PushTotals = field(default_factory=PushTotals)
    by_source: OrderedDict[str, PushTotals] = field(default_factory=OrderedDict)

    def count(self, source: str, name: str) -> None:
        """One more of ``name``."""
        one = self.by_source.setdefault(source, PushTotals())
        self.by_source.move_to_end(source)
        if len(self.by_source) > _MOST_SOURCES:
            self.by_source.popitem(last=False)
        for totals in (self.everything, one):
            setattr(totals, name, getattr(totals, name) + 1)


class Pending(NamedTuple):
    """Values that are handed to the pipeline and not yet committed."""

    payload: Payload
    source: str
    explained: Explained
    written: "asyncio.Future[Written]"


class PushHandler:
    """Takes what senders pushed. While the database is away everything waits, and so do the senders.

    ``clock_us`` gives microseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        connect: Connect,
        pipeline: Pipeline,
        recogniser: Recogniser,
        *,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._connect = connect
        self._pipeline = pipeline
        self._recogniser = recogniser
        self._bar = ReplayBar(connect)
        self._clock_us = clock_us
        self._last_us = 0
        self.totals = Totals()

    async def begin(
        self, payload: Payload, source: str, context: Context | None, proof: Proof | None = None
    ) -> Pending | None:
        """Understand a payload and hand its values to the pipeline, or keep it in the inbox (None then).

        With ``proof`` it came within that meter's session, which opened it.
        Raises PipelineClosed when the service ends.
        """
        self.totals.count(source, "messages")
        now_us = self._now_us()
        explained = await _patiently(lambda: self._recogniser.explain(payload, context, now_us, proof))
        if isinstance(explained, Kept):
            await self.keep(payload.apdu, source, explained.reason, explained.identity)
            return None
        asset_id = explained.known.meter.asset_id
        counter = explained.counter
        if counter is not None and not await _patiently(partial(self._bar.hold, counter)):
            self.totals.count(source, "replayed")
            reason = f"meter {asset_id}: invocation counter {counter.value} was seen before: replayed"
            await self.keep(payload.apdu, source, reason, counter.title.hex().upper())
            return None
        try:
            if explained.remark is not None:
                reason = f"stored in part: {explained.remark}"
                await self.keep(payload.apdu, source, reason, asset_id)
            events = [replace(one, source=source) for one in explained.events]
            batch = explained.forwarded
            if batch is None:
                batch = registers_only(explained.registers, source=source, events=events)
            written = await self._pipeline.submit(batch)
        except BaseException:  # also where the task is cancelled: it did not come to anything
            if counter is not None:
                self._bar.release(counter)
            raise
        return Pending(payload, source, explained, written)

    async def told(self, meter: Meter, told: Sequence[Notification], *, proven: bool) -> None:
        """Store what a meter told within its session, or keep it in the inbox; done after the commit.

        Not ``proven``, a message stands for itself, as one that a stranger pushes. Nothing is confirmed: the
        session is over, and a meter that waits for a confirm tells it again. Raises PipelineClosed as `begin`
        and `finish`.
        """
        source = f"session {meter.asset_id}"
        begun: list[Pending] = []
        for one in told:
            proof = Proof(meter.meter_id, one.control) if proven else None
            pending = await self.begin(Payload(one.apdu.to_bytes(), ()), source, None, proof)
            if pending is not None:
                begun.append(pending._replace(explained=pending.explained._replace(confirm=None)))
        for pending in begun:
            await self.finish(pending)

    async def claim_of(self, payload: Payload) -> Claim | None:
        """Which meter a payload says to be from, proven or not; None where it tells none that we know."""
        return await _patiently(lambda: self._recogniser.claim_of(payload))

    async def finish(self, pending: Pending) -> bytes | None:
        """Wait for the commit; the confirm to send, None where the sender waits for none.

        What the store refuses goes to the inbox. Raises PipelineClosed when the service ended before: then
        the same message may come again.
        """
        counter = pending.explained.counter
        try:
            stored = await self._committed(pending)
            if counter is not None:
                await _patiently(partial(self._bar.settle, counter))
        finally:
            if counter is not None:
                self._bar.release(counter)
        if not stored or pending.explained.confirm is None:
            return None
        self.totals.count(pending.source, "confirmed")
        return DataNotificationConfirm(pending.explained.confirm).to_bytes()

    async def _committed(self, pending: Pending) -> bool:
        """Wait for the commit; False where the store refused, and the inbox has it."""
        try:
            # the batch is the pipeline's: a sender that goes away must not cancel it
            await asyncio.shield(pending.written)
        except (UnknownMeter, ValueError) as error:
            asset_id = pending.explained.known.meter.asset_id
            await self.keep(pending.payload.apdu, pending.source, f"not stored: {error}", asset_id)
            return False
        self.totals.count(pending.source, "stored")
        return True

    async def keep(self, data: bytes, source: str, reason: str, identity: str | None = None) -> None:
        """Put bytes into the inbox with the reason; counted and logged where it has no more room."""
        number = await _patiently(lambda: self._put(data, source, reason, identity))
        if number is None:
            self.totals.count(source, "dropped")
            log.debug("%s: %d bytes dropped, its inbox is full: %s", source, len(data), reason)
        else:
            self.totals.count(source, "kept")
            log.info("%s: %d bytes are in the inbox as number %d: %s", source, len(data), number, reason)

    async def keep_bad(self, data: bytes, source: str, reason: str) -> None:
        """Put bytes that are no message into the inbox."""
        self.totals.count(source, "bad_frames")
        await self.keep(data, source, reason)

    async def _put(self, data: bytes, source: str, reason: str, identity: str | None) -> int | None:
        async with self._connect() as connection:
            return await inbox.put(
                connection,
                source=source,
                payload=data,
                reason=reason.replace("\0", " "),
                identity=identity,
            )

    def _now_us(self) -> int:
        """Now, never the same twice: a register has one value per moment."""
        self._last_us = max(self._clock_us(), self._last_us + 1)
        return self._last_us


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the database, again and again while it is away."""
    bound = 0.1
    while True:
        try:
            return await ask()
        except UnavailableError as error:
            wait = random.uniform(0, bound)  # noqa: S311 - jitter, not a secret
            log.warning("the database is away, again in %.1f s: %s", wait, str(error).split("\n", 1)[0])
            await asyncio.sleep(wait)
            bound = min(2 * bound, _LONGEST_RETRY_S)
