"""What the API needs from the rest of the house, handed in by the composition root. No global state."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from fastapi import Request

from headend.mqtt.replay import Replayed
from headend.store.sql import Connection
from headend.store.writer import Written
from schemas.meter import Meter
from schemas.reading import RegisterRead


class Pool(Protocol):
    """A pool of database connections, as psycopg_pool's AsyncConnectionPool. Leaving the context commits."""

    def connection(self) -> AbstractAsyncContextManager[Connection]: ...

    @property
    def conninfo(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class ProfileRange:
    """Intervals of one load profile that start in [start, end), aware UTC."""

    profile: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read now: registers by full OBIS code, a range of a load profile, or both."""

    obis: tuple[str, ...] = ()
    profile: ProfileRange | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that the meter would not give, while it gave others: ``reason`` in the standard's words."""

    obis: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What came of a read now. ``registers`` are the values read, ``intervals`` how many the profile gave."""

    registers: tuple[RegisterRead, ...]
    refused: tuple[Refused, ...]
    intervals: int
    stored: Written


class ReadNow(Protocol):
    """Reads a meter now and stores what it gave, within a deadline of its own.

    Raises CommunicationError where the exchange failed; nothing is stored then.
    """

    def __call__(self, meter: Meter, request: ReadRequest) -> Awaitable[ReadResult]: ...


class ReplayPayload(Protocol):
    """Decodes and stores a payload of the quarantine again.

    Raises UnknownError for a number that is none, ConflictError where it waits no longer or is not whole.
    """

    def __call__(self, number: int, *, actor: str) -> Awaitable[Replayed]: ...


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """The pool, the ports for reading now and for replaying payloads, the clock (aware UTC), the operator's
    folders of models, how long a concentrator that keeps load curves has to hand them on, and the figures
    for Prometheus in their text format, which are ``metrics_public`` or need a token."""

    pool: Pool
    read_now: ReadNow
    replay: ReplayPayload | None = None
    clock: Callable[[], datetime] = field(default=_now)
    profile_folders: tuple[Path, ...] = ()
    forwarded_s: float = 86_400
    metrics: Callable[[], bytes] = bytes
    metrics_public: bool = False


def services(request: Request) -> Services:
    """Dependency: the services that this application was made with."""
    found: Services = request.app.state.services
    return found
