"""headend schedules and headend groups as a person and as a script use them, on a real database."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from headend.cli.main import app

Headend = Callable[..., Result]

NIGHTLY = (
    "schedules", "add", "nightly", "--cron", "0 1 * * *", "--zone", "Europe/Berlin", "--group", "residential",
    "--curves", "--deadline", "06:00",
)  # fmt: skip


@pytest.fixture
def headend(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Headend:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done

    with psycopg.connect(embedded_database.dsn) as connection:
        connection.execute(
            """WITH made AS (INSERT INTO meters (asset_id, model, address)
                             SELECT 'M' || n, 'headend-sim', 'tcp://127.0.0.1:4059'
                               FROM generate_series(1, 9) n
                             RETURNING meter_id)
               INSERT INTO meter_states SELECT meter_id, 'commissioned', '2026-01-01Z' FROM made"""
        )
    return run


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_schedule_is_made_shown_changed_and_run(headend: Headend) -> None:
    assert "no schedules" in said(headend("schedules", "list"))
    headend("groups", "add", "residential", "M1", "M2")
    assert "nightly runs next at" in said(headend(*NIGHTLY))
    assert "already" in said(headend(*NIGHTLY, status=1))
    (told,) = json.loads(headend("schedules", "list", "--json").stdout)
    assert (told["cron"], told["selection"]["groups"], told["deadline"]) == (
        "0 1 * * *",
        ["residential"],
        "06:00",
    )
    assert "0 1 * * * Europe/Berlin curves groups residential" in said(headend("schedules", "list")).replace(
        "│ ", ""
    )
    shown = said(headend("schedules", "show", "nightly"))
    assert "curves (days 7)" in shown
    assert "the run to the drop-dead time" in shown

    edit = ("schedules", "edit", "nightly")
    headend(*edit, "--deadline", "05:00", "--closes", "04:30", "--events", "--curves", "--days", "3")
    headend(*edit, "--closes", "", "--opens", "30m", "--all-meters", "--attempts", "2")
    after = json.loads(headend("schedules", "show", "nightly", "--json").stdout)
    assert (after["deadline"], after["window"], after["retry"]["attempts"]) == (
        "05:00", {"opens": "30m", "closes": None}, 2,
    )  # fmt: skip
    assert [work["kind"] for work in after["works"]] == ["curves", "events"]
    assert after["works"][0]["days"] == 3
    assert after["selection"]["groups"] == []
    headend(*edit, "--every", "15", "--deadline", "10m", "--opens", "", "--meter", "M3")
    every = json.loads(headend("schedules", "show", "nightly", "--json").stdout)
    assert (every["cron"], every["every_min"], every["selection"]["meters"]) == (None, 15, ["M3"])

    made = json.loads(headend("schedules", "run", "nightly", "--json").stdout)
    assert made["requests"] == 1
    assert "is paused" in said(headend("schedules", "pause", "nightly"))
    assert "nightly" in said(headend("schedules", "list", "--paused"))
    assert "these would be its runs" in said(headend("schedules", "next", "nightly"))
    assert "runs next at" in said(headend("schedules", "resume", "nightly"))
    headend("schedules", "remove", "nightly")
    assert "no schedule 'nightly'" in said(headend("schedules", "show", "nightly", status=1))


def test_the_next_runs_are_shown_on_both_clocks(headend: Headend) -> None:
    headend("schedules", "add", "s", "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--events",
            "--deadline", "06:00")  # fmt: skip
    asked = ("schedules", "next", "s", "-n", "2", "--after", "2026-03-28T12:00:00Z")
    shown = said(headend(*asked))
    assert "2026-03-29 03:00 CEST │ 2026-03-29 01:00Z" in shown
    first, second = json.loads(headend(*asked, "--json").stdout)
    assert (first["run"], second["run"]) == ("2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z")


def test_what_cannot_be_is_told_all_at_once(headend: Headend, tmp_path: Path) -> None:
    (tmp_path / "meters.csv").write_text("asset_id\nM1\nX7\n")
    wrong = said(
        headend("schedules", "add", "s", "--cron", "0 0 30 2 *", "--group", "g", "--meters-file",
                "meters.csv", "--model", "nokia", "--curves", "--deadline", "06:00", status=1)
    )  # fmt: skip
    for told in ("cron: '0 0 30 2 *': bad day-of-month", "selection.groups.0: no group 'g'",
                 "selection.meters.1: no meter 'X7'", "selection.models.0: no model 'nokia'"):  # fmt: skip
        assert told in wrong
    wrong = said(headend("schedules", "add", "s", "--every", "0", "--curves", "--deadline", "6:00", status=1))
    assert "every_min: " in wrong
    assert "deadline: '6:00' is neither" in wrong
    late = headend("schedules", "add", "s", "--cron", "0 1 * * *", "--opens", "07:00", "--curves",
                   "--deadline", "06:00", status=1)  # fmt: skip
    assert "window.opens: the window of the run at" in said(late)
    assert "nothing to read" in said(headend("schedules", "add", "s", "--every", "5", status=1))
    days = headend("schedules", "add", "s", "--every", "5", "--events", "--days", "3", status=1)
    assert "--curves" in said(days)
    assert json.loads(headend("schedules", "list", "--json").stdout) == []


def test_groups_come_and_go_as_files(headend: Headend, tmp_path: Path) -> None:
    assert "no groups" in said(headend("groups", "list"))
    (tmp_path / "some.csv").write_text("asset_id\nM1\nM2\nM3\n")
    made = headend("groups", "add", "homes", "M4", "--file", "some.csv", "--title", "Households")
    assert "homes has 4 meters" in said(made)
    assert "1 meters came into homes" in said(headend("groups", "put", "homes", "M5", "M4"))
    assert "2 meters went out of homes" in said(headend("groups", "take", "homes", "M5", "M4"))
    assert "no meter 'X'" in said(headend("groups", "put", "homes", "M6", "X", status=1))
    assert headend("groups", "export", "homes").stdout == "asset_id\nM1\nM2\nM3\n"
    headend("groups", "export", "homes", "out.csv")
    (tmp_path / "exact.csv").write_text("asset_id\nM3\nM9\n")
    assert "1 meters came, 2 went" in said(headend("groups", "import", "homes", "exact.csv"))
    assert "2 meters came, 1 went" in said(headend("groups", "import", "homes", "out.csv"))
    (tmp_path / "bad.csv").write_text("asset_id,colour\nM1,red\n")
    assert "line 1, colour: is no column" in said(headend("groups", "import", "homes", "bad.csv", status=1))
    shown = json.loads(headend("groups", "show", "homes", "--json").stdout)
    assert (shown["meters"], shown["members"]) == (3, ["M1", "M2", "M3"])
    assert "and 2 more" in said(headend("groups", "show", "homes", "--limit", "1"))
    headend("groups", "tag", "M1", "--set", "rate=1")
    meter = json.loads(headend("meters", "show", "M1", "--json").stdout)
    assert (meter["groups"], meter["tags"]) == (["homes"], ["rate=1"])
    headend("groups", "title", "homes", "Flats")
    assert "homes 3 Flats" in said(headend("groups", "list", "--meter", "M1")).replace("│ ", "")
    assert "no name of a group" in said(headend("groups", "add", "a/b", status=1))
    headend("groups", "remove", "homes")
    assert json.loads(headend("groups", "list", "--json").stdout) == []


def test_tags_are_set_in_bulk(headend: Headend) -> None:
    assert "4 tags" in said(headend("groups", "tag", "M1", "M2", "--set", "rate=1", "--set", "vip"))
    headend("groups", "tag", "M1", "--set", "rate=2", "--unset", "vip")
    assert json.loads(headend("groups", "tags", "--json").stdout) == [
        {"tag": "rate=1", "meters": 1}, {"tag": "rate=2", "meters": 1}, {"tag": "vip", "meters": 1},
    ]  # fmt: skip
    assert "nothing to do" in said(headend("groups", "tag", "M1", status=1))
    assert "key=value" in said(headend("groups", "tag", "M1", "--set", "=1", status=1))
    headend("schedules", "add", "s", "--every", "15", "--tag", "rate=2", "--curves", "--deadline", "10m")
    assert json.loads(headend("schedules", "run", "s", "--json").stdout)["requests"] == 1
