"""The head-end of the night: a database of its own, the county in it, and the processes of the service."""

import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from headend.bench.night.field import Served
from headend.bench.processes import BenchError
from headend.bench.store import database
from headend.clock import utc_now
from headend.foundation import Base, open_base
from headend.ingest.meter_import import import_meters
from headend.ingest.network_import import import_network
from headend.store import tokens
from headend.store.pool import Pool
from headend.store.tokens import Scope
from schemas.config import load_settings

_ACTOR: Final = "bench"
#: Meters are in service since the first of the two days that are read: nothing older is missing.
_HISTORY: Final = timedelta(days=2)
_STOP_S: Final = 60.0
_PROGRAM: Final = "from headend.cli.main import app; app(prog_name='headend')"


@dataclass(frozen=True, slots=True)
class County:
    """An open database with the county's meters; ``environment`` is what its processes are started with."""

    base: Base
    dsn: str
    where: str
    environment: Mapping[str, str]
    token: str
    import_s: float
    meters: int

    @property
    def pool(self) -> Pool:
        """Of the database."""
        return self.base.pool


@asynccontextmanager
async def county(field: Served, settings: Mapping[str, str]) -> AsyncIterator[County]:
    """A fresh database that knows the meters and the network of ``field``. Raises BenchError."""
    async with AsyncExitStack() as stack:
        dsn, where = await stack.enter_async_context(database())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-night-"))
        environment = {
            "HEADEND_DATABASE_URL": dsn,
            "HEADEND_MASTER_KEY": secrets.token_hex(32),
            "HEADEND_DATA_DIR": folder,
            "HEADEND_READ_PERIOD_S": "0",
            "HEADEND_EVENTS_PERIOD_S": "0",
            "HEADEND_STATIONS_PERIOD_S": "0",
            # what the night is about to read is no gap yet, at whatever hour the bench is run
            "HEADEND_GAPS_AFTER_S": "259200",
            "HEADEND_LOG_LEVEL": "warning",
            **settings,
        }
        given = {
            name.removeprefix("HEADEND_").lower(): json.loads(value) if value.startswith("[") else value
            for name, value in environment.items()
        }
        base = await stack.enter_async_context(open_base(load_settings(**given), share=False))
        began = asyncio.get_running_loop().time()
        number = await _import(base, field.meters, field.networks)
        import_s = asyncio.get_running_loop().time() - began
        async with base.pool.connection() as connection:
            issued = await tokens.create(connection, name="bench", scopes=[Scope.OPERATE])
            await connection.commit()
            await connection.set_autocommit(True)
            await connection.execute(b"ANALYZE")
            await connection.set_autocommit(False)
        yield County(base, dsn, where, environment, issued.secret, import_s, number)


async def _import(base: Base, devices: Sequence[Path], nodes: Sequence[Path]) -> int:
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    since, vault, number = today - _HISTORY, await base.vault(), 0
    for path in devices:
        async with base.pool.connection() as connection:
            data = await asyncio.to_thread(path.read_bytes)
            done = await import_meters(
                connection, data, vault=vault, since=since, actor=_ACTOR, allow_plain_keys=True
            )
        if done.errors:
            raise BenchError(f"the county's meters are not taken: {done.errors[0]}")
        number += len(done.added)
    for path in nodes:
        async with base.pool.connection() as connection:
            data = await asyncio.to_thread(path.read_bytes)
            hung = await import_network(connection, data, since=since, actor=_ACTOR)
        if hung.errors:
            raise BenchError(f"the county's network is not taken: {hung.errors[0]}")
    return number


@asynccontextmanager
async def command(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[int]:
    """A command of the service in a process of its own, by its pid; ended politely behind.

    Raises BenchError where it ended before.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, *arguments,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process.pid
        if process.returncode is not None:
            raise BenchError(f"headend {arguments[0]} ended with status {process.returncode}")
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
