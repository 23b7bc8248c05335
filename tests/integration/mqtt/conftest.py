"""A real mosquitto for each test that asks, with the limits of deploy/mosquitto.conf."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CONF = Path(__file__).parents[3] / "deploy" / "mosquitto.conf"
_OWN = ("listener", "allow_anonymous", "password_file", "persistence_location", "autosave_interval")


def _program() -> str | None:
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """A broker that can be stopped, killed and started again, with its sessions kept."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        kept = [line for line in CONF.read_text().splitlines() if not line.startswith(_OWN)]
        self._conf = folder / "mosquitto.conf"
        lines = f"user {getpass.getuser()}\nlistener {self.port} 127.0.0.1\n"
        lines += f"persistence_location {folder}/\nautosave_interval 1\n"
        anonymous = "" if "allow_anonymous" in extra else "allow_anonymous true\n"
        self._conf.write_text("\n".join(kept) + f"\n{lines}{anonymous}{extra}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = _program()
        assert program is not None
        self._process = subprocess.Popen([program, "-c", str(self._conf)])
        for _ in range(500):
            assert self._process.poll() is None, "mosquitto ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.01)
        pytest.fail("mosquitto did not start")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    if _program() is None:
        missing = "no mosquitto (deploy/mosquitto.sh installs it)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    broker = Mosquitto(tmp_path)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
