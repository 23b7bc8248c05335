"""Messages of a slot into the store: a bunch in one transaction, and nothing acknowledged before its commit.

::

    messages ─> decoded ─> [ lease held ─> repeats out ─> sequences counted ─> readings, events written
                                                   └ what cannot be stored: quarantine ] ─> commit

While the database is away the same bunch is tried again after random waits, and the broker keeps the rest. A
bunch that the store refuses is halved until the one message is found that it refuses: that goes to the
quarantine, and harms nobody else.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from headend.drivers.mqtt.message import Decoder
from headend.drivers.mqtt.told import (
    Frames,
    Ignored,
    Problem,
    Readings,
    StationBatch,
    Told,
    Unknown,
    merge,
)
from headend.mqtt.announcing import announce
from headend.mqtt.connection import Message
from headend.mqtt.frames import FrameDoor, Pushed
from headend.store import batch_runs, ingest_slots, quarantine, receipts
from headend.store.batch_runs import Came, Span
from headend.store.errors import DatabaseError, is_transient
from headend.store.ingest_slots import Lease, LeaseLost
from headend.store.rows import microseconds, moment
from headend.store.sql import Connection
from headend.store.writer import UnknownMeter, Written, write
from schemas.batch import BatchLost
from schemas.event import EventLog

log = logging.getLogger(__name__)

#: Longest wait before a bunch is tried again while the database is away; each is drawn from [0, bound].
LONGEST_RETRY_S: Final = 5.0

#: Messages that are decoded before others on the event loop have their turn.
_AT_ONCE: Final = 16

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


@dataclass(slots=True)
class Totals:
    """What has passed since the start, in messages. ``repeated`` came before; ``ignored`` are right and have
    nothing to be stored; ``quarantined`` are kept with the reason; ``retries`` counts failed transactions."""

    received: int = 0
    repeated: int = 0
    ignored: int = 0
    quarantined: int = 0
    retries: int = 0
    bunches: int = 0
    written: Written = field(default_factory=lambda: Written(None))


class BatchSpan(NamedTuple):
    """Batches of a concentrator that are committed; ``topic`` is where they came from."""

    topic: str
    concentrator: str
    run: str
    span: Span


@dataclass(slots=True, eq=False)
class Item:
    """A message and what it says. ``refusal`` is why the store will not have it."""

    message: Message
    told: Told
    refusal: str | None = None

    @property
    def digest(self) -> bytes:
        """Of topic and payload: no topic has a NUL."""
        return sha256(self.message.topic.encode() + b"\0" + self.message.payload).digest()


class Ingest:
    """Decodes and stores for any number of slots."""

    def __init__(
        self,
        connect: Connect,
        decoder: Decoder,
        frames: FrameDoor | None = None,
        *,
        draw: Callable[[float], float] = lambda bound: random.uniform(0, bound),  # noqa: S311 - jitter
    ) -> None:
        self._connect = connect
        self._decoder = decoder
        self._frames = frames
        self._draw = draw
        self.totals: Final = Totals()

    async def decode(self, messages: Sequence[Message]) -> list[Item]:
        """What the messages say, devices that were not known yet looked up. Waits for the database."""
        items: list[Item] = []
        for number, message in enumerate(messages, 1):
            items.append(Item(message, self._one(message)))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # what is being stored meanwhile goes on
        unknown = {name for item in items for name in _unknown(item.told)}
        if unknown:
            await self._again(lambda: self._learn(unknown))
            for item in items:
                if _unknown(item.told):
                    item.told = self._one(item.message)
        return items

    async def store(self, lease: Lease, items: Sequence[Item]) -> list[BatchSpan]:
        """Store them under the lease; the concentrators' batches that are committed now. Waits for the
        database. Raises LeaseLost."""
        if self._frames is not None:
            await self._store_frames(self._frames, items)
        await self._again(lambda: self._divided(lease, items))
        self.totals.received += len(items)
        self.totals.bunches += 1
        return _spans(items)

    async def replay(self, connection: Connection, kept: quarantine.Kept) -> str | None:
        """Decode and store a payload of the quarantine, within the transaction of ``connection``. None when
        all of it is stored, else the reason that there is now. Its number in a concentrator's count does not
        matter any more.

        Raises DatabaseError.
        """
        first_us = microseconds(kept.first_at)
        item = Item(Message(kept.topic, kept.payload, kept.retained, first_us, 0, 0), Ignored(""))
        item.told = self._one(item.message)
        if unknown := _unknown(item.told):
            await self._decoder.meters.learn(connection, unknown)
            item.told = self._one(item.message)
        if isinstance(item.told, Frames) and self._frames is not None:
            await self._frames.store([Pushed(kept.topic, item.told)])
        try:
            async with connection.transaction():
                if isinstance(item.told, Readings | StationBatch):
                    await write(connection, merge([item.told], source=f"mqtt:{kept.topic}"))
                return await self._not_stored(connection, item)
        except (UnknownMeter, ValueError) as error:
            return str(error)

    # --- decoding ---

    def _one(self, message: Message) -> Told:
        try:
            return self._decoder.decode(
                message.topic, message.payload, retained=message.retained, received_us=message.received_us
            )
        except Exception as error:  # a defect of ours, which may not stop what comes behind
            log.exception("a payload of %s breaks its decoder", message.topic)
            return Problem(f"a defect of ours: {type(error).__name__}: {error}")

    async def _learn(self, identities: set[str]) -> None:
        async with self._connect() as connection:
            await self._decoder.meters.learn(connection, identities)

    # --- storing ---

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, again and again while the database is away."""
        bound = 0.1
        while True:
            try:
                await work()
                return
            except DatabaseError as error:
                if not is_transient(error):
                    raise
                self.totals.retries += 1
                wait = self._draw(bound)
                told = str(error).split("\n", 1)[0]
                log.warning("the database is away, again in %.1f s: %s", wait, told)
                await asyncio.sleep(wait)
                bound = min(2 * bound, LONGEST_RETRY_S)

    async def _divided(self, lease: Lease, items: Sequence[Item]) -> None:
        try:
            await self._transaction(lease, items)
        except LeaseLost:
            raise
        except Exception as error:
            if isinstance(error, DatabaseError) and is_transient(error):
                raise
            if len(items) > 1:
                half = len(items) // 2
                await self._divided(lease, items[:half])
                await self._divided(lease, items[half:])
                return
            (item,) = items
            if item.refusal is not None:  # the quarantine itself cannot be had: no message's fault
                raise
            log.exception("a message of %s cannot be stored", item.message.topic)
            item.refusal = f"{type(error).__name__}: {error}".split("\n", 1)[0]
            await self._transaction(lease, items)

    async def _transaction(self, lease: Lease, items: Sequence[Item]) -> None:
        async with self._connect() as connection:
            await ingest_slots.hold(connection, lease)
            news = await self._news(connection, lease, items)
            kept = 0
            for item in news:
                if (why := await self._not_stored(connection, item)) is not None:
                    await _keep(connection, item, why)
                    kept += 1
            wanted = [
                item.told
                for item in news
                if item.refusal is None and isinstance(item.told, Readings | StationBatch)
            ]
            written = (
                await write(connection, merge(wanted, source=f"mqtt:{lease.slot}"))
                if wanted
                else Written(None)
            )
        totals = self.totals
        totals.repeated += len(items) - len(news)
        totals.quarantined += kept
        totals.ignored += sum(isinstance(item.told, Ignored) for item in news)
        totals.written = totals.written.plus(written)

    async def _news(self, connection: Connection, lease: Lease, items: Sequence[Item]) -> list[Item]:
        """Those that did not come before. A batch is told by its number, a presence by its state, everything
        else by topic and payload; what is wrong is counted by the quarantine."""
        repeated: set[int] = set()
        came: list[tuple[Item, Came]] = []
        plain: dict[bytes, Item] = {}
        for item in items:
            told = item.told
            if isinstance(told, StationBatch | BatchLost):
                came.append((item, _came(told, item.message.topic)))
            elif isinstance(told, Readings) and _is_presence(told):
                event = told.events[-1]
                if not await receipts.has_changed(connection, item.message.topic, event.meaning.value):
                    repeated.add(id(item))
            elif isinstance(told, Readings | Frames) and plain.setdefault(item.digest, item) is not item:
                repeated.add(id(item))
        if plain:
            new = await receipts.note(connection, list(plain))
            repeated |= {id(item) for digest, item in plain.items() if digest not in new}
        if came:
            fresh = await batch_runs.note(connection, lease.slot, [one for _, one in came])
            repeated |= {id(item) for (item, _), is_new in zip(came, fresh, strict=True) if not is_new}
        return [item for item in items if id(item) not in repeated]

    async def _not_stored(self, connection: Connection, item: Item) -> str | None:
        """Why the bytes of a message are kept, None where its content is all stored. Devices that nobody
        knows are announced."""
        if item.refusal is not None:
            return item.refusal
        if isinstance(item.told, Problem):
            return item.told.reason
        if isinstance(item.told, Frames) and self._frames is None:
            return "DLMS frames are not taken here"
        return await announce(connection, item.told, moment(item.message.received_us))

    async def _store_frames(self, door: FrameDoor, items: Sequence[Item]) -> None:
        """Frames go first, each in a transaction of its own; what came before is not handled again."""
        framed = {item.digest: item for item in items if isinstance(item.told, Frames)}
        if not framed:
            return
        known: set[bytes] = set()

        async def ask() -> None:
            async with self._connect() as connection:
                known.update(await receipts.known(connection, list(framed)))

        await self._again(ask)
        await door.store(
            [
                Pushed(item.message.topic, item.told)
                for digest, item in framed.items()
                if digest not in known and isinstance(item.told, Frames)
            ]
        )


