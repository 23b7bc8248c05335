"""Meters as targets: with their places in the network, all read at once."""

from collections.abc import Sequence

from headend.drivers.contract import Target
from headend.store import meters
from headend.store.sql import Connection
from schemas.meter import Meter


async def targets_of(connection: Connection, meter_ids: Sequence[int]) -> list[Target]:
    """The meters of these numbers that there are. Raises UnavailableError."""
    return await placed(connection, await meters.find(connection, ids=meter_ids))


async def placed(connection: Connection, found: Sequence[Meter]) -> list[Target]:
    """Meters with their places. Raises UnavailableError."""
    return [Target(meter) for meter in found]
