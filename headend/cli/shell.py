"""What commands with a database share: settings, the event loop, errors told in one line."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Final, ParamSpec

import typer
import uvloop
from rich.logging import RichHandler

from headend.cli.terminal import CommandError, err, flags
from headend.foundation import Base, open_base
from headend.keys.seal import SealError
from headend.keys.transport import TransportError
from headend.processes.tasks import ServiceError
from headend.store.embedded_folder import EmbeddedPostgresError
from headend.store.errors import ConflictError, UnavailableError, UnknownError
from headend.store.migrate import DatabaseError
from headend.store.writer import UnknownMeter
from protocols.errors import CommunicationError
from schemas.address import AddressError
from schemas.config import Settings, SettingsError, load_settings
from schemas.meter import LifeCycleError
from schemas.model import ModelError

P = ParamSpec("P")

#: Exit status for a defect of ours (EX_SOFTWARE of sysexits.h).
_DEFECT: Final = 70
#: Errors that say all a person needs; everything else is a defect of ours.
_TOLD: Final = (
    AddressError,
    CommandError,
    CommunicationError,
    ConflictError,
    DatabaseError,
    EmbeddedPostgresError,
    LifeCycleError,
    ModelError,
    SealError,
    ServiceError,
    SettingsError,
    TransportError,
    UnavailableError,
    UnknownError,
    UnknownMeter,
    OSError,
)


def reported(command: Callable[P, Coroutine[Any, Any, int | None]]) -> Callable[P, None]:
    """A coroutine as a typer command: on uvloop, errors told in one line, the result as exit status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = uvloop.run(command(*args, **kwargs))
        except _TOLD as error:
            if flags.debug:
                traceback.print_exc()
            fault = f" (fault: {error.fault})" if isinstance(error, CommunicationError) else ""
            said = str(error).strip() or type(error).__name__
            err.print(f"headend: {said}{fault}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            err.print("headend: interrupted")
            raise typer.Exit(130) from None
        except Exception as error:  # noqa: BLE001 - the outermost boundary: what nobody foresaw
            if flags.debug:
                traceback.print_exc()
            name = type(error).__name__
            err.print(
                f"headend: a defect of ours: {name}: {error}", style="red", markup=False, soft_wrap=True
            )
            if not flags.debug:
                err.print("headend --debug ... shows where")
            raise typer.Exit(_DEFECT) from None
        raise typer.Exit(status or 0)

    return run


def log_to_terminal(settings: Settings) -> None:
    """What a service logs, on standard error: as much as the settings say, all of it with --debug."""
    logging.basicConfig(
        level=logging.DEBUG if flags.debug else settings.log_level.upper(),
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False, markup=False)],
    )
    if not flags.debug:
        for talkative in ("yoyo", "uvicorn", "procrastinate"):
            logging.getLogger(talkative).setLevel(logging.WARNING)


@asynccontextmanager
async def base(settings: Settings | None = None) -> AsyncIterator[Base]:
    """An open database with all migrations applied; the one that a running service holds is shared."""
    async with open_base(settings or load_settings()) as opened:
        yield opened
