"""The demonstration: a simulated field in a process of its own, its network and meters imported, a broker
between, a token to look at them.

The simulator is a stranger to the head-end: it is started as a command, told files to write its meters and
its network into, and those are imported as any others. Keys stand there in plain text, which only simulated
ones may.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from headend.clock import utc_now
from headend.foundation import Base
from headend.ingest.meter_import import MeterImport, import_meters
from headend.ingest.network_import import NetworkImport, import_network
from headend.store import audit, tokens
from headend.store.sql import Connection
from headend.store.tokens import Scope
from schemas.config import Settings

log = logging.getLogger(__name__)

ACTOR: Final = "demo"
#: How long the simulator may take to get ready, and to end, in seconds.
READY_S: Final = 120.0
END_S: Final = 10.0
#: The command `concentrator-sim` by this interpreter, wherever its scripts are.
_PROGRAM: Final = "from concentrator_sim.cli import app; app(prog_name='concentrator-sim')"
#: The event that the simulator tells, as one line of JSON, when all its meters listen.
_READY: Final = "ready"


class DemoError(Exception):
    """The demonstration cannot be set up; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What to simulate: the scenario ``demo`` with every kind of link, or only ``meters`` meters that answer
    directly; ports from ``base_port`` on, loads drawn by ``seed``."""

    meters: int | None = None
    seed: int = 1
    base_port: int = 20000


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A running one. ``token_is_new`` says that the token has just been made; it stays in ``token_file``.
    ``network`` is None where only direct meters are simulated."""

    demo: Demo
    imported: MeterImport
    network: NetworkImport | None
    token: str
    token_file: Path
    token_is_new: bool
    process: asyncio.subprocess.Process

    async def ended(self) -> None:
        """Returns when the simulator ends, by whatever cause."""
        await self.process.wait()


def demo_settings(settings: Settings, mqtt_url: str) -> Settings:
    """The settings with the demonstration's broker, and with boundaries of sampled meters every minute: who
    looks at a demonstration does not wait for a quarter of an hour. What the user set stands."""
    wanted = {"mqtt_url": mqtt_url, "sample_period_s": 60, "sample_tolerance_s": 10}
    return settings.model_copy(
        update={name: value for name, value in wanted.items() if name not in settings.model_fields_set}
    )


@asynccontextmanager
async def demonstration(demo: Demo, base: Base) -> AsyncIterator[Demonstration]:
    """The simulated field for as long as the context lasts. Raises DemoError."""
    # In our own folder and under one name: what a kill -9 leaves behind the next start takes away.
    meters_file = base.settings.data_dir / "demo-meters.csv"
    network_file = None if demo.meters is not None else base.settings.data_dir / "demo-network.csv"
    await asyncio.to_thread(_make_room, meters_file)
    process = await _start(demo, meters_file, network_file, base.settings)
    try:
        await _ready(process, demo)
        drain = asyncio.create_task(_drain(process), name="simulator's words")
        try:
            imported = await _import(base, meters_file)
            await asyncio.to_thread(meters_file.unlink)
            network = None
            if network_file is not None:
                network = await _import_network(base, network_file)
                await asyncio.to_thread(network_file.unlink)
            token, file, is_new = await _token(base)
            yield Demonstration(demo, imported, network, token, file, is_new, process)
        finally:
            drain.cancel()
            await asyncio.wait([drain])
    finally:
        await asyncio.shield(_stop(process))


async def _start(
    demo: Demo, meters_file: Path, network_file: Path | None, settings: Settings
) -> asyncio.subprocess.Process:
    command = [
        sys.executable, "-c", _PROGRAM, "serve", "--seed", str(demo.seed), "--base-port", str(demo.base_port),
        "--write-meters", str(meters_file), "--until-eof",
    ]  # fmt: skip
    if network_file is None:
        command += ["--meters", str(demo.meters), "--mix", "demo"]
    else:
        lines = settings.data_dir / "demo-lines"
        await asyncio.to_thread(lines.mkdir, parents=True, exist_ok=True)
        command += ["--scenario", "demo", "--write-network", str(network_file), "--device-dir", str(lines)]
        if settings.mqtt_url is not None:
            command += ["--mqtt-url", settings.mqtt_url]
    return await asyncio.create_subprocess_exec(
        *command,
        # The simulator ends with this pipe: it does not outlive us, whatever we die of.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for us first; the field is stopped when we are done with it
    )


