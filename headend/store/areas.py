"""Areas that somebody is limited to, as they are now: what he may see of meters, nodes and what names them.

Lists are cut by it in their own query, so that pages and counts are those of what is seen.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from headend.store import network, sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("areas")


@dataclass(frozen=True, slots=True)
class Within:
    """``names`` of groups and codes of stations; ``meters`` that they have or that stand below them now;
    ``nodes`` of the network: the stations, what stands below them, and those of the meters. By numbers."""

    names: frozenset[str]
    meters: frozenset[int] = field(repr=False)
    nodes: frozenset[int] = field(repr=False)


async def within(connection: Connection, names: Collection[str]) -> Within:
    """What these groups and stations have now. A name that nothing has any more means nothing."""
    cursor = await connection.execute(_QUERIES["within"], {"areas": list(names)})
    found = await cursor.fetchall()
    return Within(
        frozenset(names),
        frozenset(meter for meter, _ in found if meter is not None),
        frozenset(node for _, node in found if node is not None),
    )


async def nodes_seen(connection: Connection, within: Within | None) -> frozenset[int] | None:
    """Numbers of the nodes that he sees: his own, and what they hang on up to the top. None: all."""
    if within is None:
        return None
    above = await network.lineage(connection, within.nodes)
    return within.nodes | frozenset(above.values())


def told(within: Within | None) -> dict[str, Any]:
    """For queries that cut by ``within`` (meters), ``within_nodes`` and ``within_names``; NULL: all."""
    if within is None:
        return {"within": None, "within_nodes": None, "within_names": None}
    return {
        "within": list(within.meters),
        "within_nodes": list(within.nodes),
        "within_names": list(within.names),
    }
