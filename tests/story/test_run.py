"""The story of a first evening: one command, load curves, Ctrl-C; started again, it goes on with its data.

Real processes throughout: the service with its embedded PostgreSQL and its simulated field. The part of curl
is played by httpx, and `concentrator-sim show` tells the truth.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

METERS = 20  # every kind of the demonstration's mix
QUANTITIES = {
    "active_import": "1.8.0",
    "active_export": "2.8.0",
    "reactive_import": "3.8.0",
    "reactive_export": "4.8.0",
}
BIN = Path(sys.executable).parent
DEADLINE_S = 60


def free_ports(count: int) -> int:
    """The first of ``count`` free ports in a row."""
    for first in range(20_000 + os.getpid() % 5000, 60_000, count):
        held = []
        try:
            for port in range(first, first + count):
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

    def start(self) -> None:
        command = [
            str(BIN / "headend"), "run", "--demo", "--meters", str(METERS), "--days", "1", "--port", "0",
            "--base-port", str(self.base_port),
        ]  # fmt: skip
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

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=DEADLINE_S)
        self.said.append(rest)
        return self.process.returncode

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


def relatives(marks: list[str]) -> list[str]:
    """Command lines of processes that have one of these marks."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(mark in line for mark in marks):
                found.append(line)
    return found


@pytest.fixture
def service() -> Iterator[Service]:
    folder = Path(tempfile.mkdtemp(prefix="headend-story-"))
    folder.chmod(0o711)  # as root the server runs as another user, who must get to its data
    made = Service(folder, free_ports(METERS))
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.send_signal(signal.SIGINT)
            made.process.wait(DEADLINE_S)
        shutil.rmtree(folder)


def truth(asset_id: str, first: datetime, last: datetime) -> dict[datetime, dict[str, int]]:
    """What the simulator says that the meter's registers were, by stamp."""
    told = subprocess.run(
        [str(BIN / "concentrator-sim"), "show", asset_id, "--from", first.isoformat(), "--to",
         last.isoformat(), "--json"],
        capture_output=True, text=True, check=True, timeout=DEADLINE_S,
    )  # fmt: skip
    return {datetime.fromisoformat(row.pop("stamp")): row for row in json.loads(told.stdout)["rows"]}


@pytest.mark.storage
@pytest.mark.timeout(240)
def test_one_command_collects_serves_stops_and_goes_on(service: Service) -> None:
    service.start()
    said = service.until("Ctrl-C stops it")
    assert f"{METERS} read, 0 failed of {METERS} due" in said
    assert f"{METERS} imported" in said
    secret = re.search(r"hdnd_\S+(?=\")", said)
    assert secret is not None
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    token_file = service.folder / "demo-token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert token_file.read_text().strip() == secret[0]

    client = httpx.Client(
        base_url=url[0], headers={"Authorization": f"Bearer {secret[0]}"}, timeout=DEADLINE_S
    )
    with client:
        meters = client.get("/api/v1/meters", params={"limit": 100}).raise_for_status().json()["meters"]
        assert len(meters) == METERS
        assert client.get("/docs").status_code == 200
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        start = end - timedelta(hours=20)
        for meter in meters[::5]:
            curve = client.get(
                f"/api/v1/meters/{meter['asset_id']}/load-curve",
                params={"from": start.isoformat(), "to": end.isoformat()},
            ).raise_for_status()
            assert_true(curve.json(), truth(meter["asset_id"], start, end), 80)
        # the same while the service runs, from the command line
        read = service.command("read", meters[0]["asset_id"], "--obis", "1.8.0")
        assert read["registers"][0]["unit"] == "Wh"
        assert len(service.command("meters", "list")) == METERS
        covered = service.command("collect", "--from", start.isoformat(), "--to", end.isoformat())
        assert covered["due"] == 0

    assert service.stop() == 0
    assert relatives([str(service.folder), f"--base-port {service.base_port}"]) == []

    service.start()
    said = service.until("Ctrl-C stops it")
    # only what the clock has added since, if a quarter of an hour has ended
    read_again = re.search(r"([\d,]+) read, ([\d,]+) new", said)
    assert "nothing was missing" in said or (read_again is not None and int(read_again[1]) <= 2 * METERS)
    assert f"0 imported, {METERS} known" in said
    assert "hdnd_" not in said  # shown only once
    assert service.stop() == 0
    assert relatives([str(service.folder), f"--base-port {service.base_port}"]) == []


def assert_true(curve: dict[str, Any], told: dict[datetime, dict[str, int]], expected: int) -> None:
    assert len(curve["rows"]) == expected
    for row in curve["rows"]:
        registers = told[datetime.fromisoformat(row["end"])]
        for quantity, obis in QUANTITIES.items():
            assert row["values"][quantity] == str(registers[obis]), row