async def _ready(process: asyncio.subprocess.Process, demo: Demo) -> None:
    said: list[str] = []
    try:
        async with asyncio.timeout(READY_S):
            while line := await _line(process):
                said.append(line)
                if _event(line) == _READY:
                    return
    except TimeoutError:
        raise DemoError(f"the simulated field was not ready within {READY_S:.0f} s") from None
    why = "; ".join(said[-3:]) or "it said nothing"
    raise DemoError(
        f"the simulated field did not start: {why}. It needs some {demo.meters or 200} ports from "
        f"{demo.base_port} on: --base-port names others"
    )


def _event(line: str) -> object:
    """What the line tells; None where it is words, in which "already in use" may stand."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told.get("event") if isinstance(told, dict) else None


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None  # noqa: S101 - asked for a pipe above
    try:
        return (await process.stdout.readline()).decode(errors="replace").rstrip() or ""
    except ValueError:  # a line beyond the stream's limit
        return "..."


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Keep the pipe empty: a full one would stop the simulator."""
    assert process.stdout is not None  # noqa: S101 - asked for a pipe above
    while block := await process.stdout.read(65536):
        log.debug("simulator: %s", block.decode(errors="replace").rstrip())


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            log.warning("the simulated field does not stop, killing it")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _import(base: Base, meters_file: Path) -> MeterImport:
    vault = await base.vault()
    data = await asyncio.to_thread(meters_file.read_bytes)
    async with base.pool.connection() as connection:
        imported = await import_meters(
            connection,
            data,
            vault=vault,
            # commissioned before what is collected, so that nothing is read of a time before their life
            since=utc_now() - timedelta(days=base.settings.read_days + 1),
            actor=ACTOR,
            allow_plain_keys=True,
            profile_folders=base.settings.profile_folders,
        )
    if imported.errors:
        raise DemoError(
            f"the simulated meters are not those of the database: {imported.errors[0]} "
            f"({len(imported.errors)} in all). Use the same --seed and --base-port, or an empty data_dir"
        )
    return imported


async def _import_network(base: Base, network_file: Path) -> NetworkImport:
    data = await asyncio.to_thread(network_file.read_bytes)
    async with base.pool.connection() as connection:
        imported = await import_network(
            connection,
            data,
            since=utc_now() - timedelta(days=base.settings.read_days + 1),
            actor=ACTOR,
            profile_folders=base.settings.profile_folders,
        )
    if imported.errors:
        raise DemoError(
            f"the simulated network is not that of the database: {imported.errors[0]} "
            f"({len(imported.errors)} in all). Use the same --seed and --base-port, or an empty data_dir"
        )
    return imported


async def _token(base: Base) -> tuple[str, Path, bool]:
    """The demonstration's token: the one of before where it still holds, else a new one."""
    file = base.settings.data_dir / "demo-token"
    async with base.pool.connection() as connection:
        secret = await asyncio.to_thread(_read, file)
        if secret is not None and await tokens.verify(connection, secret, now=utc_now()) is not None:
            return secret, file, False
        return await _new_token(connection, file), file, True


async def _new_token(connection: Connection, file: Path) -> str:
    issued = await tokens.create(connection, name="demonstration", scopes=[Scope.OPERATE])
    await audit.record(
        connection, actor=ACTOR, action="token.created", object_=f"token:{issued.token.token_id}"
    )
    await asyncio.to_thread(_write_private, file, issued.secret)
    return issued.secret


def _make_room(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)


def _read(file: Path) -> str | None:
    return file.read_text("ascii").strip() if file.is_file() else None


def _write_private(file: Path, secret: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(secret + "\n")