def _unknown(told: Told) -> tuple[str, ...]:
    if isinstance(told, Unknown):
        return told.identities
    return told.unknown if isinstance(told, StationBatch) else ()


def _is_presence(told: Readings) -> bool:
    return bool(told.events) and all(event.log is EventLog.PRESENCE for event in told.events)


def _came(told: StationBatch | BatchLost, topic: str) -> Came:
    if isinstance(told, BatchLost):
        return Came(told.concentrator, told.run, Span(told.first, told.last), topic, is_lost=True)
    return Came(told.station, told.run, Span(told.sequence, told.sequence), topic)


async def _keep(connection: Connection, item: Item, reason: str) -> None:
    message = item.message
    unknown = _unknown(item.told)
    await quarantine.put(
        connection,
        digest=item.digest,
        topic=message.topic,
        payload=message.payload,
        retained=message.retained,
        reason=reason,
        at=moment(message.received_us),
        identity=unknown[0] if unknown else None,
    )


def _spans(items: Iterable[Item]) -> list[BatchSpan]:
    """Numbers of batches, those that follow one another together."""
    found: dict[tuple[str, str, str], list[Span]] = {}
    for item in items:
        if isinstance(item.told, StationBatch):
            told = item.told
            spans = found.setdefault((item.message.topic, told.station, told.run), [])
            if spans and spans[-1].last + 1 == told.sequence:
                spans[-1] = Span(spans[-1].first, told.sequence)
            else:
                spans.append(Span(told.sequence, told.sequence))
    return [BatchSpan(*key, span) for key, spans in found.items() for span in spans]
