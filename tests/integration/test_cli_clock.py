"""headend clock: a simulated meter's clock is read and put right, and the fleet is shown."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from headend.cli.main import app

NOW = datetime.now(UTC).replace(microsecond=0)


def run(*arguments: str, status: int = 0) -> Any:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done


@pytest.fixture
def dsn(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    run("clock", "drift")  # the schema is there
    with psycopg.connect(embedded_database.dsn, autocommit=True) as connection:
        for number, off_ms in enumerate((0, 3_500, -400_000), 1):
            connection.execute(
                "INSERT INTO meters (asset_id, model) VALUES (%s, 'generic-dlms')", (f"M-{number}",)
            )
            connection.execute(
                "INSERT INTO clock_readings VALUES (%s, %s, %s, 1000, -60, 0, 'read')",
                (number, NOW - timedelta(hours=number), off_ms),
            )
    return str(embedded_database.dsn)


def test_the_fleet_as_bars(dsn: str) -> None:
    shown = run("clock", "drift").stdout.splitlines()
    assert "3 clocks" in shown[0]
    counts = {line.split("█")[0].strip(): line.split()[-1] for line in shown[1:18]}
    assert counts["+2 to +5"] == counts["-900 to -300"] == counts["-1 to +1"] == "1"
    assert any("M-3" in line and "-400.000" in line for line in shown)
    assert not any("M-2" in line for line in shown)
    told = json.loads(run("clock", "drift", "--beyond", "3", "--json").stdout)
    assert [one["meter"] for one in told["outliers"]] == ["M-3", "M-2"]
    assert told["outliers"][0]["offset_s"] == "-400.000"
    assert sum(one["meters"] for one in told["bins"]) == told["meters"] == 3


def test_what_cannot_be_asked_is_told(dsn: str) -> None:
    assert "NOPE: no meter has this asset id" in run("clock", "read", "NOPE", status=1).stderr
    assert "M-1: it has no address" in run("clock", "read", "M-1", status=1).stderr
    assert (
        "--leave is at most --shift"
        in run("clock", "sync", "--all-meters", "--leave", "90", "--shift", "60", status=1).stderr
    )
    assert "--all-meters" in run("clock", "sync", status=1).stderr
