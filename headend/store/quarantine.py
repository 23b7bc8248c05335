"""The quarantine: payloads that could not be stored, with the reason, until they are replayed or dropped."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from headend.store import sql
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection

_QUERIES: Final = sql.load("quarantine")

#: Payloads of one topic that wait: one broken device must not fill the database. What comes beyond is counted
#: on the newest of them.
MOST_PER_TOPIC: Final = 1_000
#: Bytes that are kept of one payload; a longer one is cut and cannot be replayed.
MOST_BYTES: Final = 1 << 20
_LONGEST_REASON: Final = 500


class State(StrEnum):
    """What became of a payload."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Kept:
    """One payload as it came; ``size``: its whole length, ``times``: how often it came since ``first_at``."""

    number: int
    topic: str
    payload: bytes
    size: int
    retained: bool
    identity: str | None
    reason: str
    first_at: datetime
    last_at: datetime
    times: int
    state: State

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it was cut away."""
        return len(self.payload) == self.size


@dataclass(frozen=True, slots=True)
class Count:
    """How many payloads wait for one reason, and how often they came."""

    reason: str
    payloads: int
    times: int


async def put(
    connection: Connection,
    *,
    digest: bytes,
    topic: str,
    payload: bytes,
    retained: bool,
    reason: str,
    at: datetime,
    identity: str | None = None,
) -> int | None:
    """Keep a payload, or count it where it waits already; its number, None where its topic has too many."""
    row = {
        "digest": digest,
        "topic": storable(topic),
        "payload": payload[:MOST_BYTES],
        "bytes": len(payload),
        "retained": retained,
        "identity": None if identity is None else storable(identity),
        "reason": storable(reason)[:_LONGEST_REASON],
        "at": sql.aware(at),
        "most": MOST_PER_TOPIC,
    }
    found = await (await connection.execute(_QUERIES["put"], row)).fetchone()
    if found is None:
        await connection.execute(_QUERIES["overflow"], {"topic": row["topic"], "at": row["at"]})
        return None
    return int(found[0])


async def page(
    connection: Connection,
    *,
    limit: int,
    after: int = 0,
    settled: bool = False,
    topic: str | None = None,
    identity: str | None = None,
) -> list[Kept]:
    """At most ``limit`` payloads with numbers above ``after``, oldest first; with ``settled`` all of them."""
    cursor = await connection.execute(
        _QUERIES["page"],
        {"limit": limit, "after": after, "all": settled, "topic": topic, "identity": identity},
    )
    return [_kept(*row) for row in await cursor.fetchall()]


async def get(connection: Connection, number: int) -> Kept:
    """One payload, kept from others until the transaction ends. Raises UnknownError."""
    row = await (await connection.execute(_QUERIES["get"], {"number": number})).fetchone()
    if row is None:
        raise UnknownError(f"no payload {number} in the quarantine")
    return _kept(*row)


async def counts(connection: Connection, *, limit: int = 1_000) -> list[Count]:
    """What waits, by reason, the most frequent first."""
    cursor = await connection.execute(_QUERIES["counts"], {"limit": limit})
    return [Count(*row) for row in await cursor.fetchall()]


async def settle(connection: Connection, number: int, state: State) -> None:
    """Say what became of a payload that waits. Raises ConflictError where it does not, UnknownError."""
    cursor = await connection.execute(_QUERIES["settle"], {"number": number, "state": state.value})
    if cursor.rowcount == 0:
        found = await get(connection, number)
        raise ConflictError(f"payload {number} is {found.state} already")


async def explain(connection: Connection, number: int, reason: str) -> None:
    """Keep the reason that a replay found."""
    row = {"number": number, "reason": storable(reason)[:_LONGEST_REASON]}
    await connection.execute(_QUERIES["explain"], row)


def storable(text: str) -> str:
    """The text as PostgreSQL can hold it: without NUL and half surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _kept(
    number: int,
    topic: str,
    payload: bytes,
    size: int,
    retained: bool,
    identity: str | None,
    reason: str,
    first_at: datetime,
    last_at: datetime,
    times: int,
    state: str,
) -> Kept:
    kept = bytes(payload)
    return Kept(number, topic, kept, size, retained, identity, reason, first_at, last_at, times, State(state))
