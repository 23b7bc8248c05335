"""What the API needs from the rest of the house, handed in by the composition root. No global state."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from fastapi import Request

from api.limits import Limits
from api.refusals import Refusals
from headend.approvals.policy import EVERYTHING, Policy
from headend.moment.moment import Moment
from headend.mqtt.replay import Replayed
from headend.people.login import People
from headend.people.oidc import Provider
from headend.programs.contract import Procedure
from headend.store.key_status import KeyPolicy
from headend.store.sql import Connection


class Pool(Protocol):
    """A pool of database connections, as psycopg_pool's AsyncConnectionPool. Leaving the context commits."""

    def connection(self) -> AbstractAsyncContextManager[Connection]: ...

    @property
    def conninfo(self) -> Any: ...


class ReplayPayload(Protocol):
    """Decodes and stores a payload of the quarantine again.

    Raises UnknownError for a number that is none, ConflictError where it waits no longer or is not whole.
    """

    def __call__(self, number: int, *, actor: str) -> Awaitable[Replayed]: ...


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """The pool, what reads on demand need, the port for replaying payloads, the clock (aware UTC), the
    operator's folders of models, how long a concentrator that keeps load curves has to hand them on, who
    may sign firmware, and the figures for Prometheus in their text format, which are ``metrics_public`` or
    need a token; ``people`` is what log-ins and sessions are made with, ``limits`` how often somebody may
    ask, ``refusals`` counts those of strangers, ``keys`` when meters' keys are due, ``policy`` what needs a
    second person, ``oidc`` who knows people from elsewhere."""

    pool: Pool
    moment: Moment
    replay: ReplayPayload | None = None
    clock: Callable[[], datetime] = field(default=_now)
    profile_folders: tuple[Path, ...] = ()
    forwarded_s: float = 86_400
    firmware_keys: tuple[str, ...] = ()
    metrics: Callable[[], bytes] = bytes
    metrics_public: bool = False
    people: People = field(default_factory=People)
    limits: Limits = field(default_factory=Limits)
    refusals: Refusals = field(default_factory=Refusals)
    keys: KeyPolicy = field(default_factory=KeyPolicy)
    #: which meters a program fits
    procedures: tuple[Procedure, ...] = ()
    policy: Policy = EVERYTHING
    oidc: Provider | None = None


def services(request: Request) -> Services:
    """Dependency: the services that this application was made with."""
    found: Services = request.app.state.services
    return found
