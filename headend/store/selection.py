"""Which meters a selection means, now; and which of its names nobody has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from headend.store import network, sql
from headend.store.sql import Connection
from schemas.job import Selection

_QUERIES: Final = sql.load("selection")
_LIKE: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_", "*": "%", "?": "_"})
_LISTS: Final = ("meters", "groups", "tags", "feeders", "transformers", "stations", "models")
_ONE: Final = {"stations": "concentrator, gateway or substation"}


class UnknownName(NamedTuple):
    """A name of a selection that nobody has: ``list_`` is the field, ``place`` counts from 0."""

    list_: str
    place: int
    name: str

    @property
    def pointer(self) -> str:
        """JSON pointer into the selection."""
        return f"/{self.list_}/{self.place}"

    @property
    def reason(self) -> str:
        """For people."""
        return f"no {_ONE.get(self.list_, self.list_.removesuffix('s'))} {self.name!r}"


async def meters(connection: Connection, selection: Selection, *, at: datetime) -> list[int]:
    """Numbers of the meters, in order: those that are commissioned at ``at`` and that the network has now
    where the selection says. Names that nobody has mean nothing."""
    below = None
    if selection.stations:
        cursor = await connection.execute(_QUERIES["nodes"], {"codes": list(selection.stations)})
        below = await network.meters_below(connection, [node for (node,) in await cursor.fetchall()])
    told = _conditions(selection) | {"at": sql.aware(at), "below": below}
    cursor = await connection.execute(_QUERIES["meters"], told, prepare=False)
    return [meter_id for (meter_id,) in await cursor.fetchall()]


async def stations(connection: Connection, selection: Selection) -> list[tuple[int, str]]:
    """(number of the node, model) of concentrators and gateways that can be called, in order. ``meters`` and
    ``query`` are of their codes here; groups and tags have no concentrators."""
    if selection.groups or selection.tags:
        return []
    cursor = await connection.execute(_QUERIES["stations"], _conditions(selection))
    return [(node_id, model) for node_id, model in await cursor.fetchall()]


async def unknown(connection: Connection, selection: Selection) -> Sequence[UnknownName]:
    """Every name of the selection that nobody has, by list and place; models are not looked at."""
    cursor = await connection.execute(_QUERIES["unknown"], _conditions(selection))
    return [UnknownName(*row) for row in await cursor.fetchall()]


async def used_models(connection: Connection) -> list[str]:
    """Models of our meters, sorted."""
    return [model for (model,) in await (await connection.execute(_QUERIES["used_models"])).fetchall()]


def _conditions(selection: Selection) -> dict[str, Any]:
    told: dict[str, Any] = {name: list(getattr(selection, name)) or None for name in _LISTS}
    return told | {"pattern": None if selection.query is None else selection.query.translate(_LIKE)}
