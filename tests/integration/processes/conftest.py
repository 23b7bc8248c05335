"""Processes of the service on a database of the test's own, as an operator would start them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60
MASTER_KEY = "42" * 32


class Process:
    """One `headend` command that runs on; what it says goes into a file, so that no full pipe stops it."""

    def __init__(self, folder: Path, environment: dict[str, str], number: int, *arguments: str) -> None:
        self._file = folder / f"said-{number}"
        with self._file.open("wb") as said:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "headend.cli", *arguments],
                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment, cwd=folder,
            )  # fmt: skip
        self.pid = self._popen.pid

    @property
    def said(self) -> list[str]:
        """Its lines so far."""
        return self._file.read_text(errors="replace").splitlines(keepends=True)

    def until(self, what: str) -> str:
        """The first whole line that holds ``what``."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            was_up = self.is_up()
            for line in self.said:
                if what in line and line.endswith("\n"):
                    return line
            if not was_up:
                break
            time.sleep(0.02)
        raise AssertionError(f"it did not say {what!r}: " + "".join(self.said))

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def is_up(self) -> bool:
        return self._popen.poll() is None

    def end(self) -> int:
        """Wait for its end; the exit status."""
        return self._popen.wait(DEADLINE_S)

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
        process = Process(self.folder, self._environment | given, len(self._all), *arguments)
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
