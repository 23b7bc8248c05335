"""The simulated county: some processes of the simulator, each with its share, and their meters as files."""

import asyncio
import csv
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from headend.bench.processes import BenchError

#: A share of the county listens within so many seconds.
_READY_S: Final = 180.0
_STOP_S: Final = 20.0
_PROGRAM: Final = "from concentrator_sim.cli import app; app(prog_name='concentrator-sim')"


class Direct(NamedTuple):
    """A meter that answers on a port of its own, as a peer needs it: keys and titles in hexadecimal."""

    asset_id: str
    host: str
    port: int
    encryption: str
    authentication: str
    system_title: str


@dataclass(frozen=True, slots=True)
class Served:
    """The field as it runs: ``pids`` of its processes, its files, and the seconds until it was there."""

    pids: tuple[int, ...]
    meters: tuple[Path, ...]
    networks: tuple[Path, ...]
    seconds: float
    #: what each process told when it was stopped
    ended: list[dict[str, Any]]


@asynccontextmanager
async def served(scenario: str, meters: int | None, parts: int) -> AsyncIterator[Served]:
    """The field of a scenario, ``meters`` in all (None: as it says), in ``parts`` processes; stopped behind.

    Raises BenchError where a part does not start.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-night-")))
        started = []
        ended: list[dict[str, Any]] = []
        for part in range(1, parts + 1):
            devices, nodes = folder / f"meters{part}.csv", folder / f"network{part}.csv"
            arguments = [
                "serve", "--scenario", scenario, "--part", f"{part}/{parts}",
                "--write-meters", str(devices), "--write-network", str(nodes),
                "--base-port", "0", "--until-eof",
            ]  # fmt: skip
            if meters is not None:
                arguments += ["--meters", str(meters)]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _PROGRAM, *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            stack.push_async_callback(_stop, process, ended)
            started.append((process, devices, nodes))
        await asyncio.gather(*(_ready(process) for process, _, _ in started))
        yield Served(
            tuple(process.pid for process, _, _ in started),
            tuple(devices for _, devices, _ in started),
            tuple(nodes for _, _, nodes in started),
            loop.time() - began,
            ended,
        )


async def _ready(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_READY_S):
            line = await process.stdout.readline()
    except TimeoutError:
        raise BenchError(f"the simulator was not ready within {_READY_S:.0f} s") from None
    if not line or json.loads(line).get("event") != "ready":
        raise BenchError("the simulator did not start; what it said is above")


async def _stop(process: asyncio.subprocess.Process, ended: list[dict[str, Any]]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_S):
            if process.stdout is not None and (line := await process.stdout.readline()):
                ended.append(json.loads(line))
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def direct_meters(files: Sequence[Path], most: int) -> list[Direct]:
    """The first meters of the files that have a port of their own, ``most`` at most."""
    found: list[Direct] = []
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                address = row["address"]
                if not address.startswith("tcp://") or "gateway=" in address:
                    continue
                host, _, port = address.removeprefix("tcp://").partition("?")[0].rpartition(":")
                found.append(
                    Direct(
                        row["asset_id"], host, int(port), row["encryption_key_plain"],
                        row["authentication_key_plain"],
                        row["system_title"],
                    )
                )  # fmt: skip
                if len(found) >= most:
                    return found
    return found
