"""Changes that are refused, for the audit trail.

Of whoever is known each is an entry of its own, written before the answer. Of who is not, so many of a minute
are, and those beyond them are one entry with their number, written with the first request of anybody behind
that minute:

- of a token or session that was good once sixty, whatever it tried;
- of strangers one for each network and each operation; beyond `_MOST` of these at once, one for each
  operation from everywhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fastapi import Request

from api.headers import given_correlation
from api.times import rfc3339
from headend.people.throttle import network
from headend.store import audit
from headend.store.sql import Connection

#: Methods that change nothing.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Who a stranger is in the trail.
NOBODY: Final = "nobody"
_PREFIX: Final = "/api/v1"
_MINUTE: Final = timedelta(minutes=1)
_OF_FORMER: Final = 60
#: Networks and operations of strangers that are told apart at once.
_MOST: Final = 200


class Whence(NamedTuple):
    """What is counted together: ``actor`` in the trail, and of a stranger the network and the operation."""

    actor: str
    source: str
    operation: str


class Beyond(NamedTuple):
    """``times`` refusals that have no entry of their own, within a minute from ``since`` (aware)."""

    whence: Whence
    times: int
    since: datetime


@dataclass(slots=True)
class _Minute:
    since: datetime
    times: int = 0


class Refusals:
    """Counts refusals of who is not known (any more), in this process."""

    def __init__(self) -> None:
        self._minutes: dict[Whence, _Minute] = {}

    def is_told(self, whence: Whence, now: datetime) -> bool:
        """Whether it has an entry of its own; else it is counted. ``now`` is aware."""
        is_stranger = whence.actor == NOBODY
        if is_stranger and whence not in self._minutes and len(self._minutes) >= _MOST:
            whence = whence._replace(source="elsewhere")
        minute = self._minutes.setdefault(whence, _Minute(now))
        minute.times += 1
        return minute.times <= (1 if is_stranger else _OF_FORMER)

    def ended(self, now: datetime) -> Sequence[Beyond]:
        """What is to be told of minutes that are over, which are forgotten."""
        over = [whence for whence, one in self._minutes.items() if now - one.since >= _MINUTE]
        gone = [(whence, self._minutes.pop(whence)) for whence in over]
        return [
            Beyond(whence, beyond, one.since)
            for whence, one in gone
            if (beyond := one.times - (1 if whence.actor == NOBODY else _OF_FORMER)) > 0
        ]


async def of_known(connection: Connection, request: Request, actor: str, reason: str) -> None:
    """Write one of somebody who is known."""
    await _write(connection, actor, _path(request), reason=reason, correlation_id=given_correlation(request))


async def of_unknown(
    connection: Connection, request: Request, former: str | None, refusals: Refusals, *, now: datetime
) -> None:
    """Write or count one of somebody who is not: ``former`` is whom what he brought stood for, None: nobody.
    Of a stranger the operation is told, and not the path, where he writes what he likes."""
    source = "elsewhere" if request.client is None else network(request.client.host)
    path = request.scope["route"].path.removeprefix(_PREFIX)  # the router's own, or with its parent's
    operation = f"{request.method} {_PREFIX}{path}"
    whence = Whence(NOBODY, source, operation) if former is None else Whence(former, "", "several")
    if refusals.is_told(whence, now):
        await _write(
            connection,
            whence.actor,
            operation if former is None else _path(request),
            reason="no token or session that there is" if former is None else "it is not good any more",
            source=source,
            correlation_id=given_correlation(request),
        )


async def of_minute(connection: Connection, beyond: Beyond) -> None:
    """Write what a minute had beyond the entries of their own."""
    whence, since = beyond.whence, rfc3339(beyond.since)
    reason = "more of the same within a minute"
    source = whence.source or None
    await _write(
        connection,
        whence.actor,
        whence.operation,
        reason=reason,
        source=source,
        times=beyond.times,
        since=since,
    )


def _path(request: Request) -> str:
    return f"{request.method} {request.url.path}"[:300]


async def _write(connection: Connection, actor: str, object_: str, **detail: str | int | None) -> None:
    told = {name: value for name, value in detail.items() if value is not None}
    await audit.record(connection, actor=actor, action="request.refused", object_=object_, detail=told)
