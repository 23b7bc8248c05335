"""Devices that stations announce, or that send and nobody knows, told to the network's inbox."""

import logging
from collections.abc import Sequence
from datetime import datetime

from headend.drivers.mqtt.told import Announced, StationBatch, Told, Unknown
from headend.store import announcements
from headend.store import network as nodes
from headend.store.sql import Connection
from schemas import network
from schemas.address import LinkAddress, Scheme
from schemas.batch import AnnouncedMeter
from schemas.mqtt_model import Form

log = logging.getLogger(__name__)


async def announce(connection: Connection, told: Told, now: datetime) -> str | None:
    """Tell the network; why the message must be kept, None where nothing is lost with it.

    A meter of ours that a station announces is hung below the station, a strange one waits in the inbox for
    an engineer. The bytes of messages that strangers sent are kept until then.
    """
    match told:
        case Announced(station, _, meters):
            if await _by_station(connection, station, [_device(one) for one in meters], now):
                return None
            return f"the network has no concentrator {station}"
        case StationBatch(station=station, unknown=names) if names:
            await _by_station(connection, station, [_named(name) for name in names], now)
        case Unknown(names, form):
            if form != Form.BATCH:
                devices = [_named(name, address=True) for name in names]
                await announcements.announce(connection, None, [one for one in devices if one], now=now)
        case _:
            return None
    return f"nobody knows {', '.join(names)[:200]}"


async def _by_station(
    connection: Connection, station: str, devices: Sequence[network.Announced | None], now: datetime
) -> bool:
    """False where the network has no such station."""
    found = await nodes.find(connection, codes=[station])
    if not found:
        return False
    some = [one for one in devices if one is not None]
    await announcements.announce(connection, found[0].node.node_id, some, now=now)
    return True


def _device(meter: AnnouncedMeter) -> network.Announced | None:
    """As the network keeps it; None for what no device can be."""
    try:
        return network.Announced(
            meter.meter, meter.model, meter.address, meter.link, meter.hops or 1, meter.quality, meter.parent
        )
    except ValueError as error:
        log.warning("an announced meter is left out: %s", error)
        return None


def _named(name: str, *, address: bool = False) -> network.Announced | None:
    try:
        written = str(LinkAddress(Scheme.MQTT, identity=name)) if address else None
        return network.Announced(name, address=written)
    except ValueError as error:
        log.warning("a device is not announced: %s", error)
        return None
