"""Transfers of images to meters, as campaigns wrote them down."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("images")


class Initiated(NamedTuple):
    """A transfer that was begun: what was noted of it, and whether the meter said yes."""

    image: Mapping[str, Any]
    confirmed: bool


async def last_initiated(connection: Connection, meter_id: int) -> Initiated | None:
    """The last at this meter, in whichever campaign; None where there was none."""
    cursor = await connection.execute(_QUERIES["last_initiated"], {"meter": meter_id})
    row = await cursor.fetchone()
    return None if row is None else Initiated(row[0], bool(row[1]))
