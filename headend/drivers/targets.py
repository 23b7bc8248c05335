"""Meters as targets: with their places in the network, all read at once."""

from collections.abc import Sequence

from headend.drivers.contract import Target
from headend.store import meters, network
from headend.store.sql import Connection
from schemas.meter import Meter
from schemas.network import NOWHERE


async def targets_of(connection: Connection, meter_ids: Sequence[int]) -> list[Target]:
    """The meters of these numbers that there are. Raises UnavailableError."""
    return await placed(connection, await meters.find(connection, ids=meter_ids))


async def placed(connection: Connection, found: Sequence[Meter]) -> list[Target]:
    """Meters with their places. Raises UnavailableError."""
    places = await network.places(connection, [meter.meter_id for meter in found])
    return [Target(meter, places.get(meter.meter_id, NOWHERE)) for meter in found]
