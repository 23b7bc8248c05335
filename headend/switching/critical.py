"""Critical customers: who must not be switched off or limited, flagged by meter or by metering point."""

from datetime import datetime

from headend.store import audit, meters, points, switching
from headend.store.sql import Connection


async def add(
    connection: Connection,
    *,
    asset_id: str | None,
    point: str | None,
    why: str,
    until: datetime | None,
    actor: str,
) -> int:
    """Flag a meter by its asset id, or a metering point by its code, whatever meter is there: it holds from
    now on, for campaigns that run too. Its number. In a transaction. Raises UnknownError, ValueError."""
    if (asset_id is None) == (point is None):
        raise ValueError("name a meter or a metering point, and one of them")
    meter_id = None if asset_id is None else (await meters.by_asset(connection, asset_id)).meter_id
    point_id = None if point is None else (await points.get(connection, point)).point_id
    number = await switching.add_critical(
        connection, meter_id=meter_id, point_id=point_id, why=why, until=until, actor=actor
    )
    await audit.record(
        connection,
        actor=actor,
        action="critical.add",
        object_=f"critical:{number}",
        detail={
            "meter": asset_id,
            "point": point,
            "why": why,
            "until": None if until is None else until.isoformat(),
        },
    )
    return number


async def remove(connection: Connection, number: int, *, actor: str) -> None:
    """Take a flag away. In a transaction. Raises UnknownError."""
    await switching.remove_critical(connection, number, actor=actor)
    await audit.record(connection, actor=actor, action="critical.remove", object_=f"critical:{number}")
