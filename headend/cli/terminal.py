"""The terminal: output for people and for scripts. Light, so that `headend decode` starts in no time."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console

#: Columns of a table that goes into a file or a pipe: nobody's screen cuts it.
_PIPE_WIDTH: Final = 200

#: For people; tables and progress. JSON goes to standard output undecorated.
out: Final = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err: Final = Console(stderr=True, highlight=False)


class CommandError(Exception):
    """A command cannot do what was asked; the message says why and what to do."""


@dataclass(slots=True)
class _Flags:
    debug: bool = False


flags: Final = _Flags()


def print_json(value: Any) -> None:
    """One JSON document on standard output; times as RFC 3339, everything exact."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=_exact) + "\n")


def _exact(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def moment(text: str, *, option: str) -> datetime:
    """An aware time from the command line. A naive one is refused: whose noon would it be?"""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{option}: {text!r} is no RFC 3339 time, as in 2026-03-01T00:00:00Z") from error
    if value.tzinfo is None:
        raise CommandError(f"{option}: {text!r} has no offset from UTC: add Z or +01:00")
    return value.astimezone(UTC)
