"""The network: nodes, the links they hang on with their history, and where meters stand.

Functions work in the caller's transaction. Times are aware. Whoever changes the shape of the network takes
`lock` first, so that two changes, each right by itself, never make a circle together; `hang` does not check
order or circles itself: `find_circles` and `schemas.network.check_order` do, and their callers know what to
tell.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg import errors

from headend.store import sql
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.network import Link, LinkKind, Node, NodeKind, Place, check_order

_QUERIES: Final = sql.load("network")


class Standing(NamedTuple):
    """A node and the link it hangs on now, None for a root."""

    node: Node
    link: Link | None


class NewNode(NamedTuple):
    """A node to be made. ``meter_id`` is that of a meter, and of nothing else."""

    code: str
    kind: NodeKind
    meter_id: int | None = None
    model: str | None = None
    address: str | None = None
    title: str | None = None


class Hanging(NamedTuple):
    """What a node shall hang on, by numbers. ``hops`` and ``quality`` None: not known."""

    child: int
    parent: int
    kind: LinkKind | None
    hops: int | None = None
    quality: int | None = None


def _node(row: Sequence[Any]) -> Node:
    number, code, kind, meter, model, address, title = row
    return Node(number, code, NodeKind(kind), meter, model, address, title)


def _link(row: Sequence[Any]) -> Link:
    parent_id, parent, kind, hops, quality, since, until = row
    return Link(parent_id, parent, None if kind is None else LinkKind(kind), hops, quality, since, until)


def standing(row: Sequence[Any]) -> Standing:
    """A row of the queries that give a node with its open link."""
    return Standing(_node(row[:7]), None if row[7] is None else _link((*row[7:], None)))


async def lock(connection: Connection) -> None:
    """Let nobody else change the network's shape until the transaction ends."""
    await connection.execute(_QUERIES["lock"])


async def find(
    connection: Connection,
    *,
    codes: Sequence[str] = (),
    ids: Sequence[int] = (),
    meter_ids: Sequence[int] = (),
) -> list[Standing]:
    """All nodes that any of these name. Those that do not exist are not in the list."""
    cursor = await connection.execute(
        _QUERIES["find"], {"nodes": list(ids), "codes": list(codes), "meters": list(meter_ids)}
    )
    return [standing(row) for row in await cursor.fetchall()]


async def get(connection: Connection, code: str) -> Standing:
    """One node by its code. Raises UnknownError."""
    for found in await find(connection, codes=[code]):
        return found
    raise UnknownError(f"the network has no node {code!r}")


async def page(
    connection: Connection,
    *,
    limit: int,
    after: str | None = None,
    kind: NodeKind | None = None,
    parent_id: int | None = None,
    seen: Collection[int] | None = None,
) -> list[Standing]:
    """At most ``limit`` nodes whose code comes after ``after``, in order of codes. ``seen``: of these."""
    told = {"limit": limit, "after": after, "kind": kind, "parent": parent_id}
    cursor = await connection.execute(
        _QUERIES["page"], told | {"seen": None if seen is None else list(seen)}, prepare=False
    )
    return [standing(row) for row in await cursor.fetchall()]


async def meters_named(connection: Connection, codes: Collection[str]) -> dict[str, int]:
    """Numbers of the meters with these asset ids."""
    cursor = await connection.execute(_QUERIES["meters_named"], {"codes": list(codes)})
    return dict(await cursor.fetchall())


async def add_nodes(connection: Connection, new: Sequence[NewNode]) -> dict[str, int]:
    """Make nodes; their numbers by code. Raises ConflictError where a code or a meter has one already."""
    try:
        async with connection.transaction():
            cursor = await connection.execute(
                _QUERIES["add_nodes"],
                {
                    "codes": [one.code for one in new],
                    "kinds": [one.kind for one in new],
                    "meters": [one.meter_id for one in new],
                    "models": [one.model for one in new],
                    "addresses": [one.address for one in new],
                    "titles": [one.title for one in new],
                },
            )
            return dict(await cursor.fetchall())
    except errors.UniqueViolation as error:
        raise ConflictError("another node of the network has this code or this meter") from error


async def update_nodes(
    connection: Connection, changed: Mapping[int, tuple[str | None, str | None, str | None]]
) -> None:
    """Set (model, address, title) of nodes; None leaves what is stored."""
    models, addresses, titles = zip(*changed.values(), strict=True) if changed else ((), (), ())
    await connection.execute(
        _QUERIES["update_nodes"],
        {
            "nodes": list(changed),
            "models": list(models),
            "addresses": list(addresses),
            "titles": list(titles),
        },
    )


async def hang(connection: Connection, wanted: Sequence[Hanging], *, at: datetime) -> None:
    """Hang nodes on other parents, or by other kinds of link, from ``at`` on; their links so far end there.

    The meters below get their feeder and transformer. Raises ConflictError where a link began at ``at`` or
    later.
    """
    children = [one.child for one in wanted]
    values = {"children": children, "at": sql.aware(at)}
    cursor = await connection.execute(_QUERIES["later"], values)
    if late := {child for (child,) in await cursor.fetchall()}:
        codes = sorted(one.node.code for one in await find(connection, ids=sorted(late)))
        named = ", ".join(codes[:5]) + (", ..." if len(codes) > 5 else "")
        raise ConflictError(f"{named} moved at that time or later; give a later time")
    await connection.execute(_QUERIES["close_links"], values)
    await connection.execute(
        _QUERIES["open_links"],
        {
            **values,
            "parents": [one.parent for one in wanted],
            "links": [one.kind for one in wanted],
            "hops": [1 if one.hops is None else one.hops for one in wanted],
            "qualities": [one.quality for one in wanted],
        },
    )
    cursor = await connection.execute(_QUERIES["meters_below"], {"nodes": children})
    found = await places(connection, [meter for (meter,) in await cursor.fetchall()])
    await connection.execute(
        _QUERIES["place_meters"],
        {
            "meters": list(found),
            "feeders": [place.feeder for place in found.values()],
            "transformers": [place.transformer for place in found.values()],
        },
    )


