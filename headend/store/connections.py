"""Which process has the connection of a meter that dialled in: the last one to which it proved itself."""

from collections.abc import Sequence
from typing import Final

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("connections")
#: Channel on which processes are told: a meter's number and the process that has it.
MOVED: Final = "headend_inbound"


def lane_of(meter_id: int) -> str:
    """The lane of a meter that dials in, as the database's function of that name has it."""
    return f"inbound:{meter_id}"


async def came(connection: Connection, meter_ids: Sequence[int], worker: str) -> list[str]:
    """These meters are connected to ``worker`` now: others that hold their lanes are fenced off, all are
    told, and what waits for them after a failure is due. The lanes in which something is due."""
    lanes = [lane_of(meter_id) for meter_id in meter_ids]
    await connection.execute(_QUERIES["came"], {"meters": list(meter_ids), "worker": worker})
    await connection.execute(_QUERIES["fence"], {"lanes": lanes, "worker": worker})
    await connection.execute(_QUERIES["hurry"], {"lanes": lanes})
    await connection.execute(_QUERIES["tell"], {"meters": list(meter_ids), "worker": worker})
    cursor = await connection.execute(_QUERIES["due"], {"lanes": lanes})
    return [lane for (lane,) in await cursor.fetchall()]


async def gone(connection: Connection, meter_ids: Sequence[int], worker: str) -> None:
    """These meters have hung up on ``worker``; one that is connected elsewhere by now stays that."""
    await connection.execute(_QUERIES["gone"], {"meters": list(meter_ids), "worker": worker})


async def elsewhere(connection: Connection, meter_ids: Sequence[int], worker: str) -> list[int]:
    """Those of these meters that another process than ``worker`` has."""
    cursor = await connection.execute(_QUERIES["elsewhere"], {"meters": list(meter_ids), "worker": worker})
    return [meter_id for (meter_id,) in await cursor.fetchall()]
