"""The invocation counters of one key, as a session takes them from the blocks that all sessions share."""

from headend.keys.counters import MAX_JUMP, CounterBlocks


class KeyCounters:
    """Our counters under one key. ``key_id`` is the key's fingerprint; ``actor`` who raises are logged to.

    ``known`` is a counter that we have used with the meter under another key: one that goes on counting
    through a change of keys may ask for so much, however far that is from the new key's beginning.
    """

    __slots__ = ("_actor", "_blocks", "_counter", "_key_id", "_limit")

    def __init__(
        self, blocks: CounterBlocks, key_id: bytes, *, actor: str = "session", known: int = 0
    ) -> None:
        self._blocks = blocks
        self._limit = MAX_JUMP + known
        self._key_id = key_id
        self._actor = actor
        self._counter = blocks.counter(key_id)

    @property
    def available(self) -> int:
        """How many `next` can give without another reservation."""
        return self._counter.remaining

    def next(self) -> int:
        """The next counter. Raises CounterExhausted when none is reserved."""
        return self._counter.next()

    async def reserve(self, count: int) -> None:
        """Have ``count`` at hand, or all that the key still has. Raises CounterExhausted when it has none."""
        # The blocks forget keys that were not used for long: from here on theirs is the one that is filled.
        self._counter = self._blocks.counter(self._key_id)
        await self._blocks.prepare([self._key_id], at_least=count)

    async def raise_to(self, value: int) -> None:
        """Go on from ``value``, because the meter said so. Raises CounterJumpRefused when that is too far."""
        await self._blocks.raise_to(
            self._key_id,
            value,
            actor=self._actor,
            reason="the meter expects a higher invocation counter",
            limit=self._limit,
        )
