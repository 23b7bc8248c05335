"""The terminal: output for people and for scripts. Light, so that `headend decode` starts in no time."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

#: Columns of a table that goes into a file or a pipe: nobody's screen cuts it.
_PIPE_WIDTH: Final = 200

#: Control characters and those that turn the direction of writing, as pictures or escapes. Line ends stay.
_VISIBLE: Final = (
    {code: 0x2400 + code for code in range(0x20) if code != 0x0A}
    | {0x7F: 0x2421}
    | {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    | {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
)


class _Console(Console):
    """Shows what others wrote as it is: a meter's text is neither markup nor a command to the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich, without control characters in any text; rich's own are apart from it."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=segment.text.translate(_VISIBLE))


#: For people; tables and progress. JSON goes to standard output undecorated.
out: Final = _Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH
)
err: Final = _Console(stderr=True, highlight=False, markup=False, emoji=False)


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


def counted(number: int, noun: str) -> str:
    """So many of them: 1 meter, 2,000 meters."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def moment(text: str, *, option: str) -> datetime:
    """An aware time from the command line. A naive one is refused: whose noon would it be?"""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{option}: {text!r} is no RFC 3339 time, as in 2026-03-01T00:00:00Z") from error
    if value.tzinfo is None:
        raise CommandError(f"{option}: {text!r} has no offset from UTC: add Z or +01:00")
    return value.astimezone(UTC)