async def measure(connection: Connection, measured: Mapping[int, tuple[int | None, int | None]]) -> None:
    """Set (hops, quality) of the links that nodes hang on now; None leaves what is stored."""
    if not measured:
        return
    await connection.execute(
        _QUERIES["measure_links"],
        {
            "children": list(measured),
            "hops": [hops for hops, _ in measured.values()],
            "qualities": [quality for _, quality in measured.values()],
        },
    )


async def asset_ids(connection: Connection, meter_ids: Sequence[int]) -> dict[str, int]:
    """Numbers of these meters by their asset ids."""
    cursor = await connection.execute(_QUERIES["asset_ids"], {"meters": list(meter_ids)})
    return dict(await cursor.fetchall())


async def via_addresses(connection: Connection, meter_ids: Sequence[int]) -> list[tuple[int, str, str]]:
    """(number, asset id, address) of those meters that are reached through their concentrator."""
    cursor = await connection.execute(_QUERIES["via_addresses"], {"meters": list(meter_ids)})
    return [(number, asset_id, address) for number, asset_id, address in await cursor.fetchall()]


async def lineage(connection: Connection, node_ids: Iterable[int]) -> dict[int, int]:
    """Node -> parent for these nodes and all above them, as it is now."""
    cursor = await connection.execute(_QUERIES["lineage"], {"nodes": sorted(node_ids)})
    return dict(await cursor.fetchall())


async def find_circles(connection: Connection, parents: Mapping[int, int]) -> set[int]:
    """Which of these nodes would stand below themselves, if each hung on the parent given, all at once."""
    up = {**await lineage(connection, set(parents.values())), **parents}
    ends: set[int] = set()  # nodes from which the way up is known to end
    circles: set[int] = set()
    for start in parents:
        path: dict[int, None] = {}
        node: int | None = start
        while node is not None and node not in ends and node not in circles and node not in path:
            path[node] = None
            node = up.get(node)
        if node is not None and node in path:
            way = list(path)
            circles.update(way[way.index(node) :])
        ends.update(one for one in path if one not in circles)
    return circles & set(parents)


async def move(
    connection: Connection, code: str, parent: str, *, kind: LinkKind | None, at: datetime
) -> tuple[Standing, Standing]:
    """Hang one node on another parent or by another kind of link; how it stood, and how it stands.

    Raises UnknownError for a code; ConflictError where it hangs there already, for the order of levels, a
    circle, or a time that is not after the last move.
    """
    await lock(connection)
    before, above = await get(connection, code), await get(connection, parent)
    child_id, parent_id = before.node.node_id, above.node.node_id
    if before.link is not None and (before.link.parent_id, before.link.kind) == (parent_id, kind):
        raise ConflictError(f"{code} hangs on {parent} by that link already")
    try:
        check_order(before.node.kind, above.node.kind)
    except ValueError as error:
        raise ConflictError(str(error)) from error
    if await find_circles(connection, {child_id: parent_id}):
        raise ConflictError(f"{parent} is below {code}: that would be a circle")
    await hang(connection, [Hanging(child_id, parent_id, kind)], at=at)
    return before, await get(connection, code)


async def places(connection: Connection, meter_ids: Sequence[int]) -> dict[int, Place]:
    """Where these meters stand now; those that the network does not have are left out."""
    cursor = await connection.execute(_QUERIES["places"], {"meters": list(meter_ids)})
    return {
        meter: Place(station_id, code, address, model, None if link is None else LinkKind(link), *last)
        for meter, station_id, code, address, model, link, *last in await cursor.fetchall()
    }


async def stations(connection: Connection) -> list[Node]:
    """All concentrators and gateways, in order of codes."""
    cursor = await connection.execute(_QUERIES["stations"])
    return [_node(row) for row in await cursor.fetchall()]


async def meters_of(connection: Connection, station_id: int) -> list[int]:
    """Numbers of the meters below a station, relays or not; empty for an unknown one."""
    return await meters_below(connection, [station_id])


async def meters_below(connection: Connection, node_ids: Iterable[int]) -> list[int]:
    """Numbers of the meters at or below nodes."""
    cursor = await connection.execute(_QUERIES["meters_below"], {"nodes": list(node_ids)})
    return [meter for (meter,) in await cursor.fetchall()]


async def history(connection: Connection, node_id: int) -> list[Link]:
    """All links that a node hung on, oldest first."""
    cursor = await connection.execute(_QUERIES["history"], {"node": node_id})
    return [_link(row) for row in await cursor.fetchall()]


async def nowhere(connection: Connection) -> int:
    """How many meters (removed ones do not count) have no place in the network."""
    cursor = await connection.execute(_QUERIES["nowhere"])
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


class Delivered(NamedTuple):
    """Meters of one model on one kind of link (None: none is told): how many there are, how many of them gave
    intervals, and how many intervals."""

    link: LinkKind | None
    model: str
    meters: int
    delivering: int
    intervals: int


async def delivered(connection: Connection, since: datetime) -> list[Delivered]:
    """What came over each kind of link, of intervals that begin at or after ``since`` (aware)."""
    cursor = await connection.execute(_QUERIES["delivered"], {"since": sql.aware(since)})
    return [
        Delivered(None if link is None else LinkKind(link), *rest) for link, *rest in await cursor.fetchall()
    ]
