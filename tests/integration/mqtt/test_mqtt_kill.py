"""Nothing is lost or doubled under push: workers killed, the broker stopped, the database killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from headend.store.embedded import EmbeddedPostgres
from headend.store.embedded_folder import server_pid
from headend.store.migrate import migrate
from tests.conftest import server_folder

from .conftest import Mosquitto
from .pushing import Pushing

_KILLS = 20
_WORKERS = 3
_ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.timeout(600)


class Workers:
    """`headend ingest` in processes of their own."""

    def __init__(self, dsn: str, broker: str, folder: Path) -> None:
        slots = '[["headend/batch/+"], ["tele/#"]]'
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEADEND_")},
            "PYTHONPATH": str(_ROOT),
            "HEADEND_DATABASE_URL": dsn,
            "HEADEND_MQTT_URL": broker,
            "HEADEND_MQTT_SLOTS": slots,
            "HEADEND_MQTT_LEASE_S": "1.5",
            "HEADEND_MQTT_BUNCH": "200",
            "HEADEND_MQTT_GAP_FIRST_S": "0.5",
            "HEADEND_RETRY_FIRST_S": "0.1",
            "HEADEND_RETRY_LONGEST_S": "0.5",
        }
        self._folder = folder
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        command = [sys.executable, "-c", "from headend.cli.main import app; app()", "ingest"]
        process = subprocess.Popen(
            command, env=self._environment, cwd=self._folder, stdout=subprocess.DEVNULL
        )
        self._running[process.pid] = process

    def kill(self, pid: int) -> bool:
        """Whether it was one of ours and ran."""
        process = self._running.pop(pid, None)
        if process is None or process.poll() is not None:
            return False
        process.kill()
        process.wait(10)
        return True

    def alive(self) -> int:
        return sum(process.poll() is None for process in self._running.values())

    def stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


class Postgres:
    """A database of this test's own, on a port that stays, which can be killed."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        self._server = EmbeddedPostgres(folder, port=port)
        self.dsn = ""

    def start(self) -> None:
        self.dsn = self._server.__enter__()

    def kill(self) -> None:
        pid = server_pid(self._server._folder.data)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self._server.__exit__(None, None, None)


@pytest.fixture
def folder() -> Iterator[Path]:
    with server_folder() as made:
        yield made


def fleet(dsn: str) -> None:
    with psycopg.connect(dsn) as database:
        database.execute(
            "WITH made AS (INSERT INTO meters (asset_id, model, address)"
            " SELECT 'm-' || n, 'headend-batch-meter', NULL FROM generate_series(0, 14) AS n UNION ALL"
            " SELECT 'p-' || n, 'tasmota', 'mqtt:plug-' || n FROM generate_series(0, 4) AS n"
            " RETURNING meter_id) INSERT INTO meter_states SELECT meter_id, 'commissioned', now() FROM made"
        )


def number(dsn: str, query: str) -> int:
    with psycopg.connect(dsn) as database:
        return int(database.execute(query.encode()).fetchall()[0][0])


