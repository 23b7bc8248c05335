"""The processes that take turns: our own client, the peers' clients, and the meter that they all read."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from headend.bench.worker import Round

_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 10.0


class BenchError(Exception):
    """A process of the benchmark failed; the message says which and how it ended."""


class Process:
    """A worker (see `headend.bench.worker`), for as long as the context lasts."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = list(command)
        self._process: subprocess.Popen[str] | None = None
        self.hello: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        """Start it. Raises BenchError."""
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        )
        try:
            self.hello = self._answer()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def ask(self, work: str, **arguments: Any) -> dict[str, Any]:
        """Have it do one piece of work. Raises BenchError."""
        process = self._process
        if process is None or process.stdin is None:
            raise BenchError(f"{self.name} is not started")
        try:
            process.stdin.write(json.dumps({"work": work, **arguments}) + "\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            raise BenchError(f"{self.name} ended before {work}") from error
        return self._answer()

    def round(self, work: str, seconds: float, **arguments: Any) -> Round:
        """Have it measure one round of ``seconds`` of CPU."""
        return cast("Round", self.ask(work, seconds=seconds, **arguments))

    def _answer(self) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise BenchError(f"{self.name} is not started")
        line = process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name} ended with status {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def ours() -> Process:
    """Our client."""
    return Process("headend", [sys.executable, "-m", "headend.bench.ours"])


def meter() -> Process:
    """The meter that all clients read; ``hello`` tells its ports."""
    return Process("meter", [sys.executable, "-m", "headend.bench.meter"])


def modbus_slaves() -> Process:
    """Modbus slaves of pymodbus' server; ``hello`` tells the ports by framing."""
    return Process("slaves", [sys.executable, "-m", "headend.bench.modbus", "slaves"])


def modbus_client() -> Process:
    """What reads them: our driver, and bare pymodbus."""
    return Process("modbus", [sys.executable, "-m", "headend.bench.modbus", "client"])


#: Peers by the package that must be installed, with their script.
_PEERS: Final = {
    "gurux-dlms": ("gurux_dlms", "gurux_peer.py"),
    "dlms-cosem": ("dlms_cosem", "dlms_cosem_peer.py"),
}


def peers() -> dict[str, Process | None]:
    """The peers' clients by name; None for one that is not installed here."""
    found: dict[str, Process | None] = {}
    for name, (package, script) in _PEERS.items():
        path = _ROOT / "tests" / "benchmarks" / script
        there = importlib.util.find_spec(package) is not None and path.is_file()
        found[name] = Process(name, [sys.executable, str(path)]) if there else None
    return found
