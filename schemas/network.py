"""The network as data: what stands between the head-end and a meter, and by which links."""

from dataclasses import dataclass
from enum import StrEnum


class NodeKind(StrEnum):
    """What a node of the network is. From a substation down: a child stands below its parent."""

    SUBSTATION = "substation"
    FEEDER = "feeder"
    TRANSFORMER = "transformer"
    CONCENTRATOR = "concentrator"
    GATEWAY = "gateway"
    RELAY = "relay"
    METER = "meter"


class LinkKind(StrEnum):
    """What carries a link: power line of 3 to 148 kHz or 2 to 20 MHz, radio, mobile network, or a wire."""

    PLC_NARROWBAND = "plc_narrowband"
    PLC_BROADBAND = "plc_broadband"
    ZIGBEE = "zigbee"
    WIFI = "wifi"
    CELLULAR = "cellular"
    SERIAL = "serial"
    ETHERNET = "ethernet"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meter stands in the network now, as far as a conversation with it needs to know.

    ``station`` is the concentrator or gateway above it (``station_id`` its number, ``station_address`` where
    we reach that), None for a meter that answers directly. ``hops`` counts the links between station and
    meter, relays included (1: no relay); ``quality`` is what the station told of the last of them, 0 to 100.
    """

    station_id: int | None = None
    station: str | None = None
    station_address: str | None = None
    station_model: str | None = None
    link: LinkKind | None = None
    hops: int = 1
    quality: int | None = None
    transformer: str | None = None
    feeder: str | None = None


#: A meter of which the network knows nothing: it answers directly, over one link.
NOWHERE = Place()