def wait_until_stored(dsn: str, pushing: Pushing, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        intervals = number(dsn, "SELECT count(*) FROM interval_reads")
        registers = number(dsn, "SELECT count(*) FROM register_reads")
        if (intervals, registers) >= (pushing.intervals, pushing.registers) and not pushing.unacknowledged:
            return
        pushing.resend()
        time.sleep(0.2)
    pytest.fail(
        f"{intervals} of {pushing.intervals} intervals and {registers} of {pushing.registers} readings are "
        f"stored, {pushing.unacknowledged} batches are not acknowledged"
    )


def check(dsn: str, pushing: Pushing) -> None:
    """Each exactly once: nothing twice in any form, nothing missing, nothing put aside."""
    assert number(dsn, "SELECT count(*) FROM interval_reads") == pushing.intervals
    assert number(dsn, "SELECT count(*) FROM register_reads") == pushing.registers
    assert (
        number(dsn, "SELECT count(DISTINCT (meter_id, obis, meter_time)) FROM register_reads")
        == pushing.registers
    )
    for table in ("interval_revisions", "interval_fragments", "quarantine", "inbox"):
        assert number(dsn, f"SELECT count(*) FROM {table}") == 0, table
    assert number(dsn, "SELECT count(*) FROM batch_gaps WHERE closed_at IS NULL OR lost <> '{}'") == 0
    # the change feed tells each interval once
    told = (
        "SELECT coalesce(sum(extract(epoch FROM upper(during) - lower(during)) / 900), 0)::bigint "
        "FROM changes WHERE kind = 'new'"
    )
    assert number(dsn, told) == pushing.intervals
    # and each row is what was sent: a batch's value is its sequence number
    wrong = (
        "SELECT count(*) FROM interval_reads JOIN meters USING (meter_id) WHERE asset_id LIKE 'm-%%' "
        "AND active_import <> (extract(epoch FROM stamp)::bigint - 1772409600) / 900 - 1"
    )
    assert number(dsn, wrong.replace("%%", "%")) == 0


def test_workers_killed_twenty_times_under_push(
    embedded_database: object, mosquitto: Mosquitto, folder: Path
) -> None:
    dsn: str = embedded_database.dsn  # type: ignore[attr-defined]
    fleet(dsn)
    workers = Workers(dsn, mosquitto.url, folder)
    for _ in range(_WORKERS):
        workers.start()
    wait_for_readers(dsn)
    pushing = Pushing(mosquitto.port)
    killed = 0
    try:
        end = time.monotonic() + 360
        while killed < _KILLS:
            assert time.monotonic() < end, f"only {killed} kills"
            time.sleep(0.1)
            stored = number(dsn, "SELECT count(*) FROM interval_reads")
            for pid in holders(dsn):
                if killed < _KILLS and workers.kill(pid):
                    killed += 1
                    workers.start()
            # somebody has gone on before the next one dies
            while number(dsn, "SELECT count(*) FROM interval_reads") == stored:
                assert time.monotonic() < end, f"nobody goes on after {killed} kills"
                time.sleep(0.02)
        pushing.stop()
        wait_until_stored(dsn, pushing)
        check(dsn, pushing)
        assert pushing.intervals > 1000
    finally:
        pushing.close()
        workers.stop()


def holders(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as database:
        query = "SELECT DISTINCT holder FROM ingest_slots WHERE holder IS NOT NULL"
        return [int(holder.rpartition(":")[2]) for (holder,) in database.execute(query).fetchall()]


def wait_for_readers(dsn: str) -> None:
    end = time.monotonic() + 120
    while number(dsn, "SELECT count(*) FROM ingest_slots WHERE filters <> '{}'") < 2:
        assert time.monotonic() < end, "nobody reads the slots"
        time.sleep(0.1)


def test_broker_and_database_die_and_come_back_under_push(mosquitto: Mosquitto, folder: Path) -> None:
    database = Postgres(folder)
    database.start()
    try:
        migrate(database.dsn)
        fleet(database.dsn)
        workers = Workers(database.dsn, mosquitto.url, folder)
        workers.start()
        wait_for_readers(database.dsn)
        pushing = Pushing(mosquitto.port)
        try:
            time.sleep(1)
            mosquitto.stop()
            time.sleep(0.5)
            mosquitto.start()
            time.sleep(1)
            before = number(database.dsn, "SELECT count(*) FROM interval_reads")
            assert before > 0
            database.kill()
            time.sleep(10)
            database.stop()
            database.start()
            time.sleep(1)
            mosquitto.stop()
            mosquitto.start()
            pushing.stop()
            wait_until_stored(database.dsn, pushing)
            check(database.dsn, pushing)
            assert workers.alive() == 1
            assert pushing.intervals > before
        finally:
            pushing.close()
            workers.stop()
    finally:
        database.stop()
