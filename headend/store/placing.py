"""Hanging meters of ours where a station says that it hears them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from headend.store import audit, network
from headend.store import meters as meters_
from headend.store.errors import UnknownError
from headend.store.network import Hanging, NewNode, Standing
from headend.store.sql import Connection
from schemas.address import AddressError, GatewayAddress, LinkAddress, Scheme
from schemas.network import STATIONS, Announced, NodeKind

log = logging.getLogger(__name__)

#: What other devices may be heard through.
_RELAYS = frozenset({NodeKind.RELAY, NodeKind.METER})


class Placed(NamedTuple):
    """Numbers of the meters that stand elsewhere now, and the identities that are relays or stations."""

    moved: tuple[int, ...]
    nodes: frozenset[str]


@dataclass(slots=True)
class _Picture:
    """What the network knows of those who were heard, of those they were heard through, and of all above."""

    station: Standing
    by_meter: dict[int, Standing] = field(default_factory=dict)
    by_code: dict[str, Standing] = field(default_factory=dict)
    up: dict[int, int] = field(default_factory=dict)

    def node_id(self, meter_id: int) -> int | None:
        standing = self.by_meter.get(meter_id)
        return None if standing is None else standing.node.node_id

    def is_below_station(self, node_id: int | None) -> bool:
        while node_id is not None and node_id != self.station.node.node_id:
            node_id = self.up.get(node_id)
        return node_id is not None


async def place_announced(
    connection: Connection,
    station_id: int | None,
    heard: Mapping[str, Announced],
    meters: Mapping[str, int],
    *,
    now: datetime,
) -> Placed:
    """Hang ``meters`` (identity -> number) as they were heard (all identities of the telling).

    The shape of the network is locked only where something moves. Raises UnknownError for a number that is no
    station.
    """
    if station_id is None:
        return Placed((), frozenset())
    picture = await _look(connection, station_id, heard.values(), meters)
    nodes = frozenset(code for code, one in picture.by_code.items() if one.node.kind is not NodeKind.METER)
    # a station may be among the meters for its keys: it hangs where it hangs
    meters = {identity: number for identity, number in meters.items() if identity not in nodes}
    moves, measured = _wishes(picture, heard, meters, now)
    if moves or any(number not in picture.by_meter for number in meters.values()):
        await network.lock(connection)  # and look again: somebody else may have moved them meanwhile
        await _make_nodes(connection, meters.values(), picture)
        picture = await _look(connection, station_id, heard.values(), meters)
        moves, measured = _wishes(picture, heard, meters, now)
        circles = await network.find_circles(connection, {one.child: one.parent for one in moves})
        moves = [one._replace(parent=station_id) if one.child in circles else one for one in moves]
        await network.hang(connection, moves, at=now)
        await _record(connection, picture, moves, now)
    await network.measure(connection, measured)
    children = {one.child for one in moves}
    moved = {number for number, one in picture.by_meter.items() if one.node.node_id in children}
    await _readdress(
        connection,
        picture.station.node.code,
        {
            number: heard[identity].address
            for identity, number in meters.items()
            if number in moved or picture.is_below_station(picture.node_id(number))
        },
    )
    return Placed(tuple(sorted(moved)), nodes)


async def _readdress(connection: Connection, station: str, told: Mapping[int, str | None]) -> None:
    """Let meters behind a concentrator be reached as it says now: what it called them before may be another
    meter today. Audited; the rest of the address stays."""
    gateways = {number: gateway for number, text in told.items() if (gateway := _gateway(text)) is not None}
    if not gateways:
        return
    for number, asset_id, text in await network.via_addresses(connection, sorted(gateways)):
        old = LinkAddress.parse(text)
        if old.gateway == gateways[number]:
            continue
        new = str(replace(old, gateway=gateways[number]))
        await meters_.set_address(connection, number, new)
        await audit.record(
            connection,
            actor=f"station:{station}",
            action="meter.address",
            object_=f"meter:{asset_id}",
            detail={"from": text, "to": new},
        )


def _gateway(text: str | None) -> GatewayAddress | None:
    if text is None:
        return None
    try:
        address = LinkAddress.parse(text)
    except AddressError as error:
        log.warning("an announced address cannot be used: %s", error)
        return None
    return address.gateway if address.scheme is Scheme.VIA else None


async def _look(
    connection: Connection, station_id: int, heard: Iterable[Announced], meters: Mapping[str, int]
) -> _Picture:
    codes = {one.identity for one in heard} | {one.parent for one in heard if one.parent is not None}
    found = await network.find(
        connection, ids=[station_id], codes=sorted(codes), meter_ids=sorted(set(meters.values()))
    )
    stations = [one for one in found if one.node.node_id == station_id]
    if not stations or stations[0].node.kind not in STATIONS:
        raise UnknownError(f"node {station_id} of the network is no concentrator or gateway")
    return _Picture(
        stations[0],
        {one.node.meter_id: one for one in found if one.node.meter_id is not None},
        {one.node.code: one for one in found if one.node.code in codes},
        await network.lineage(connection, [one.node.node_id for one in found]),
    )


async def _make_nodes(connection: Connection, meters: Iterable[int], picture: _Picture) -> None:
    """Nodes for meters that have none. One whose asset id is the code of something else stays without."""
    missing = sorted(set(meters) - set(picture.by_meter))
    named = await network.asset_ids(connection, missing)
    for one in await network.find(connection, codes=sorted(named)):
        number = named.pop(one.node.code)
        if one.node.meter_id is None:
            log.error(
                "meter %d cannot be placed: its asset id is the code of a %s of the network: %s",
                number,
                one.node.kind,
                one.node.code,
            )
    await network.add_nodes(
        connection, [NewNode(code, NodeKind.METER, number) for code, number in named.items()]
    )


def _wishes(
    picture: _Picture, heard: Mapping[str, Announced], meters: Mapping[str, int], now: datetime
) -> tuple[list[Hanging], dict[int, tuple[int | None, int | None]]]:
    """The moves that were told, and what was measured of links that stay: (hops, quality) by node."""
    moves: dict[int, Hanging] = {}
    measured: dict[int, tuple[int | None, int | None]] = {}
    station_id = picture.station.node.node_id
    for identity, number in meters.items():
        standing, told = picture.by_meter.get(number), heard[identity]
        if standing is None:
            continue
        child, link = standing.node.node_id, standing.link
        parent = _relay(picture, told.parent, meters)
        if parent == child:
            parent = None
        if parent is None and link is not None and picture.is_below_station(child):
            parent = link.parent_id  # heard by the station that it is below: it stays where it is
        elif parent is None:
            parent = station_id
        # behind a relay that is a node, the hops before it are those of the relay
        hops = told.hops if parent == station_id else None
        if link is not None and (link.parent_id, link.kind) == (parent, told.link or link.kind):
            if hops not in (None, link.hops) or told.quality not in (None, link.quality):
                measured[child] = (hops, told.quality)
        elif link is None or link.since < now:
            same = link is not None and link.parent_id == parent
            kind = link.kind if same and link is not None and told.link is None else told.link
            moves[child] = Hanging(child, parent, kind, hops, told.quality)
    return list(moves.values()), measured


def _relay(picture: _Picture, identity: str | None, meters: Mapping[str, int]) -> int | None:
    """The node through which a device was heard, if it is a relay or meter of this very station."""
    if identity is None:
        return None
    standing = picture.by_code.get(identity) or picture.by_meter.get(meters.get(identity, -1))
    if standing is None or standing.node.kind not in _RELAYS:
        return None
    here = identity in meters or picture.is_below_station(standing.node.node_id)
    return standing.node.node_id if here else None


async def _record(connection: Connection, picture: _Picture, moves: Sequence[Hanging], now: datetime) -> None:
    before = {one.node.node_id: one for one in picture.by_meter.values()}
    parents = {
        one.node.node_id: one.node.code
        for one in await network.find(connection, ids=sorted({one.parent for one in moves}))
    }
    for one in moves:
        standing = before[one.child]
        await audit.record(
            connection,
            actor=f"station:{picture.station.node.code}",
            action="network.moved",
            object_=f"meter:{standing.node.code}",
            detail={
                "from": None if standing.link is None else standing.link.parent,
                "to": parents[one.parent],
                "link": one.kind,
                "at": now.isoformat(),
            },
        )
