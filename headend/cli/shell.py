"""What all commands share: settings, the database, errors as one line, output for people and for scripts."""

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import typer
import uvloop
from rich.console import Console

from headend.keys.seal import Sealer, SealError, create_master_key_file, load_sealer
from headend.keys.transport import TransportError
from headend.keys.vault import Vault
from headend.store.embedded import EmbeddedPostgres, EmbeddedPostgresError, running_dsn
from headend.store.errors import ConflictError, UnavailableError, UnknownError
from headend.store.migrate import DatabaseError, migrate
from headend.store.pool import Pool, open_pool
from headend.store.writer import UnknownMeter
from protocols.errors import CommunicationError
from schemas.address import AddressError
from schemas.config import Settings, SettingsError, load_settings
from schemas.meter import LifeCycleError
from schemas.model import ModelError

P = ParamSpec("P")
T = TypeVar("T")

#: For people; tables and progress. JSON goes to standard output undecorated.
out: Final = Console(highlight=False)
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


@dataclass(frozen=True, slots=True)
class Base:
    """Settings and an open, migrated database."""

    settings: Settings
    pool: Pool

    async def vault(self) -> Vault:
        """The key vault. Raises SealError where no master key is set."""
        async with self.pool.connection() as connection:
            return await Vault.open(connection, sealer(self.settings))


def demo_master_key(settings: Settings) -> Path:
    """Where `headend run --demo` keeps the master key of its own making."""
    return settings.data_dir / "master.key"


def sealer(settings: Settings) -> Sealer:
    """The sealer of the settings; without a master key there, the one that the demo made in data_dir."""
    if settings.master_key is None and settings.master_key_file is None:
        path = demo_master_key(settings)
        if path.is_file():
            return load_sealer(settings.model_copy(update={"master_key_file": path}))
    return load_sealer(settings)


def demo_sealer(settings: Settings) -> Sealer:
    """As `sealer`, making a master key in data_dir where none is set."""
    if settings.master_key is None and settings.master_key_file is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        create_master_key_file(demo_master_key(settings))
    return sealer(settings)


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """DSN of the database: the one of the settings, the one that a running service holds, else the embedded
    one, started for as long as the context lasts."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    folder = settings.data_dir / "postgres"
    running = await asyncio.to_thread(running_dsn, folder)
    if running is not None:
        yield running
        return
    async with EmbeddedPostgres(folder, start_timeout_s=settings.database_start_timeout_s) as dsn:
        yield dsn


@asynccontextmanager
async def base(settings: Settings | None = None) -> AsyncIterator[Base]:
    """An open database with all migrations applied."""
    settings = settings or load_settings()
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(database(settings))
        await asyncio.to_thread(migrate, dsn)
        pool = await stack.enter_async_context(
            open_pool(
                dsn,
                max_size=settings.database_connections,
                statement_timeout_s=settings.database_timeout_s,
            )
        )
        yield Base(settings, pool)
