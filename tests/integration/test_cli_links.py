"""headend links: what is silent is shown, and closed when asked."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from headend.people.identity import host_actor

T0 = datetime(2026, 3, 1, 8, tzinfo=UTC)


def run(*arguments: str, status: int = 0) -> Any:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done


@pytest.fixture
def dsn(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    return str(embedded_database.dsn)


def test_nothing_is_silent(dsn: str) -> None:
    assert "everything that was asked has answered" in run("links", "show").stdout


def test_what_is_silent_is_shown_and_reset_and_on_record(dsn: str) -> None:
    line = "modbus+tcp:192.0.2.1:502"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO link_states VALUES ('line', %s, %s, %s, 5, 2, 'connect', 'refused')",
            (line, T0, T0 + timedelta(minutes=5)),
        )
    told = run("links", "show").stdout
    for part in (line, "2026-03-01 08:00:00Z", "2026-03-01 08:05:00Z", "connect", "refused"):
        assert part in told
    (one,) = json.loads(run("links", "show", "--kind", "line", "--json").stdout)
    assert (one["name"], one["since"], one["probes"]) == (line, "2026-03-01T08:00:00Z", 2)
    assert f"line {line} is tried again" in run("links", "reset", "line", line).stdout
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT kind, id FROM link_resets").fetchall() == [("line", line)]
        audited = connection.execute("SELECT actor, action, object FROM audit_log").fetchall()
    assert audited == [(host_actor(), "link.reset", f"line:{line}")]


def test_what_is_not_silent_cannot_be_reset(dsn: str) -> None:
    assert "meter M-1 has no open breaker" in run("links", "reset", "meter", "M-1", status=1).stderr


def test_a_meter_tells_why_it_is_not_read(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        (number,) = connection.execute(
            "INSERT INTO meters (asset_id, model) VALUES ('M-1', 'generic-dlms') RETURNING meter_id"
        ).fetchone() or (0,)
        connection.execute(
            "INSERT INTO meter_states (meter_id, state, since) VALUES (%s, 'commissioned', %s)", (number, T0)
        )
        connection.execute(
            "INSERT INTO link_states VALUES ('meter', %s, %s, %s, 3, 0, 'timeout', 'nothing came')",
            (str(number), T0, T0 + timedelta(minutes=5)),
        )
    (shown,) = [json.loads(run("meters", "show", "M-1", "--json").stdout)]
    assert shown["silent"] == "meter M-1 since 2026-03-01 08:00:00Z: nothing came"


def test_a_meter_that_nobody_reaches_is_told_then_let_be_then_tried_again(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_RETRY_FIRST_S", "0.001")
    monkeypatch.setenv("HEADEND_BREAKER_FIRST_S", "86400")
    monkeypatch.setenv("HEADEND_BREAKER_LONGEST_S", "86400")
    table = tmp_path / "meters.csv"
    table.write_text("asset_id,model,address,state\nM-1,headend-sim,tcp://127.0.0.1:1,commissioned\n")
    run("meters", "import", str(table))

    def collected() -> dict[str, Any]:
        (failure,) = json.loads(run("collect", "--days", "1", "--json", status=1).stdout)["failures"]
        return dict(failure)

    tried = collected()
    assert (tried["stage"], tried["attempts"]) == ("connect", 3)
    let_be = collected()
    assert (let_be["stage"], let_be["attempts"]) == ("connect", 0)
    (shown,) = json.loads(run("links", "show", "--json").stdout)
    assert (shown["kind"], shown["name"], shown["stage"]) == ("meter", "M-1", "connect")
    run("links", "reset", "meter", "M-1")
    assert json.loads(run("links", "show", "--json").stdout) == []
    assert collected()["stage"] == "connect"
