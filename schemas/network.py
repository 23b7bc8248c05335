"""The network as data: what stands between the head-end and a meter, and by which links."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class NodeKind(StrEnum):
    """What a node of the network is. From a substation down: a child stands below its parent."""

    SUBSTATION = "substation"
    FEEDER = "feeder"
    TRANSFORMER = "transformer"
    CONCENTRATOR = "concentrator"
    GATEWAY = "gateway"
    RELAY = "relay"
    METER = "meter"


_RANK: Final = {
    NodeKind.SUBSTATION: 0,
    NodeKind.FEEDER: 1,
    NodeKind.TRANSFORMER: 2,
    NodeKind.CONCENTRATOR: 3,
    NodeKind.GATEWAY: 3,
    NodeKind.RELAY: 4,
    NodeKind.METER: 5,
}
#: Kinds that the head-end has connections with, and that others are reached through.
STATIONS: Final = frozenset({NodeKind.CONCENTRATOR, NodeKind.GATEWAY})


def check_order(child: NodeKind, parent: NodeKind) -> None:
    """Levels may be left out, and relays and meters relay for their own kind. Raises ValueError otherwise."""
    if _RANK[parent] < _RANK[child] or (child is parent and child in (NodeKind.RELAY, NodeKind.METER)):
        return
    may_be = ", ".join(kind for kind in NodeKind if _RANK[kind] < _RANK[child]) or "nothing"
    raise ValueError(f"a {child} does not stand below a {parent}; above it may be: {may_be}")


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

#: Bounds of what a link is told to have.
MOST_HOPS: Final = 255
BEST_QUALITY: Final = 100
#: Characters of a code or title, and of what a station tells.
LONGEST_NAME: Final = 128
LONGEST_TOLD: Final = 256


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the network. ``code`` is its name, of a meter the asset id.

    ``model`` and ``address`` (written form, `schemas.address`) are those of a concentrator or gateway; a
    meter has its own with itself, ``meter_id``.
    """

    node_id: int
    code: str
    kind: NodeKind
    meter_id: int | None = None
    model: str | None = None
    address: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """What a node hangs on during [since, until), ``until`` None where it still does; times are aware, UTC.

    ``kind`` None is the electric network alone, or unknown. ``hops`` counts the relays that are no nodes of
    ours, and one; ``quality`` 0 to 100. Both are measurements of now: only another parent or kind is history.
    """

    parent_id: int
    parent: str
    kind: LinkKind | None
    hops: int
    quality: int | None
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """A device that a station, or a message of its own, says to be there.

    ``identity`` is the name the teller has for it: asset id, logical device name, system title in hexadecimal
    or the identity of its ``mqtt:`` address. ``address`` is how it would be reached, ``via:?gateway=0:0A0B``
    or ``mqtt:plug-17``; ``parent`` the identity of the meter or relay through which it is heard, None where
    that is the station itself or not told; ``hops`` counts all links from the station.

    Raises ValueError for what no device is called or no link has.
    """

    identity: str
    model: str | None = None
    address: str | None = None
    link: LinkKind | None = None
    hops: int = 1
    quality: int | None = None
    parent: str | None = None

    def __post_init__(self) -> None:
        for name in ("identity", "model", "address", "parent"):
            value: str | None = getattr(self, name)
            if value is None:
                continue
            if not (0 < len(value) <= LONGEST_TOLD and value.isprintable() and value == value.strip()):
                raise ValueError(f"{name} must have 1 to {LONGEST_TOLD} characters, no blanks around them")
        if not 1 <= self.hops <= MOST_HOPS:
            raise ValueError(f"hops must be 1..{MOST_HOPS}, not {self.hops}")
        if self.quality is not None and not 0 <= self.quality <= BEST_QUALITY:
            raise ValueError(f"quality must be 0..{BEST_QUALITY}, not {self.quality}")
