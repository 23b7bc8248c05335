"""The headend command: one module per group of commands, loaded when it is asked for.

`headend decode` must start in no time, and the web framework or the database's driver are of no use to it: so
a command's module is imported when the command is run, or when help tells of all of them.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from headend.cli.terminal import flags

#: Command -> where it is: a function, or the typer app of a group.
_COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "run": "headend.cli.run:run",
        "api": "headend.cli.processes:api",
        "worker": "headend.cli.processes:worker",
        "scheduler": "headend.cli.processes:scheduler",
        "read": "headend.cli.read:read",
        "collect": "headend.cli.collect:collect",
        "jobs": "headend.cli.jobs:app",
        "campaign": "headend.cli.campaign:app",
        "approvals": "headend.cli.approvals:app",
        "decode": "headend.cli.decode:decode",
        "meters": "headend.cli.meters:app",
        "switch": "headend.cli.switch:app",
        "parameters": "headend.cli.parameters:app",
        "schedules": "headend.cli.schedules:app",
        "groups": "headend.cli.groups:app",
        "points": "headend.cli.points:app",
        "network": "headend.cli.network:app",
        "announcements": "headend.cli.announcements:app",
        "stations": "headend.cli.stations:stations",
        "links": "headend.cli.links:app",
        "clock": "headend.cli.clock:app",
        "completeness": "headend.cli.completeness:completeness",
        "why": "headend.cli.why:why",
        "gaps": "headend.cli.gaps:gaps",
        "reports": "headend.cli.gaps:reports",
        "readings": "headend.cli.readings:app",
        "events": "headend.cli.events:list_events",
        "inbox": "headend.cli.inbox:app",
        "ingest": "headend.cli.processes:ingest",
        "workers": "headend.cli.processes:workers",
        "quarantine": "headend.cli.quarantine:app",
        "account": "headend.cli.accounts:app",
        "login": "headend.cli.login:login",
        "logout": "headend.cli.login:logout",
        "whoami": "headend.cli.login:whoami",
        "token": "headend.cli.tokens:app",
        "keys": "headend.cli.keys:app",
        "firmware": "headend.cli.firmware:app",
        "tariff": "headend.cli.tariff:app",
        "audit": "headend.cli.audit:app",
        "db": "headend.cli.db:app",
        "bench": "headend.cli.bench:app",
    }
)


class _Commands(TyperGroup):
    """The commands of `_COMMANDS`. Any: typer brings a click of its own, or takes the installed one."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order in which help tells them."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one command; None where there is none of this name."""
        place = _COMMANDS.get(cmd_name)
        return None if place is None else _load(cmd_name, place)


def _load(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found: Any = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(
            add_completion=False, rich_markup_mode="rich", pretty_exceptions_show_locals=False
        )
        single.command(name)(found)
        found = single
    command = get_command(found)
    command.name = name
    return command


app = typer.Typer(
    name="headend",
    cls=_Commands,
    help="An open head-end for smart meters: read, store and serve load curves.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals may hold keys
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """An open head-end for smart meters: read, store and serve load curves."""
    flags.debug = debug
