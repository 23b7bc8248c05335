"""headend completeness, headend why."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from headend.cli.main import app


def run(*arguments: str, status: int = 0) -> Any:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done


@pytest.fixture
def dsn(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    return str(embedded_database.dsn)


@pytest.fixture
def fleet(dsn: str) -> str:
    """Two meters commissioned in January; on the first of March one has half of its day."""
    with psycopg.connect(dsn, autocommit=True, options="-c timezone=UTC") as connection:
        connection.execute("INSERT INTO model_curves VALUES ('headend-sim', 1, 900, 'stored', 'UTC', 0)")
        connection.execute(
            "INSERT INTO meters (asset_id, model, address, feeder)"
            " SELECT 'M-' || n, 'headend-sim', 'tcp://192.0.2.1:4059', 'F-' || n FROM generate_series(1, 2) n"
        )
        connection.execute(
            "INSERT INTO meter_states SELECT meter_id, 'commissioned', '2026-01-01' FROM meters"
        )
        connection.execute(
            "INSERT INTO changes (meter_id, profile, during, kind, batch_id)"
            " SELECT meter_id, 1, '[2026-03-01,2026-03-01 12:00)', 'new', 1"
            " FROM meters WHERE asset_id = 'M-1'"
        )
    return dsn


def test_a_day_is_shown_with_causes_and_groups(fleet: str) -> None:
    told = run("completeness", "--day", "2026-03-01", "--by", "feeder", "--missing", "5").stdout
    for part in (
        "25.0% now",
        "48 of 192 intervals of 2 meters",
        "not_asked",
        "F-1",
        "50.0%",
        "F-2",
        "0.0%",
        "M-2",
    ):
        assert part in told
    shown = json.loads(run("completeness", "--day", "2026-03-01", "--missing", "5", "--json").stdout)
    assert (shown["now"]["present"], shown["forecast"]["ratio"]) == (48, None)
    assert [one["asset_id"] for one in shown["missing"]] == ["M-1", "M-2"]
    assert shown["missing"][0]["first_open"] == "2026-03-01T12:00:00Z"


def test_nothing_is_expected_of_nobody(dsn: str) -> None:
    assert "nothing is expected" in run("completeness").stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--day", "2026-02-30"), "--day: '2026-02-30' is no day"),
        (("--day", "9999-12-31"), "--day: '9999-12-31' is no day"),
        (("--zone", "Mars"), "--zone: 'Mars' is no time zone"),
        (("--watch", "--json"), "--watch goes on and on"),
    ],
)
def test_what_cannot_be_meant_is_refused(dsn: str, options: tuple[str, ...], said: str) -> None:
    assert said in run("completeness", *options, status=1).stderr


def test_a_meter_says_why(fleet: str) -> None:
    with psycopg.connect(fleet, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO attempts SELECT now(), 1, 1, meter_id, 20011, 10, 0, 0, 3, 'timeout', 'link',"
            " 'nothing came', 'w-1' FROM meters WHERE asset_id = 'M-1'"
        )
    told = run("why", "M-1", status=1).stdout
    for part in (
        "no answer came in time (timeout)",
        "nobody asks for it",
        "nobody will try",
        "20.0 s",
        "nothing came",
    ):
        assert part in told
    shown = json.loads(run("why", "M-1", "--json", status=1).stdout)
    assert (shown["late"], shown["stage"], shown["attempts"][0]["number"]) == (True, "timeout", 3)
    assert "no meter" in run("why", "nobody", status=1).stderr


def test_the_ledger_and_the_reports_are_shown(fleet: str) -> None:
    assert "no gap of that kind" in run("gaps").stdout
    assert "no run of a schedule was reported yet" in run("reports").stdout
    assert "no report 7" in run("reports", "7", status=1).stderr
    body = {
        "requests": {"open": 0, "done": 1, "failed": 1, "expired": 1, "cancelled": 0},
        "completeness": {"ratio": 0.25, "incomplete": 2},
        "missing": [{"meter": "M-2", "station": "DC-1", "open": 96, "lost": 0, "cause": "timeout"}],
    }
    with psycopg.connect(fleet, autocommit=True, options="-c timezone=UTC") as connection:
        connection.execute(
            "INSERT INTO gaps (during, missing, found_at, next_try_at, meter_id, profile, cause) SELECT"
            " '[2026-03-01 12:00,2026-03-02)', '{[2026-03-01 12:00,2026-03-02)}', now(), 'infinity',"
            " meter_id, 1, 'timeout' FROM meters WHERE asset_id = 'M-1'"
        )
        connection.execute(
            "INSERT INTO reports (job_id, title, occasion, made_at, since, until, body)"
            " VALUES (1, 'night', 'end', now(), '2026-03-01', '2026-03-02', %s)",
            (json.dumps(body),),
        )
    for part in ("M-1", "2026-03-01 12:00Z", "open", "timeout"):
        assert part in run("gaps", "M-1", "--state", "open").stdout
    (gap,) = json.loads(run("gaps", "--json").stdout)
    assert (gap["next_try_at"], gap["missing"][0]["from"]) == (None, "2026-03-01T12:00:00Z")
    for part in ("night", "25.0%", "end"):
        assert part in run("reports").stdout
    assert "M-2 behind DC-1: 96 open, 0 lost: timeout" in run("reports", "1").stdout
    assert json.loads(run("reports", "1", "--json").stdout)[0]["body"]["missing"] == body["missing"]
