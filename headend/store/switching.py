"""Switchings that were sent, where breakers stand, critical customers, and the emergency stop."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.sql import Connection

_QUERIES: Final = sql.load("switching")


class Halt(NamedTuple):
    """An emergency stop that holds; ``account`` as `schemas.people.Principal` has it."""

    halt_id: int
    reason: str
    actor: str
    account: int | None
    at: datetime


class BreakerState(NamedTuple):
    """Where a breaker stood at ``read_at`` (aware UTC): whether the customer was connected (``output``),
    what its control asked for, and under which mode (None: its language has none)."""

    read_at: datetime
    output: bool
    control: str
    mode: int | None


class Switching(NamedTuple):
    """One that was sent, and what became of it: ``state`` and ``proof`` as the campaign has them."""

    switching_id: int
    campaign_id: int
    action: str
    reason: str
    note: str
    actor: str
    sent_at: datetime
    approved_by: str | None
    state: str | None
    failure: str | None
    proof: Any
    ended_at: datetime | None


class Critical(NamedTuple):
    """A customer who must not be switched off: by meter or metering point, ``until`` a time or for good."""

    critical_id: int
    asset_id: str | None
    point: str | None
    why: str
    until: datetime | None
    actor: str
    created_at: datetime


async def turn(connection: Connection) -> None:
    """Nobody else switches, or stops switching, until the transaction ends."""
    await connection.execute(_QUERIES["turn"])


async def halt(connection: Connection) -> Halt | None:
    """The emergency stop that holds, if one does."""
    cursor = await connection.execute(_QUERIES["halt"])
    row = await cursor.fetchone()
    return None if row is None else Halt(*row)


async def stop(connection: Connection, *, reason: str, actor: str, account: int | None) -> bool:
    """Stop all switching; False where it is stopped already. In a transaction, behind `turn`."""
    cursor = await connection.execute(
        _QUERIES["stop"], {"reason": reason, "actor": actor, "account": account}
    )
    return await cursor.fetchone() is not None


async def allow(connection: Connection, halt_id: int, *, actor: str) -> None:
    """Allow switching again. In a transaction, behind `turn`."""
    await connection.execute(_QUERIES["allow"], {"halt": halt_id, "actor": actor})


async def sent(
    connection: Connection,
    campaign_id: int,
    meter_id: int,
    *,
    action: str,
    reason: str,
    note: str,
    actor: str,
    at: datetime,
) -> None:
    """It is about to be sent; sent again, its time moves."""
    await connection.execute(
        _QUERIES["sent"],
        {
            "campaign": campaign_id,
            "meter": meter_id,
            "action": action,
            "reason": reason,
            "note": note,
            "actor": actor,
            "at": sql.aware(at),
        },
    )


async def disconnected(
    connection: Connection, since: datetime, *, but: tuple[int, int] | None = None
) -> tuple[int, datetime | None]:
    """How many disconnections were sent since then, ``but`` for that of one campaign and meter, and when the
    first of them was."""
    campaign_id, meter_id = but or (None, None)
    cursor = await connection.execute(
        _QUERIES["disconnected"], {"since": sql.aware(since), "campaign": campaign_id, "meter": meter_id}
    )
    row = await cursor.fetchone()
    return (0, None) if row is None else (row[0], row[1])


async def disconnecting(connection: Connection) -> int:
    """How many meters open campaigns are still to disconnect."""
    cursor = await connection.execute(_QUERIES["disconnecting"])
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def was_read(connection: Connection, meter_id: int, state: BreakerState) -> None:
    """Remember where the breaker stands."""
    await connection.execute(
        _QUERIES["read"],
        {
            "meter": meter_id,
            "at": sql.aware(state.read_at),
            "output": state.output,
            "control": state.control,
            "mode": state.mode,
        },
    )


async def state(connection: Connection, meter_id: int) -> BreakerState | None:
    """Where the breaker stood when it was last read; None where it never was."""
    cursor = await connection.execute(_QUERIES["state"], {"meter": meter_id})
    row = await cursor.fetchone()
    return None if row is None else BreakerState(row[0].astimezone(UTC), *row[1:])


async def history(
    connection: Connection, meter_id: int, *, limit: int, before: int | None = None
) -> list[Switching]:
    """At most ``limit`` switchings of the meter with numbers below ``before``, newest first."""
    cursor = await connection.execute(
        _QUERIES["history"], {"meter": meter_id, "limit": limit, "before": before}
    )
    return [Switching(*row) for row in await cursor.fetchall()]


async def critical(connection: Connection, meters: Sequence[int], at: datetime) -> Mapping[int, str]:
    """Which of these meters are a critical customer's at that moment, and why."""
    cursor = await connection.execute(
        _QUERIES["critical"], {"meters": list(meters), "at": sql.aware(at)}, prepare=False
    )
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def add_critical(
    connection: Connection,
    *,
    meter_id: int | None,
    point_id: int | None,
    why: str,
    until: datetime | None,
    actor: str,
) -> int:
    """Flag a meter, or a metering point; the number of the flag."""
    cursor = await connection.execute(
        _QUERIES["add_critical"],
        {"meter": meter_id, "point": point_id, "why": why, "until": until, "actor": actor},
    )
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError("the critical customer was not stored")
    return int(row[0])


async def remove_critical(connection: Connection, critical_id: int, *, actor: str) -> None:
    """Take the flag away. Raises UnknownError where there is none of this number."""
    cursor = await connection.execute(_QUERIES["remove_critical"], {"critical": critical_id, "actor": actor})
    if await cursor.fetchone() is None:
        raise UnknownError(f"no critical customer has the number {critical_id}")


async def list_critical(
    connection: Connection, *, limit: int, after: int = 0, meter_id: int | None = None
) -> list[Critical]:
    """At most ``limit`` flags with numbers above ``after``, of one meter or of all."""
    cursor = await connection.execute(
        _QUERIES["list_critical"], {"limit": limit, "after": after, "meter": meter_id}
    )
    return [Critical(*row) for row in await cursor.fetchall()]
