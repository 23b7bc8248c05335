"""Meters by the line that they hang on: whatever is sent to all of a line reaches each of them.

A line is named as lanes name it: the written address up to the meter.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection
from schemas.meter import MeterState

_QUERIES: Final = sql.load("lines")


class OnLine(NamedTuple):
    """A meter that hangs on a line: installed, commissioned or suspended."""

    meter_id: int
    asset_id: str
    state: MeterState

    def __str__(self) -> str:
        return self.asset_id if self.state is MeterState.COMMISSIONED else f"{self.asset_id} ({self.state})"


def line_of(address: str) -> str:
    """The line in an address."""
    return address.partition("?")[0]


async def meters(connection: Connection, lines: Collection[str]) -> dict[str, list[OnLine]]:
    """Who hangs on each of these lines, in order of asset ids."""
    found: dict[str, list[OnLine]] = {}
    cursor = await connection.execute(_QUERIES["meters"], {"lines": list(lines)})
    for line, meter_id, asset_id, state in await cursor.fetchall():
        found.setdefault(line, []).append(OnLine(meter_id, asset_id, MeterState(state)))
    return found


async def waves(connection: Connection, campaign_id: int, meter_ids: Sequence[int]) -> dict[int, int]:
    """In which wave of a campaign these meters are, as far as they have a part in it."""
    cursor = await connection.execute(_QUERIES["parts"], {"campaign": campaign_id, "meters": list(meter_ids)})
    found: dict[int, int] = dict(await cursor.fetchall())
    return found
