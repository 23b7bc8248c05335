"""Ingest slots: who reads which part of the topics.

::

    lease (PostgreSQL) ─> connection (session of the slot) ─> bunch ─> decoded ─> stored ─> acknowledged
       │                        └ lost: again after a random wait, if the lease is still ours
       └ taken by somebody else: nothing more is stored, the slot is left

Each slot is a list of topic filters with a client id and a persistent session of its own: whoever holds its
lease resumes the session, and gets what the one before did not acknowledge. The lease has a fence that each
transaction checks, so a worker that slept through the end of its lease stores nothing. (Shared subscriptions
would do without leases, but strand what was delivered to a member that went away.)
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from headend.mqtt.broker import Broker, BrokerRefused
from headend.mqtt.connection import Connection, Message, connect
from headend.mqtt.ingest import BatchSpan, Connect, Ingest, Item
from headend.store import batch_runs, ingest_slots, receipts
from headend.store.errors import DatabaseError, is_transient
from headend.store.ingest_slots import Lease, LeaseLost
from protocols.errors import CommunicationError, LinkClosed
from protocols.mqtt.batches import encode
from schemas.batch import BatchAck, BatchRequest

log = logging.getLogger(__name__)

#: Concentrators publish to PREFIX/batch/NAME and listen to PREFIX/request/NAME and PREFIX/ack/NAME.
_BATCH: Final = "batch"
_REQUEST: Final = "request"
_ACK: Final = "ack"
#: Spans of one gap that are asked for at a time.
_MOST_SPANS: Final = 20
_IDLE_S: Final = 60.0
_MODESTY_S: Final = 0.5
_PRUNE_S: Final = 3600.0
_LAST_WORDS_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How slots are read.

    ``filters`` are the topic filters of each slot by its name. One transaction holds ``bunch`` messages of
    ``bunch_bytes`` at most. A missing batch is asked for again after ``gap_first_s``, then after pauses that
    double up to ``gap_longest_s``, ``gap_attempts`` times.
    """

    filters: Mapping[str, tuple[str, ...]]
    client_id: str = "headend"
    lease_s: float = 15.0
    retry_longest_s: float = 30.0
    bunch: int = 1_000
    bunch_bytes: int = 2 << 20
    gap_poll_s: float = 1.0
    gap_first_s: float = 5.0
    gap_longest_s: float = 3_600.0
    gap_attempts: int = 30


class Worker:
    """Reads every slot it can get a lease on. Any number of workers share the slots of one database."""

    def __init__(
        self,
        broker: Broker,
        connect_database: Connect,
        ingest: Ingest,
        plan: Plan,
        *,
        name: str | None = None,
        draw: Callable[[float], float] = lambda bound: random.uniform(0, bound),  # noqa: S311 - jitter
    ) -> None:
        self._broker = broker
        self._connect = connect_database
        self._ingest = ingest
        self._plan = plan
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._draw = draw
        self._readers: dict[str, asyncio.Task[None]] = {}

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots that are read here now."""
        return tuple(self._readers)

    async def run(self) -> None:
        """Read slots until cancelled. Raises what is no trouble of broker or database: a defect of ours."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._prune(), name="MQTT receipts")
                await self._take_slots(tasks)
        except BaseExceptionGroup as group:
            raise _first(group) from group

    async def _take_slots(self, tasks: asyncio.TaskGroup) -> None:
        """Take what nobody holds, and look again a few times within the length of a lease."""
        names = list(self._plan.filters)
        while True:
            try:
                async with self._connect() as connection:
                    await ingest_slots.ensure(connection, names)
                    lease = await ingest_slots.take(
                        connection, names, holder=self._name, lease_s=self._plan.lease_s
                    )
            except DatabaseError as error:
                if not is_transient(error):
                    raise
                log.warning("the database is away: no slot can be taken now")
                lease = None
            if lease is None:
                await asyncio.sleep(self._plan.lease_s / 8 + self._draw(self._plan.lease_s / 4))
                continue
            reader = _SlotReader(self._broker, self._connect, self._ingest, self._plan, lease, self._draw)
            task = tasks.create_task(reader.run(), name=f"MQTT slot {lease.slot}")
            self._readers[lease.slot] = task
            task.add_done_callback(partial(self._left, lease.slot))
            # workers that start together share: who has more waits longer for another
            await asyncio.sleep(self._draw(_MODESTY_S * len(self._readers)))

    def _left(self, slot: str, task: "asyncio.Task[None]") -> None:
        if self._readers.get(slot) is task:
            del self._readers[slot]

    async def _prune(self) -> None:
        while True:
            with suppress(DatabaseError):  # it is of no hurry
                async with self._connect() as connection:
                    await receipts.prune(connection)
            await asyncio.sleep(_PRUNE_S * (0.5 + self._draw(1.0)))


