"""headend stations: a round of the concentrators that store and forward, now."""

from typing import Annotated

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import out, print_json
from headend.house import open_house
from headend.jobs.by_hand import StationRound

#: Invocation counters that one command takes per key: it asks for little.
_COUNTERS = 64
_FIGURES = ("meters", "unknown", "silent", "lost", "fetched", "released")
_SHOWN = ("meters", "silent", "unknown", "fetched", "released", "lost")


@reported
async def stations(
    names: Annotated[
        list[str] | None, typer.Argument(help="Codes in the network; default: all that store and forward.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Ask concentrators now for what they keep of their meters, store it, and release it there.

    It is a job: worked at by the service where it runs, else here.

    Exit status 1 when one could not be asked, or something of a meter was not understood.
    """
    async with base() as opened:
        async with opened.pool.connection() as connection:
            who = await acting(connection, opened, "stations.read", "stations")
        async with (
            open_house(opened, counter_block=_COUNTERS) as house,
            house.by_hand(who.actor) as hand,
        ):
            found = await hand.stations(names or ())
    if as_json:
        print_json([as_dict(one) for one in found])
    else:
        _tell(found)
    return 1 if any(one.failure is not None or one.figures.get("bad") for one in found) else 0


def as_dict(one: StationRound) -> dict[str, object]:
    """A round for scripts."""
    return {
        "station": one.station,
        **{name: one.figures.get(name, 0) for name in _FIGURES},
        "seconds": round(one.seconds, 3),
        "bad": one.figures.get("bad", {}),
        "failure": one.failure,
    }


def _tell(found: list[StationRound]) -> None:
    if not found:
        out.print("the network has no concentrator that stores and forwards")
        return
    table = Table("concentrator", "meters", "silent", "unknown", "rows", "released", "lost ever", "seconds")
    for one in found:
        counts = (one.figures.get(name, 0) for name in _SHOWN)
        table.add_row(one.station, *(f"{count:,}" for count in counts), f"{one.seconds:.1f}")
    out.print(table)
    for one in found:
        lines = [f"{identity}: {reason}" for identity, reason in one.figures.get("bad", {}).items()]
        if one.failure is not None:
            lines.append(one.failure)
        for line in lines:
            out.print(f"{one.station}: {line}", style="yellow", markup=False, soft_wrap=True)
