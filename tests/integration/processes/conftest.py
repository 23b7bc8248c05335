"""Processes of the service on a database of the test's own, as an operator would start them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60
MASTER_KEY = "42" * 32


class Process:
    """One `headend` command that runs on; what it says is read line by line."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "headend.cli", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder,
        )  # fmt: skip
        self.said: list[str] = []
        self.pid = self._popen.pid

    def until(self, what: str) -> str:
        """The first line that holds ``what``."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self.said.append(line)
            if what in line:
                return line
        raise AssertionError(f"it ended without {what!r}: " + "".join(self.said))

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def is_up(self) -> bool:
        return self._popen.poll() is None

    def end(self) -> int:
        """Wait for its end; the exit status."""
        rest, _ = self._popen.communicate(timeout=DEADLINE_S)
        self.said.append(rest)
        return self._popen.returncode

    def stop(self) -> int:
        """As systemd does it."""
        self.send(signal.SIGTERM)
        return self.end()


class Processes:
    """Starts them; all are gone behind the test."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        self.dsn = dsn
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADEND_")}
        self._environment = {
            **kept, "PYTHONPATH": str(ROOT), "HEADEND_DATABASE_URL": dsn, "HEADEND_DATA_DIR": str(folder),
        }  # fmt: skip
        self._all: list[Process] = []

    def start(self, *arguments: str, **settings: Any) -> Process:
        """A command with its settings."""
        given = {f"HEADEND_{name.upper()}": str(value) for name, value in settings.items()}
        process = Process(self.folder, self._environment | given, *arguments)
        self._all.append(process)
        return process

    def end(self) -> None:
        for process in self._all:
            if process.is_up():
                process.send(signal.SIGCONT)
                process.send(signal.SIGTERM)
        for process in self._all:
            try:
                process.end()
            except subprocess.TimeoutExpired:
                process.send(signal.SIGKILL)
                process.end()


@pytest.fixture
def processes(tmp_path: Path, embedded_database: Any) -> Iterator[Processes]:
    made = Processes(tmp_path, embedded_database.dsn)
    try:
        yield made
    finally:
        made.end()