class _SlotReader:
    """Reads one slot for as long as its lease is ours."""

    def __init__(
        self,
        broker: Broker,
        connect_database: Connect,
        ingest: Ingest,
        plan: Plan,
        lease: Lease,
        draw: Callable[[float], float],
    ) -> None:
        self._broker = broker
        self._connect = connect_database
        self._ingest = ingest
        self._plan = plan
        self._lease = lease
        self._draw = draw
        self._client_id = f"{plan.client_id}-{lease.slot}"

    async def run(self) -> None:
        """Connect, read, and connect again. Ends when somebody else has the lease."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._beat(), name=f"MQTT lease {self._lease.slot}")
                tasks.create_task(self._serve(), name=f"MQTT reader {self._lease.slot}")
        except* LeaseLost as lost:
            log.warning("%s", _first(lost))
        except* asyncio.CancelledError:
            with suppress(DatabaseError, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S), self._connect() as connection:
                    await ingest_slots.give_back(connection, self._lease)
            raise

    async def _beat(self) -> None:
        """Renew the lease, whatever else is waited for. Raises LeaseLost."""
        while True:
            await asyncio.sleep(self._plan.lease_s / 4)
            await self._hold()

    async def _serve(self) -> None:
        bound = 0.5
        while True:
            try:
                # who lost the lease must not connect: that would throw its holder out of the session
                await self._hold()
                async with connect(self._broker, self._client_id) as connection:
                    await self._subscribe(connection)
                    log.info("slot %s: reading %s", self._lease.slot, self._broker.url)
                    bound = 0.5
                    await self._read(connection)
            except (CommunicationError, BrokerRefused) as error:
                wait = self._draw(bound)
                level = logging.ERROR if isinstance(error, BrokerRefused) else logging.WARNING
                log.log(level, "slot %s: %s; again in %.1f s", self._lease.slot, error, wait)
                await asyncio.sleep(wait)
                bound = min(2 * bound, self._plan.retry_longest_s)

    async def _hold(self) -> None:
        """Renew the lease. A database that is away renews nothing, and lets nobody else take it either."""
        with _away_is_no_loss():
            async with self._connect() as connection:
                await ingest_slots.hold(connection, self._lease)

    async def _subscribe(self, connection: Connection) -> None:
        """Have the session subscribed to the slot's filters and to no others; it remembers former ones."""
        wanted = self._plan.filters.get(self._lease.slot, ())
        await connection.unsubscribe([one for one in self._lease.filters if one not in wanted])
        await connection.subscribe(wanted)
        if self._lease.filters != wanted:
            with _away_is_no_loss():
                async with self._connect() as database:
                    await ingest_slots.subscribed(database, self._lease, wanted)

    async def _read(self, connection: Connection) -> None:
        """Bunch after bunch: while one is stored the next is decoded. Raises LinkClosed, LeaseLost."""
        storing: asyncio.Task[None] | None = None
        asking = asyncio.create_task(self._ask(connection), name=f"MQTT gaps {self._lease.slot}")
        plan = self._plan
        try:
            while True:
                messages = await connection.take(plan.bunch, plan.bunch_bytes, _IDLE_S)
                if not messages:
                    continue
                items = await self._ingest.decode(messages)
                if storing is not None:
                    await storing
                storing = asyncio.create_task(self._store(connection, messages, items), name="MQTT bunch")
        except LinkClosed:
            if storing is not None:
                await storing  # what came without acknowledgement comes no second time
            raise
        finally:
            ending = [asking] if storing is None else [asking, storing]
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)

    async def _store(
        self, connection: Connection, messages: Sequence[Message], items: Sequence[Item]
    ) -> None:
        committed = await self._ingest.store(self._lease, items)
        # before the broker: after a crash in between the batch comes again, and its concentrator is told then
        await asyncio.gather(*(self._tell(connection, span) for span in committed))
        connection.acknowledge(messages)

    async def _tell(self, connection: Connection, done: BatchSpan) -> None:
        """Let the concentrator forget what is committed. One that missed it sends again, and is told."""
        message = BatchAck(
            format="headend.batch-ack.1",
            concentrator=done.concentrator,
            run=done.run,
            first=done.span.first,
            last=done.span.last,
        )
        await self._answer(connection, done.topic, _ACK, encode(message))

    async def _ask(self, connection: Connection) -> None:
        """Ask concentrators for batches that are missing, again and again until they come or are given up."""
        plan = self._plan
        while True:
            due: list[batch_runs.Due] = []
            with _away_is_no_loss():
                async with self._connect() as database:
                    due = await batch_runs.due(
                        database,
                        self._lease.slot,
                        first_s=plan.gap_first_s,
                        longest_s=plan.gap_longest_s,
                        attempts=plan.gap_attempts,
                    )
            for one in due:
                for span in one.missing[:_MOST_SPANS]:
                    message = BatchRequest(
                        format="headend.batch-request.1",
                        concentrator=one.concentrator,
                        run=one.run,
                        first=span.first,
                        last=span.last,
                    )
                    await self._answer(connection, one.topic, _REQUEST, encode(message))
                if one.requests >= plan.gap_attempts:
                    log.error("batches of %s are missing and were asked for the last time", one.concentrator)
            await asyncio.sleep(plan.gap_poll_s * (0.5 + self._draw(1.0)))

    async def _answer(self, connection: Connection, topic: str, word: str, payload: bytes) -> None:
        """Publish to where the sender of ``topic`` listens; a connection that is gone its reader notices."""
        *prefix, direction, name = topic.split("/")
        if direction == _BATCH:
            with suppress(CommunicationError):
                await connection.publish("/".join((*prefix, word, name)), payload)


class _away_is_no_loss:  # noqa: N801 - a context manager, used as a function
    """A database that is away stops nothing here: what is not done now is done later."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        return isinstance(error, DatabaseError) and is_transient(error)


def _first(group: "BaseExceptionGroup[BaseException]") -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
