"""What all commands share: settings, the database, errors as one line, output for people and for scripts."""

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import typer
import uvloop
from rich.console import Console

from headend.foundation import Base, open_base
from headend.keys.seal import SealError
from headend.keys.transport import TransportError
from headend.store.embedded import EmbeddedPostgresError
from headend.store.errors import ConflictError, UnavailableError, UnknownError
from headend.store.migrate import DatabaseError
from headend.store.writer import UnknownMeter
from protocols.errors import CommunicationError
from schemas.address import AddressError
from schemas.config import Settings, SettingsError, load_settings
from schemas.meter import LifeCycleError
from schemas.model import ModelError

P = ParamSpec("P")
T = TypeVar("T")

#: Columns of a table that goes into a file or a pipe: nobody's screen cuts it.
_PIPE_WIDTH: Final = 200

#: For people; tables and progress. JSON goes to standard output undecorated.
out: Final = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err: Final = Console(stderr=True, highlight=False)

#: Errors that say all a person needs; everything else is a defect of ours and shows its traceback.
_TOLD: Final = (
    AddressError,
    CommunicationError,
    ConflictError,
    DatabaseError,
    EmbeddedPostgresError,
    LifeCycleError,
    ModelError,
    SealError,
    SettingsError,
    TransportError,
    UnavailableError,
    UnknownError,
    UnknownMeter,
    OSError,
)


class CommandError(Exception):
    """A command cannot do what was asked; the message says why and what to do."""


@dataclass(slots=True)
class _Flags:
    debug: bool = False


flags: Final = _Flags()


def reported(command: Callable[P, Coroutine[Any, Any, int | None]]) -> Callable[P, None]:
    """A coroutine as a typer command: run on uvloop, its errors told in one line, its result the exit
    status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = uvloop.run(command(*args, **kwargs))
        except (*_TOLD, CommandError) as error:
            if flags.debug:
                traceback.print_exc()
            fault = f" (fault: {error.fault})" if isinstance(error, CommunicationError) else ""
            err.print(f"headend: {error}{fault}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            err.print("headend: interrupted")
            raise typer.Exit(130) from None
        raise typer.Exit(status or 0)

    return run


def print_json(value: Any) -> None:
    """One JSON document on standard output; times as RFC 3339, everything exact."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def moment(text: str, *, option: str) -> datetime:
    """An aware time from the command line. A naive one is refused: whose noon would it be?"""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{option}: {text!r} is no RFC 3339 time, as in 2026-03-01T00:00:00Z") from error
    if value.tzinfo is None:
        raise CommandError(f"{option}: {text!r} has no offset from UTC: add Z or +01:00")
    return value.astimezone(UTC)


@asynccontextmanager
async def base(settings: Settings | None = None) -> AsyncIterator[Base]:
    """An open database with all migrations applied; the one that a running service holds is shared."""
    async with open_base(settings or load_settings()) as opened:
        yield opened
