"""Options of which meters are meant, and the selection that they say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headend.cli.meter_list import meter_list

WHICH: Final = "Which meters (all conditions must hold)"


@dataclass(frozen=True, slots=True)
class Which:
    """Conditions on meters: a meter meets all that are given, and of each at least one."""

    groups: Annotated[
        list[str] | None, typer.Option("--group", help="In this group.", rich_help_panel=WHICH)
    ] = None
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="With key or key=value.", rich_help_panel=WHICH)
    ] = None
    feeders: Annotated[
        list[str] | None, typer.Option("--feeder", help="On this feeder.", rich_help_panel=WHICH)
    ] = None
    transformers: Annotated[
        list[str] | None, typer.Option("--transformer", help="At this transformer.", rich_help_panel=WHICH)
    ] = None
    stations: Annotated[
        list[str] | None,
        typer.Option("--station", help="Below this concentrator or substation.", rich_help_panel=WHICH),
    ] = None
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Of this model.", rich_help_panel=WHICH)
    ] = None
    query: Annotated[
        str | None, typer.Option("--query", help="Asset ids like this, with * and ?.", rich_help_panel=WHICH)
    ] = None
    meters: Annotated[
        list[str] | None, typer.Option("--meter", help="This meter.", rich_help_panel=WHICH)
    ] = None
    meters_file: Annotated[
        Path | None,
        typer.Option(
            "--meters-file", help="The meters of a CSV file with asset_id.", exists=True, dir_okay=False,
            rich_help_panel=WHICH,
        ),
    ] = None  # fmt: skip

    def selection(self, named: Sequence[str] | None = None) -> dict[str, Any]:
        """The conditions that were given, as `schemas.job.Selection` takes them; ``named`` meters are meant
        as by --meter. Raises CommandError with every line of the file that is wrong."""
        of_file = () if self.meters_file is None else meter_list(self.meters_file)
        said = {
            "groups": self.groups,
            "tags": self.tags,
            "feeders": self.feeders,
            "transformers": self.transformers,
            "stations": self.stations,
            "models": self.models,
            "query": self.query,
            "meters": [*(self.meters or ()), *(named or ()), *of_file] or None,
        }
        return {name: value for name, value in said.items() if value is not None}
