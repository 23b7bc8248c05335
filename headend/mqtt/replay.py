"""A payload of the quarantine once more, after a fix or when its device is known."""

from dataclasses import dataclass

from headend.mqtt.ingest import Connect, Ingest
from headend.store import audit, quarantine
from headend.store.errors import ConflictError
from headend.store.quarantine import State


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it: ``reason`` is None when all of it is stored, else why it still waits."""

    number: int
    reason: str | None


class Replay:
    """Replays payloads; what it does is audited."""

    def __init__(self, connect: Connect, ingest: Ingest) -> None:
        self._connect = connect
        self._ingest = ingest

    async def __call__(self, number: int, *, actor: str) -> Replayed:
        """Decode and store one payload in one transaction.

        Raises UnknownError for a number that is none, ConflictError where the payload waits no longer or is
        not whole.
        """
        async with self._connect() as connection:
            kept = await quarantine.get(connection, number)
            if kept.state is not State.WAITING:
                raise ConflictError(f"payload {number} is {kept.state} already")
            if not kept.is_whole:
                raise ConflictError(f"payload {number} was cut: {len(kept.payload)} of {kept.size} bytes")
            reason = await self._ingest.replay(connection, kept)
            if reason is None:
                await quarantine.settle(connection, number, State.REPLAYED)
            else:
                await quarantine.explain(connection, number, reason)
            await audit.record(
                connection,
                actor=actor,
                action="quarantine.replay",
                object_=f"quarantine:{number}",
                detail={"topic": kept.topic, "reason": reason},
            )
        return Replayed(number, reason)


async def drop(connect: Connect, number: int, *, actor: str) -> None:
    """Settle a payload that nobody wants; its bytes stay. Raises UnknownError, ConflictError."""
    async with connect() as connection:
        await quarantine.settle(connection, number, State.DROPPED)
        await audit.record(connection, actor=actor, action="quarantine.drop", object_=f"quarantine:{number}")
