"""What service and commands stand on: the database, open and migrated, and the sealer of keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from headend.keys.seal import Sealer, create_master_key_file, load_sealer
from headend.keys.vault import Vault
from headend.store import keyring
from headend.store.embedded import EmbeddedPostgres, running_dsn
from headend.store.migrate import Migrated, migrate, redacted
from headend.store.pool import Pool, open_pool
from schemas.config import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Base:
    """Settings and an open, migrated database; ``where`` names it without its password."""

    settings: Settings
    pool: Pool
    where: str
    migrated: Migrated

    async def vault(self) -> Vault:
        """The key vault. Raises SealError where no master key is set, or another than the database's."""
        async with self.pool.connection() as connection:
            return await Vault.open(connection, sealer(self.settings))

    async def vault_if_any(self) -> Vault | None:
        """The key vault; None where no master key is set and the database has never held a key."""
        if not has_master_key(self.settings):
            async with self.pool.connection() as connection:
                if await keyring.fingerprint_key(connection) is None:
                    return None
        return await self.vault()


def demo_master_key(settings: Settings) -> Path:
    """Where the demo keeps the master key of its own making."""
    return settings.data_dir / "master.key"


def has_master_key(settings: Settings) -> bool:
    """Whether keys can be sealed and opened: by the settings, or by the key that the demo made."""
    named = settings.master_key is not None or settings.master_key_file is not None
    return named or demo_master_key(settings).is_file()


def sealer(settings: Settings) -> Sealer:
    """The sealer of the settings; without a master key there, the one that the demo made in data_dir."""
    if settings.master_key is None and settings.master_key_file is None:
        path = demo_master_key(settings)
        if path.is_file():
            return load_sealer(settings.model_copy(update={"master_key_file": path}))
    return load_sealer(settings)


def sealer_if_any(settings: Settings) -> Sealer | None:
    """The sealer; None where no master key is set."""
    return sealer(settings) if has_master_key(settings) else None


def make_demo_master_key(settings: Settings) -> None:
    """Make a master key in data_dir, unless the settings name one or it is there. Raises SettingsError."""
    if settings.master_key is None and settings.master_key_file is None:
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            create_master_key_file(demo_master_key(settings))
        except OSError as error:
            raise SettingsError(
                f"data_dir {settings.data_dir} cannot be written: {error.strerror}; "
                "HEADEND_DATA_DIR names another"
            ) from error


@asynccontextmanager
async def database(settings: Settings, *, share: bool = True) -> AsyncIterator[str]:
    """DSN of the database: the one of the settings, the one that a running service holds (``share``), else
    the embedded one, started for as long as the context lasts."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    folder = settings.data_dir / "postgres"
    running = await asyncio.to_thread(running_dsn, folder) if share else None
    if running is not None:
        yield running
        return
    async with EmbeddedPostgres(folder, start_timeout_s=settings.database_start_timeout_s) as dsn:
        yield dsn


@asynccontextmanager
async def open_base(settings: Settings, *, share: bool = True) -> AsyncIterator[Base]:
    """An open database with all migrations applied.

    With ``share`` false an embedded database that another process runs is an EmbeddedPostgresError: two
    services must not work in one folder.
    """
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(database(settings, share=share))
        migrated = await asyncio.to_thread(migrate, dsn)
        pool = await stack.enter_async_context(
            open_pool(
                dsn,
                max_size=settings.database_connections,
                statement_timeout_s=settings.database_timeout_s,
            )
        )
        yield Base(settings, pool, redacted(dsn), migrated)
