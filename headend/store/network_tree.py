"""The network as a tree: some levels of it with what is folded below them, or all of it."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from headend.store import network, sql
from headend.store.network import Standing
from headend.store.sql import Connection
from schemas.network import NodeKind

_QUERIES: Final = sql.load("network")


class TooLargeError(Exception):
    """More nodes than were asked for at most; the message says what to ask for instead."""


@dataclass(slots=True)
class Branch:
    """A node with what stands below it: ``children`` to the depth asked for, ``below`` counts all."""

    standing: Standing
    children: list["Branch"] = field(default_factory=list)
    below: Counter[NodeKind] = field(default_factory=Counter)


async def tree(
    connection: Connection, root: str | None, *, depth: int, most: int, seen: Collection[int] | None = None
) -> list[Branch]:
    """The nodes at ``root`` (None: all that hang on nothing) and ``depth`` levels below, in order of codes.
    ``seen``: these alone, among whom is all that they hang on; counts are of them too.

    Raises UnknownError; TooLargeError where these are more than ``most``.
    """
    number = None if root is None else (await network.get(connection, root)).node.node_id
    asked = {"root": number, "depth": depth, "limit": most + 1, "seen": None if seen is None else list(seen)}
    cursor = await connection.execute(_QUERIES["tree"], asked, prepare=False)
    rows = await cursor.fetchall()
    if len(rows) > most:
        raise TooLargeError(f"these are more than {most} nodes: ask for fewer levels, or for a node below")
    cursor = await connection.execute(_QUERIES["counts"], asked, prepare=False)
    folded = await cursor.fetchall()
    branches = {one.node.node_id: Branch(one) for one in map(network.standing, rows)}
    for edge, kind, count in folded:
        branches[edge].below[NodeKind(kind)] += count
    roots: list[Branch] = []
    for branch in branches.values():
        above = _above(branches, branch)
        (roots if above is None else above.children).append(branch)
    for branch in reversed(branches.values()):  # children come after their parents, so they are counted first
        if (above := _above(branches, branch)) is not None:
            above.below[branch.standing.node.kind] += 1
            above.below.update(branch.below)
    return roots


async def everything(connection: Connection) -> list[Standing]:
    """All nodes, parents before their children."""
    whole = {"root": None, "depth": None, "limit": None, "seen": None}
    cursor = await connection.execute(_QUERIES["tree"], whole)
    return [network.standing(row) for row in await cursor.fetchall()]


def _above(branches: dict[int, Branch], branch: Branch) -> Branch | None:
    link = branch.standing.link
    return None if link is None else branches.get(link.parent_id)
