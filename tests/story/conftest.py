"""The service as a real process, in a folder of its own, with the simulated field of its demonstration."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
DEADLINE_S = 60
METERS = 20
#: Ports of the whole field above the first: its direct meters, and its stations a thousand further.
FIELD = (*range(250), *range(1000, 1020))


def free_ports(wanted: Sequence[int] = FIELD) -> int:
    """The first of some ports that are free together with others so far above it."""
    for first in range(20_000 + os.getpid() % 5000, 60_000, max(wanted) + 1):
        held = []
        try:
            for port in (first + above for above in wanted):
                one = socket.socket()
                held.append(one)
                one.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return first
    raise AssertionError("no free ports")


class Service:
    """`headend run --demo` in a folder of its own."""

    def __init__(self, folder: Path, base_port: int) -> None:
        self.folder = folder
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADEND_")}
        self.environment = environment | {"HEADEND_DATA_DIR": str(folder), "HEADEND_READ_PERIOD_S": "0"}
        self.base_port = base_port
        self.said: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, meters: int | None = METERS, port: int = 0) -> None:
        """With so many direct meters; None: the whole field."""
        command = [
            str(BIN / "headend"), "run", "--demo", "--days", "1",
            "--port", str(port), "--base-port", str(self.base_port),
        ]  # fmt: skip
        if meters is not None:
            command += ["--meters", str(meters)]
        self.said = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            cwd=self.folder,
        )

    def until(self, what: str) -> str:
        """Everything said until a line holds ``what``."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if what in line:
                return "".join(self.said)
        raise AssertionError("it ended: " + "".join(self.said))

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ctrl-C, or another signal; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait until it ends by itself; the exit status."""
        assert self.process is not None
        rest, _ = self.process.communicate(timeout=DEADLINE_S)
        self.said.append(rest)
        return self.process.returncode

    def relatives(self) -> dict[int, str]:
        """Command lines of the processes that it has started, or that came of them."""
        found = {}
        marks = (str(self.folder), f"--base-port {self.base_port}")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if any(mark in line for mark in marks):
                    found[int(entry.name)] = line
        return found

    def command(self, *arguments: str) -> Any:
        done = subprocess.run(
            [str(BIN / "headend"), *arguments, "--json"],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def service() -> Iterator[Service]:
    folder = Path(tempfile.mkdtemp(prefix="headend-story-"))
    folder.chmod(0o711)  # as root the server runs as another user, who must get to its data
    made = Service(folder, free_ports())
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.send_signal(signal.SIGINT)
            made.process.wait(DEADLINE_S)
        if made.process is not None and made.process.stdout is not None:
            made.process.stdout.close()
        shutil.rmtree(folder)
