"""`headend read` as a process: Ctrl-C where nobody can be asked, and a service that works at its job."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

ENDS_S = 60


@pytest.fixture
def environment(embedded_database: Any, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "HEADEND_DATABASE_URL": embedded_database.dsn,
        "HEADEND_MASTER_KEY": "42" * 32,
        "HEADEND_DATA_DIR": str(tmp_path / "data"),
        "HEADEND_RESPONSE_TIMEOUT_S": "60",
    }


@pytest.fixture
def silent(embedded_database: Any) -> Iterator[str]:
    """A meter that takes connections and never answers."""

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with psycopg.connect(embedded_database.dsn, autocommit=True) as connection:
            connection.execute(
                """WITH made AS (INSERT INTO meters (asset_id, model, address)
                                 VALUES ('M-1', 'generic-dlms', %s) RETURNING meter_id)
                   INSERT INTO meter_states (meter_id, state, since)
                   SELECT meter_id, 'commissioned', '2026-01-01Z' FROM made""",
                (f"tcp://127.0.0.1:{port}",),
            )
        yield "M-1"


def start(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "headend.cli", *arguments], env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def wait_for(dsn: str, query: str) -> None:
    end = time.monotonic() + ENDS_S
    while not rows(dsn, query):
        assert time.monotonic() < end, query
        time.sleep(0.1)


def test_ctrl_c_cancels_what_nobody_else_works_at(
    environment: dict[str, str], embedded_database: Any, silent: str
) -> None:
    with start(environment, "read", silent) as command:
        wait_for(embedded_database.dsn, "SELECT 1 FROM lanes WHERE holder IS NOT NULL")
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=ENDS_S)
    assert command.returncode == 1, said
    assert f"{silent} at tcp://" in said
    assert "cancelled" in said
    assert rows(embedded_database.dsn, "SELECT state, ended_at IS NULL FROM requests") == [
        ("cancelled", False)
    ]
    assert rows(embedded_database.dsn, "SELECT holder FROM lanes WHERE holder IS NOT NULL") == []


def test_ctrl_c_leaves_to_the_service_what_it_works_at(
    environment: dict[str, str], embedded_database: Any, silent: str
) -> None:
    with start(environment, "worker") as worker:
        try:
            wait_for(embedded_database.dsn, "SELECT 1 FROM workers WHERE kind = 'worker'")
            with start(environment, "read", silent) as command:
                wait_for(embedded_database.dsn, "SELECT 1 FROM lanes WHERE holder IS NOT NULL")
                command.send_signal(signal.SIGINT)
                _, said = command.communicate(timeout=ENDS_S)
            assert command.returncode == 0, said
            assert "headend jobs follow 1" in said
            assert rows(embedded_database.dsn, "SELECT state FROM requests") == [("open",)]
            shown = start(environment, "jobs", "show", "1", "--json").communicate(timeout=ENDS_S)[0]
            assert json.loads(shown)["counts"]["open"] == 1
            start(environment, "jobs", "cancel", "1").communicate(timeout=ENDS_S)
            assert rows(embedded_database.dsn, "SELECT state FROM requests") == [("cancelled",)]
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=ENDS_S)
