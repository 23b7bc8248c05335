"""Import and export of the network as CSV: all of a file or nothing, and every error with line and column.

The columns are described in `headend.ingest.network_rows`. A file tells how the network is from a moment on:
new nodes are made, a node with another parent or kind of link moves (what it hung on before stays in its
history), and what stands so already is left alone. Importing a file again therefore does nothing. Nodes that
a file does not name stay as they are.
"""

import asyncio
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headend.ingest.csv_table import LineError
from headend.ingest.network_rows import COLUMNS, NetworkFile, NetworkLine, read_network
from headend.store import audit, network
from headend.store.errors import ConflictError
from headend.store.network import Hanging, NewNode, Standing
from headend.store.network_tree import everything
from headend.store.sql import Connection
from schemas.network import STATIONS, NodeKind, check_order


@dataclass(frozen=True, slots=True)
class NetworkImport:
    """How many nodes were made, hung elsewhere, told otherwise (model, address, title, hops, quality) or left
    alone. With errors nothing was stored."""

    added: int = 0
    moved: int = 0
    changed: int = 0
    unchanged: int = 0
    errors: tuple[LineError, ...] = ()


class _UndoneError(Exception):
    """Rolls the transaction back and brings out what it would have done."""

    def __init__(self, result: NetworkImport) -> None:
        super().__init__()
        self.result = result


async def import_network(
    connection: Connection,
    data: bytes,
    *,
    since: datetime,
    actor: str,
    profile_folders: tuple[Path, ...] = (),
    dry_run: bool = False,
) -> NetworkImport:
    """Import a file; links begin at ``since`` (aware). A dry run stores nothing and finds every error."""
    file = await asyncio.to_thread(read_network, data, profile_folders)  # seconds, for a county
    try:
        async with connection.transaction():
            await network.lock(connection)
            result = await _store(connection, file, since)
            if result.errors or dry_run:
                raise _UndoneError(result)
            if result.added or result.moved or result.changed:
                counts = {"added": result.added, "moved": result.moved, "changed": result.changed}
                detail = {**counts, "since": since.isoformat()}
                await audit.record(
                    connection, actor=actor, action="network.imported", object_="network", detail=detail
                )
    except _UndoneError as undone:
        return undone.result
    except ConflictError as error:
        return NetworkImport(errors=(LineError(0, "", f"{error}"),))
    return result


async def _store(connection: Connection, file: NetworkFile, since: datetime) -> NetworkImport:
    lines = file.lines
    codes = {line.code for line in lines} | {line.parent for line in lines if line.parent is not None}
    stored = {one.node.code: one for one in await network.find(connection, codes=sorted(codes))}
    new = [line for line in lines if line.code not in stored]
    named = frozenset(code for code in codes if code not in stored)
    meters = await network.meters_named(connection, named)
    errors = [*file.errors, *_contradictions(file, stored, meters)]
    if errors:
        return NetworkImport(errors=tuple(sorted(errors)))
    made = [
        NewNode(
            line.code,
            line.kind,
            meters[line.code] if line.kind is NodeKind.METER else None,
            line.model,
            line.address,
            line.title,
        )
        for line in new
    ]
    ids = {code: one.node.node_id for code, one in stored.items()}
    ids |= await network.add_nodes(connection, made)
    told = {
        ids[line.code]: (line.model, line.address, line.title)
        for line in lines
        if line.code in stored and _is_told_otherwise(line, stored[line.code])
    }
    await network.update_nodes(connection, told)
    moves = {
        ids[line.code]: Hanging(ids[line.code], ids[line.parent], line.link, line.hops, line.quality)
        for line in lines
        if line.parent is not None and _moves(line, stored.get(line.code))
    }
    circles = await network.find_circles(connection, {one.child: one.parent for one in moves.values()})
    if circles:
        return NetworkImport(
            errors=tuple(
                LineError(line.line, "parent", "stands below the node itself: a circle")
                for line in lines
                if ids[line.code] in circles
            )
        )
    await network.hang(connection, list(moves.values()), at=since)
    measured = {
        ids[line.code]: (line.hops, line.quality)
        for line in lines
        if ids[line.code] not in moves and line.code in stored and _is_measured(line, stored[line.code])
    }
    await network.measure(connection, measured)
    known = {line.code for line in lines if line.code in stored}
    moved = {ids[code] for code in known} & set(moves)
    changed = (set(told) | set(measured)) - moved
    return NetworkImport(len(new), len(moved), len(changed), len(known) - len(moved) - len(changed))


def _contradictions(
    file: NetworkFile, stored: Mapping[str, Standing], meters: Mapping[str, int]
) -> list[LineError]:
    """What the file says against itself or against the database, the circles apart."""
    kinds = {code: one.node.kind for code, one in stored.items()}
    kinds |= {line.code: line.kind for line in file.lines}
    errors = []
    for line in file.lines:
        known = stored.get(line.code)
        if known is not None and known.node.kind is not line.kind:
            errors.append(LineError(line.line, "kind", f"the node is stored as a {known.node.kind}"))
        if known is None and line.kind is NodeKind.METER and line.code not in meters:
            reason = "there is no such meter: import it first, with `headend meters import`"
            errors.append(LineError(line.line, "node", reason))
        # a concentrator that has keys is also a device of the meters' table, under the same name
        if line.kind is not NodeKind.METER and line.kind not in STATIONS and line.code in meters:
            errors.append(LineError(line.line, "node", "is the asset id of a meter"))
        if line.parent is None:
            continue
        above = kinds.get(line.parent)
        if above is None:
            if line.parent in file.codes:
                continue  # that line is wrong, this one is not
            reason = f"there is no node {line.parent}, here or stored"
            errors.append(LineError(line.line, "parent", reason))
            continue
        try:
            check_order(line.kind, above)
        except ValueError as error:
            errors.append(LineError(line.line, "parent", str(error)))
    return errors


def _is_told_otherwise(line: NetworkLine, known: Standing) -> bool:
    node = known.node
    pairs = ((line.model, node.model), (line.address, node.address), (line.title, node.title))
    return any(here is not None and here != there for here, there in pairs)


def _moves(line: NetworkLine, known: Standing | None) -> bool:
    if known is None or known.link is None:
        return True
    kind = known.link.kind if line.link is None else line.link
    return (line.parent, kind) != (known.link.parent, known.link.kind)


def _is_measured(line: NetworkLine, known: Standing) -> bool:
    link = known.link
    pairs = () if link is None else ((line.hops, link.hops), (line.quality, link.quality))
    return any(here is not None and here != there for here, there in pairs)


async def export_network(connection: Connection) -> str:
    """The network as it is now, as a CSV that `import_network` takes; parents come before their children."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for node, link in await everything(connection):
        hanging = ("", "", "", "") if link is None else (link.parent, link.kind, link.hops, link.quality)
        writer.writerow((node.code, node.kind, *hanging, node.address, node.model, node.title))
    return file.getvalue()
