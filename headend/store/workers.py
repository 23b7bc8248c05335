"""The processes of the service: each says that it is there, and people see which there are."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("workers")

#: Nothing heard for so many seconds: the process is lost, or cut off from the database.
SILENT_S: Final = 20.0


class Kind(StrEnum):
    """What a process does."""

    RUN = "run"  # everything
    API = "api"
    WORKER = "worker"  # reads meters
    INGEST = "ingest"  # takes in what comes by itself
    SCHEDULER = "scheduler"


@dataclass(frozen=True, slots=True)
class Told:
    """What a process says of itself. ``concurrency``: conversations with meters at once; 0: it has none."""

    worker: str
    host: str
    kind: Kind
    version: str
    concurrency: int


@dataclass(frozen=True, slots=True)
class Worker(Told):
    """A process as people see it; times aware UTC. ``is_silent``: nothing heard for `SILENT_S`. ``lanes``
    and ``connections`` (of meters that dialled in) are what it holds now."""

    started_at: datetime
    seen_at: datetime
    is_silent: bool
    lanes: int
    connections: int


async def seen(connection: Connection, told: Told) -> None:
    """Note that the process is there now."""
    await connection.execute(
        _QUERIES["seen"],
        {
            "worker": told.worker,
            "host": told.host,
            "kind": told.kind.value,
            "version": told.version,
            "concurrency": told.concurrency,
        },
    )


async def left(connection: Connection, worker: str) -> None:
    """The process has ended as it was asked to: forget it."""
    await connection.execute(_QUERIES["left"], {"worker": worker})


async def forget(connection: Connection, *, silent_s: float) -> list[str]:
    """Forget processes of which nothing was heard for ``silent_s`` seconds; their names."""
    cursor = await connection.execute(_QUERIES["forget"], {"silent_s": silent_s})
    return [worker for (worker,) in await cursor.fetchall()]


async def read_meters(connection: Connection) -> bool:
    """Whether any process is there that reads meters."""
    cursor = await connection.execute(_QUERIES["read_meters"], {"silent_s": SILENT_S})
    return await cursor.fetchone() is not None


async def page(
    connection: Connection, *, limit: int, after: str | None = None, kind: Kind | None = None
) -> list[Worker]:
    """At most ``limit`` processes with names behind ``after``, by name."""
    cursor = await connection.execute(
        _QUERIES["page"],
        {
            "limit": limit,
            "after": after,
            "kind": None if kind is None else kind.value,
            "silent_s": SILENT_S,
        },
    )
    return [
        Worker(
            worker,
            host,
            Kind(kind_),
            version,
            concurrency,
            started_at.astimezone(UTC),
            seen_at.astimezone(UTC),
            is_silent,
            lanes,
            connections,
        )
        for worker, host, kind_, version, concurrency, started_at, seen_at, is_silent, lanes, connections
        in await cursor.fetchall()
    ]  # fmt: skip
