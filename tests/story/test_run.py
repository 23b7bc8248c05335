"""The story of a first evening: one command, load curves, Ctrl-C; started again, it goes on with its data.

Real processes throughout: the service with its embedded PostgreSQL and its simulated field. The part of curl
is played by httpx, and `concentrator-sim show` tells the truth.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

BIN = Path(sys.executable).parent
DEADLINE_S = 60
METERS = 20  # every kind of the demonstration's mix
QUANTITIES = {
    "active_import": "1.8.0",
    "active_export": "2.8.0",
    "reactive_import": "3.8.0",
    "reactive_export": "4.8.0",
}
BIN = Path(sys.executable).parent
DEADLINE_S = 60


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
def test_one_command_collects_serves_stops_and_goes_on(service: Any) -> None:
    service.start()
    said = service.until("Ctrl-C stops it")
    assert f"{METERS} read, 0 failed of {METERS} due" in said
    assert f"{METERS} imported" in said
    secret = re.search(r"hdnd_\S+(?=\")", said)
    assert secret is not None
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    assert not list(service.folder.glob("*.csv"))  # it held the simulated meters' keys
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
        # a power failure that a meter kept shows as an event; its logs are read once the curves are there
        failures = eventually(client, "/api/v1/events", {"log": "power_failure"})
        assert all(one["duration_s"] >= 180 and one["meter"] for one in failures)
        # the same while the service runs, from the command line
        read = service.command("read", meters[0]["asset_id"], "--obis", "1.8.0")
        assert read["registers"][0]["unit"] == "Wh"
        assert len(service.command("meters", "list")) == METERS
        covered = service.command("collect", "--from", start.isoformat(), "--to", end.isoformat())
        assert covered["due"] == 0

    assert service.stop() == 0
    assert service.relatives() == {}

    service.start()
    said = service.until("Ctrl-C stops it")
    # only what the clock has added since, if a quarter of an hour has ended
    read_again = re.search(r"intervals +([\d,]+) read", said)
    assert "nothing was missing" in said or (read_again is not None and int(read_again[1]) <= 2 * METERS)
    assert f"0 imported, {METERS} known" in said
    assert "hdnd_" not in said  # shown only once
    assert service.stop() == 0
    assert service.relatives() == {}


def eventually(client: httpx.Client, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    """Events, asked for until there are some."""
    for _ in range(DEADLINE_S * 4):
        events: list[dict[str, Any]] = client.get(path, params=params).raise_for_status().json()["events"]
        if events:
            return events
        time.sleep(0.25)
    raise AssertionError(f"nothing at {path} within {DEADLINE_S} s")


def assert_true(curve: dict[str, Any], told: dict[datetime, dict[str, int]], expected: int) -> None:
    assert len(curve["rows"]) == expected
    for row in curve["rows"]:
        registers = told[datetime.fromisoformat(row["end"])]
        for quantity, obis in QUANTITIES.items():
            assert row["values"][quantity] == str(registers[obis]), row


@pytest.mark.storage
def test_when_a_part_dies_the_service_stops_and_says_which(service: Any) -> None:
    service.start(meters=2)
    service.until("Ctrl-C stops it")
    (field,) = (pid for pid, line in service.relatives().items() if "concentrator_sim" in line)
    subprocess.run(["kill", "-9", str(field)], check=True)
    assert service.end() == 1
    assert "the simulated field ended by itself" in "".join(service.said)
    assert service.relatives() == {}


@pytest.mark.storage
def test_sigterm_ends_it_as_ctrl_c_does(service: Any) -> None:
    service.start(meters=2)
    service.until("Ctrl-C stops it")
    assert service.stop(signal.SIGTERM) == 0
    assert service.relatives() == {}


@pytest.mark.storage
def test_ctrl_c_while_it_starts_leaves_nothing_behind(service: Any) -> None:
    service.start(meters=2)
    service.until("database")
    assert service.stop() == 130
    assert "headend: interrupted" in "".join(service.said)
    assert service.relatives() == {}


def test_a_port_in_use_is_told_before_anything_is_started(service: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service.start(meters=2, port=port)
        assert service.end() == 1
    said = "".join(service.said)
    assert f"the API cannot listen on 127.0.0.1:{port}" in said
    assert "HEADEND_API_PORT" in said
    assert "Traceback" not in said
    assert list(service.folder.iterdir()) == []


@pytest.mark.storage
def test_a_meters_port_in_use_is_told_with_the_option_that_names_others(service: Any) -> None:
    with socket.create_server(("127.0.0.1", service.base_port)):
        service.start(meters=2)
        assert service.end() == 1
    said = " ".join("".join(service.said).split())
    assert "the simulated field did not start" in said
    assert "already in use" in said
    assert "--base-port names others" in said
    assert "Traceback" not in said
    assert service.relatives() == {}
