"""Invocation counters: reserved in the database in blocks, and only then handed out.

AES-GCM falls when a pair (key, initialisation vector) comes twice, and the vector is our system title and the
counter. So there is one counter for each key and title, shared by all who use the key, and the database moves
past a whole block before its first counter is used. A process killed in between loses what was left of its
blocks; that is the price, and 2**32 pays it.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

from headend.store import keyring
from headend.store.sql import Connection
from protocols.errors import LocalProtocolError

log = logging.getLogger(__name__)

#: How far one raise may go. A meter read every quarter of an hour with 12 requests uses 8 million in 20
#: years.
MAX_JUMP: Final = 1 << 24


class CounterExhausted(LocalProtocolError):
    """No reserved counter is left, or none at all: then the key must be changed before it is used again."""


class CounterJumpRefused(LocalProtocolError):
    """A meter claims a counter so far ahead that it would use up the key; a person must allow it."""


class Counter:
    """The reserved counters of one key. ``next`` is synchronous: `CounterBlocks.prepare` comes before it.

    Nearly always they are one range; two integers and no container, since there is one for each meter.
    """

    __slots__ = ("_beyond", "_end", "_later", "_next")

    def __init__(self) -> None:
        self._next = self._end = 0
        self._later: tuple[tuple[int, int], ...] = ()  # further ranges, rising
        self._beyond = 0  # how many counters those hold

    def next(self) -> int:
        """A counter that nobody had and nobody will have. Raises CounterExhausted where none is reserved."""
        first = self._next
        if first == self._end:
            raise CounterExhausted("no invocation counter is reserved: reserve before each exchange")
        self._next = first + 1
        if self._next == self._end:
            self._go_on()
        return first

    @property
    def remaining(self) -> int:
        """How many counters are reserved and not handed out."""
        return self._end - self._next + self._beyond

    def add(self, first: int, end: int) -> None:
        """Take a block in. Blocks come in rising order, since one task reserves at a time."""
        self._later = (*self._later, (first, end))
        self._beyond += end - first
        if self._next == self._end:
            self._go_on()

    @property
    def end(self) -> int:
        """One beyond the last reserved counter; 0 where none is reserved."""
        if self._later:
            return self._later[-1][1]
        return self._end if self._next < self._end else 0

    def skip_below(self, value: int) -> None:
        """Forget what is below ``value``; it is never handed out."""
        ranges = ((self._next, self._end), *self._later)
        self._next = self._end = 0
        self._later = tuple((max(first, value), end) for first, end in ranges if end > max(first, value))
        self._beyond = sum(end - first for first, end in self._later)
        self._go_on()

    def _go_on(self) -> None:
        """On to the next range, where there is one."""
        if self._later:
            (self._next, self._end), *later = self._later
            self._later = tuple(later)
            self._beyond -= self._end - self._next


class CounterBlocks:
    """Counters of all keys under one system title of ours.

    ``connect`` gives a connection that is not in a transaction (a pool's ``connection``). ``block`` counters
    are reserved at a time, and at most ``most`` keys are remembered; the rest of a forgotten key's block is
    lost.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Connection]],
        title: bytes,
        *,
        block: int = 1024,
        most: int = 200_000,
    ) -> None:
        if len(title) != 8:
            raise ValueError(f"a system title has 8 bytes, this one has {len(title)}")
        if block < 1 or most < 1:
            raise ValueError("block and most are at least 1")
        self._connect = connect
        self._title = title
        self._block = block
        self._most = most
        self._counters: OrderedDict[bytes, Counter] = OrderedDict()
        self._wanted: dict[bytes, int] = {}
        self._lock = asyncio.Lock()

    def counter(self, key_id: bytes) -> Counter:
        """The counter of a key by its fingerprint; empty until `prepare`."""
        counter = self._counters.get(key_id)
        if counter is None:
            counter = self._counters[key_id] = Counter()
            while len(self._counters) > self._most:
                self._counters.popitem(last=False)
        else:
            self._counters.move_to_end(key_id)
        return counter

    async def catch_up(self, key_ids: Iterable[bytes]) -> None:
        """Forget what is left of blocks behind which another process has reserved since.

        It may have used a higher counter with the meter, which takes no lower one after that. To be called
        when meters are prepared: whoever may talk with one then does so until somebody else may.
        """
        mine = [key_id for key_id in key_ids if self.counter(key_id).remaining]
        if not mine:
            return
        async with self._connect() as connection:
            ends = await keyring.next_values(connection, mine, self._title)
        for key_id, end in ends.items():
            counter = self.counter(key_id)
            if 0 < counter.end < end:
                counter.skip_below(end)

    async def prepare(self, key_ids: Iterable[bytes], *, at_least: int = 64) -> None:
        """Reserve so that each key has ``at_least`` counters, or all that its 32 bits still have.

        Costs nothing where they are there, and one transaction for all keys together where not; callers that
        come meanwhile share the next one. Raises CounterExhausted where a key has no counter left at all.
        """
        mine = {key_id: at_least for key_id in key_ids if self.counter(key_id).remaining < at_least}
        if not mine:
            return
        for key_id, need in mine.items():
            self._wanted[key_id] = max(need, self._wanted.get(key_id, 0))
        async with self._lock:
            wanted, self._wanted = self._wanted | mine, {}
            await self._reserve(wanted)
        for key_id in mine:
            if self.counter(key_id).remaining == 0:
                raise CounterExhausted(
                    "all 2**32 invocation counters of a key are used: change the meter's key"
                )

    async def _reserve(self, wanted: dict[bytes, int]) -> None:
        short = {key_id: need for key_id, need in wanted.items() if self.counter(key_id).remaining < need}
        if not short:
            return
        block = max(self._block, *short.values())
        async with self._connect() as connection:
            blocks = await keyring.reserve(connection, list(short), self._title, block=block)
        # only now, after the commit, may anybody see them
        for key_id, (first, end) in blocks.items():
            self.counter(key_id).add(first, end)

    async def raise_to(
        self, key_id: bytes, value: int, *, actor: str, reason: str, limit: int = MAX_JUMP
    ) -> None:
        """Use no counter below ``value`` any more: the peer said that it has seen ``value - 1``.

        Only ever raises, and at most by ``limit``. Raises CounterJumpRefused beyond that; the audit log has
        both.
        """
        reserved = self.counter(key_id)
        if 0 <= value < reserved.end:
            # The database has moved past the whole block, so past this value too: nothing to be told to it.
            reserved.skip_below(value)
            return
        async with self._lock, self._connect() as connection:
            raised = await keyring.raise_counter(
                connection, key_id, self._title, value=value, limit=limit, actor=actor, reason=reason
            )
        if raised.refused:
            log.error("key %s: counter jump from %d to %d refused", key_id.hex()[:16], raised.before, value)
            raise CounterJumpRefused(
                f"the peer asks for invocation counter {value}, {value - raised.before} beyond ours; "
                f"at most {limit} is allowed without a person's word"
            )
        if raised.after > raised.before:
            log.warning("key %s: counter raised from %d to %d", key_id.hex()[:16], raised.before, value)
        self.counter(key_id).skip_below(value)
