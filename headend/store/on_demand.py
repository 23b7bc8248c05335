"""What reads on demand keep beside their job: the key that makes a repeated request the same job."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("on_demand")

#: How long a key stands for what it was used for.
KEPT: Final = timedelta(hours=24)


class Claimed(NamedTuple):
    """What a key was used for (SHA-256), and the job that came of it."""

    digest: bytes
    job_id: int


@dataclass(frozen=True, slots=True)
class Named:
    """A meter as somebody named it; ``address`` None: it only pushes."""

    meter_id: int
    address: str | None
    model: str


async def claim(
    connection: Connection, token_id: int, key: str, digest: bytes, *, now: datetime
) -> Claimed | None:
    """Claim a key for what has this digest; None: it is claimed, and `bind` follows in this transaction.

    Where the key is in use, what it was used for. A transaction that claims it too is waited for.
    """
    arguments = {"token": token_id, "key": key, "digest": digest, "now": sql.aware(now), "kept": KEPT}
    while True:
        if await (await connection.execute(_QUERIES["claim"], arguments)).fetchone() is not None:
            return None
        row = await (await connection.execute(_QUERIES["claimed"], arguments)).fetchone()
        if row is not None:  # else it was forgotten in between
            return Claimed(bytes(row[0]), row[1])


async def bind(connection: Connection, token_id: int, key: str, job_id: int) -> None:
    """Say which job came of it."""
    await connection.execute(_QUERIES["bind"], {"token": token_id, "key": key, "job_id": job_id})


async def forget(connection: Connection, *, now: datetime) -> int:
    """Drop keys that are too old to stand for anything; how many."""
    return (await connection.execute(_QUERIES["forget"], {"now": sql.aware(now), "kept": KEPT})).rowcount


async def named(connection: Connection, asset_ids: Sequence[str]) -> list[Named | None]:
    """Meters by asset id, in the order given; None where there is none of this name."""
    cursor = await connection.execute(_QUERIES["addressed"], {"asset_ids": list(asset_ids)})
    return [
        None if meter_id is None else Named(meter_id, address, model)
        for _, meter_id, address, model in await cursor.fetchall()
    ]
