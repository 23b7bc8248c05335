"""The commands as a person and as a script use them, on a real database."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from typer.testing import CliRunner, Result

from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario
from headend.cli.main import app

Headend = Callable[..., Result]


@pytest.fixture
def headend(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Headend:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)
    monkeypatch.setenv("HEADEND_READ_ATTEMPTS", "1")

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done

    return run


def told(result: Result) -> str:
    """Standard error as one line: nobody counts where the terminal breaks it."""
    return " ".join(result.stderr.split())


def told_out(result: Result) -> str:
    return " ".join(result.stdout.split())


@pytest.fixture
def field() -> Iterator[Field]:
    """Two meters over the wrapper and HDLC, served by a loop of their own."""
    made: list[Field] = []
    ready, stop = threading.Event(), []

    async def serve() -> None:
        over = asyncio.Event()
        stop.append((asyncio.get_running_loop(), over))
        async with Field(make_scenario({"base_port": 0, "meters": 2, "security": "hls5"})) as field:
            made.append(field)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    assert ready.wait(20)
    yield made[0]
    loop, over = stop[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(20)


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def meters_file(tmp_path: Path) -> str:
    return write(
        tmp_path / "meters.csv",
        "asset_id,model,address,feeder,point,state",
        f"A1,generic-dlms,tcp://127.0.0.1:{closed_port()},F1,P1,commissioned",
        "A2,generic-dlms,,F1,,received",
    )


def test_help_tells_every_command(headend: Headend) -> None:
    words = headend("--help").output.split()
    for command in (
        "run",
        "read",
        "collect",
        "decode",
        "meters",
        "points",
        "readings",
        "inbox",
        "token",
        "keys",
        "db",
    ):
        assert command in words
    for command in ("meters", "points", "readings", "inbox", "token", "keys", "db"):
        assert "Usage" in headend(command, "--help").output


def test_meters_are_imported_listed_shown_and_moved(headend: Headend, tmp_path: Path) -> None:
    file = meters_file(tmp_path)
    assert "2 meters added, 0 unchanged" in headend("meters", "import", file).output
    assert json.loads(headend("meters", "import", file, "--json").output)["unchanged"] == ["A1", "A2"]
    listed = json.loads(headend("meters", "list", "--feeder", "F1", "--json").output)
    assert [meter["asset_id"] for meter in listed] == ["A1", "A2"]
    assert "A1" in headend("meters", "list", "--state", "commissioned").output
    shown = json.loads(headend("meters", "show", "A1", "--json").output)
    assert (shown["point"], shown["state"]) == ("P1", "commissioned")
    assert "A2 is installed" in headend("meters", "state", "A2", "installed").output
    refused = headend("meters", "state", "A2", "suspended", status=1)
    assert "an installed meter cannot become suspended" in told(refused).replace(
        "a installed", "an installed"
    )


def test_errors_of_an_import_name_line_and_column(headend: Headend, tmp_path: Path) -> None:
    file = write(tmp_path / "bad.csv", "asset_id,model", "A1,generic-dlms", "A2,no-such-model")
    done = headend("meters", "import", file, status=1)
    assert "nothing was imported" in told(done)
    assert "model" in told(done)
    errors = json.loads(headend("meters", "import", file, "--json", status=1).output)["errors"]
    assert [(one["line"], one["column"]) for one in errors] == [(3, "model")]
    assert json.loads(headend("meters", "list", "--json").output) == []


def test_a_meter_is_exchanged_at_its_point(headend: Headend, tmp_path: Path) -> None:
    headend("meters", "import", meters_file(tmp_path), "--since", "2026-01-01T00:00:00Z")
    headend(
        "meters", "exchange", "A1", "A2", "--at", "2026-02-01T10:00:00+01:00",
        "--removed", "1.8.0=12345.678", "--started", "1.8.0=0",
    )  # fmt: skip
    first, second = json.loads(headend("points", "show", "P1", "--json").output)["installations"]
    assert (first["meter"], first["to"]) == ("A1", "2026-02-01T09:00:00Z")
    assert first["removal_readings"] == {"1-0:1.8.0*255": "12345.678"}
    assert (second["meter"], second["from"], second["to"]) == ("A2", "2026-02-01T09:00:00Z", None)
    assert second["start_readings"] == {"1-0:1.8.0*255": "0"}
    again = headend("meters", "exchange", "A1", "A2", status=1)
    assert "no open installation" in told(again)


def test_points_have_ratios(headend: Headend, tmp_path: Path) -> None:
    headend("meters", "import", meters_file(tmp_path))
    headend("points", "install", "P2", "A2", "--reading", "1.8.0=7")
    assert headend("points", "list").output.split() == ["P1", "P2"]
    headend("points", "ratio", "P2", "--ct", "200/5", "--since", "2026-03-01T00:00:00Z")
    (ratio,) = json.loads(headend("points", "show", "P2", "--json").output)["ratios"]
    assert (ratio["ct"], ratio["vt"], ratio["to"]) == ("200/5", "1/1", None)
    assert "CT 200/5" in headend("points", "show", "P2").output
    assert "greater than 0" in told(headend("points", "ratio", "P2", "--ct", "0", status=1))
    assert "no decimal number" in told(headend("points", "ratio", "P2", "--ct", "x/5", status=1))
    assert "'1.8.0'" in told(headend("points", "install", "P3", "A1", "--reading", "1.8.0", status=1))
    assert "no metering point 'P9'" in told(headend("points", "show", "P9", status=1))


def test_readings_of_people_are_stored_once_and_conflicts_go_to_the_inbox(
    headend: Headend, tmp_path: Path
) -> None:
    headend("meters", "import", meters_file(tmp_path))
    lines = ("asset_id,obis,time,value,unit", "A1,1.8.0,2026-02-01T07:30+01:00,12345.6,kWh")
    file = write(tmp_path / "readings.csv", *lines)
    assert json.loads(headend("readings", "import", file, "--json").output)["stored"] == 1
    assert "0 readings stored, 1 were there" in headend("readings", "import", file, "--handheld").output
    other = write(tmp_path / "other.csv", lines[0], lines[1].replace("12345.6", "99"))
    assert "headend inbox list" in headend("readings", "import", other).output
    (entry,) = json.loads(headend("inbox", "list", "--json").output)
    assert "another value is stored" in entry["reason"]
    assert bytes.fromhex(entry["payload"])
    headend("inbox", "resolve", str(entry["number"]))
    assert json.loads(headend("inbox", "list", "--json").output) == []
    bad = write(tmp_path / "bad.csv", lines[0], "A1,1.8.0,2026-02-01T07:30,1,kWh")
    assert "nothing was imported" in told(headend("readings", "import", bad, status=1))


def test_tokens_are_made_listed_and_revoked(headend: Headend) -> None:
    made = json.loads(
        headend("token", "create", "billing", "--scope", "read", "--days", "30", "--json").output
    )
    assert made["secret"].startswith("hdnd_")
    plain = headend("token", "create", "console")
    assert plain.stdout.strip().startswith("hdnd_")  # the secret alone, for a script to take
    listed = headend("token", "list", "--json").output
    assert "secret" not in listed
    assert [one["name"] for one in json.loads(listed)] == ["billing", "console"]
    assert "revoked" in headend("token", "revoke", str(made["number"])).output
    assert "no token number 99" in told(headend("token", "revoke", "99", status=1))


def test_a_new_master_key_seals_what_the_old_one_did(
    headend: Headend, field: Field, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = write(tmp_path / "field.csv", field.csv())
    headend("meters", "import", file, "--allow-plain-keys", "--since", "2026-01-01T00:00:00Z")
    monkeypatch.setenv("HEADEND_MASTER_KEY", "43" * 32)
    assert "give it as former_master_keys" in told(headend("keys", "rotate-master", status=1))
    monkeypatch.setenv("HEADEND_FORMER_MASTER_KEYS", "42" * 32)
    done = json.loads(headend("keys", "rotate-master", "--json").output)
    assert done["resealed"] > 0
    assert f"0 keys sealed anew; all are under master key {done['master_key']}" in told_out(
        headend("keys", "rotate-master")
    )
    monkeypatch.delenv("HEADEND_FORMER_MASTER_KEYS")
    headend("read", field.meters[0].meter.serial, "--obis", "1.8.0")  # the new key alone opens them


def test_a_data_folder_that_cannot_be_made_is_told_with_its_setting(
    headend: Headend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HEADEND_MASTER_KEY")
    monkeypatch.setenv("HEADEND_DATA_DIR", write(tmp_path / "file", "in the way") + "/data")
    done = told(headend("run", "--demo", "--port", "0", status=1))
    assert "cannot be written: Not a directory; HEADEND_DATA_DIR names another" in done


def test_counters_are_raised_only_on_purpose(headend: Headend, field: Field, tmp_path: Path) -> None:
    file = write(tmp_path / "field.csv", field.csv())
    headend("meters", "import", file, "--allow-plain-keys", "--since", "2026-01-01T00:00:00Z")
    serial = field.meters[0].meter.serial
    headend("read", serial, "--obis", "1.8.0")
    assert "stop the service, then repeat it with --yes" in told(headend("keys", "raise-counters", status=1))
    done = json.loads(headend("keys", "raise-counters", "--by", "1000000", "--yes", "--json").output)
    assert done["by"] == 1_000_000
    assert done["counters"] > 0
    moved = headend("keys", "raise-counters", "--by", "5", "--yes")
    assert f"{done['counters']} counters moved on by 5" in told_out(moved)
    headend("read", serial, "--obis", "1.8.0")  # a meter takes what is greater
    headend("keys", "raise-counters", "--by", "0", "--yes", status=2)


def test_the_database_tells_where_it_stands(headend: Headend) -> None:
    assert all(one["applied_at"] for one in json.loads(headend("db", "status", "--json").output))
    assert "is up to date" in headend("db", "migrate").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["meters", "show", "nobody"], "no meter 'nobody'"),
        (["read", "nobody"], "no meter has the asset id 'nobody'"),
        (["read", "A1", "--from", "yesterday"], "--from: 'yesterday' is no RFC 3339 time"),
        (["read", "A1", "--from", "2026-03-01T00:00:00"], "no offset from UTC: add Z"),
        (["read", "A1", "--to", "2026-03-01T00:00:00Z"], "--to needs --from"),
        (["read", "A1", "--obis", "1.8.x"], "--obis: not an OBIS code: '1.8.x'"),
        (["collect", "--from", "2026-03-02T00:00:00Z", "--to", "2026-03-01T00:00:00Z"], "--to must be later"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(headend: Headend, arguments: list[str], said: str) -> None:
    done = headend(*arguments, status=1)
    assert said in told(done)
    assert "Traceback" not in done.output


def test_a_meter_that_cannot_be_reached_is_the_links_fault(headend: Headend, tmp_path: Path) -> None:
    headend("meters", "import", meters_file(tmp_path))
    done = told(headend("read", "A1", status=1))
    assert "A1 at tcp://127.0.0.1:" in done
    assert "connect:" in done
    assert "fault: link; is it reachable" in done
    failed = json.loads(headend("collect", "--json", status=1).output)
    assert (failed["due"], failed["failed"], failed["failures"][0]["stage"]) == (1, 1, "connect")
    assert "failed 1 x" in headend("collect", status=1).output


def test_a_defect_is_told_in_one_line_and_whole_with_debug(
    headend: Headend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("inner")

    monkeypatch.setattr("headend.store.tokens.list_all", broken)
    done = headend("token", "list", status=70)
    assert "headend: a defect of ours: KeyError: 'inner'" in told(done)
    assert "Traceback" not in done.output
    assert "Traceback" in headend("--debug", "token", "list", status=70).output


def test_a_wrong_setting_is_named_without_its_value(
    headend: Headend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_API_PORT", "ninety")
    done = told(headend("meters", "list", status=1))
    assert "HEADEND_API_PORT" in done
    assert "ninety" not in done


def test_a_meter_is_read_now(headend: Headend, field: Field, tmp_path: Path) -> None:
    file = tmp_path / "field.csv"
    file.write_text(field.csv())
    headend("meters", "import", str(file), "--allow-plain-keys", "--since", "2026-01-01T00:00:00Z")
    serial = field.meters[0].meter.serial
    day = ("--from", "2026-03-01T00:00:00Z", "--to", "2026-03-01T01:00:00Z")
    read = json.loads(headend("read", serial, "--obis", "1.8.0", *day, "--json").output)
    assert [one["obis"] for one in read["registers"]] == ["1-0:1.8.0*255"]
    assert len(read["intervals"]) in (0, 4)  # as far back as the meter remembers
    assert (read["state"], read["attempts"]) == ("done", 1)
    table = headend("read", serial).output
    assert "1-0:4.8.0*255" in table
    assert "varh" in table
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    curve = headend("read", serial, "--obis", "1.8.0", "--from", since).output
    assert "end of interval" in curve
    assert "active import" in curve
    assert "measured" in curve
    assert "varh" in curve  # nobody guesses units
    other = field.meters[1].meter.serial
    chosen = tmp_path / "chosen.txt"
    chosen.write_text(f"# two\n{serial}\n{other}  # the second\n")
    both = json.loads(headend("read", "--file", str(chosen), "--obis", "1.8.0", "--json").output)
    assert sorted(one["meter"] for one in both["results"]) == sorted([serial, other])
    listed = json.loads(headend("jobs", "list", "--json").output)
    assert listed[0]["job"] == both["job"]
    assert (listed[0]["state"], listed[0]["counts"]["done"]) == ("ended", 2)
    shown = headend("jobs", "show", str(both["job"])).output
    assert f"{other}  1 registers" in shown
    followed = headend("jobs", "follow", str(both["job"])).output
    assert "2 of 2 done" in followed
    assert "nothing of job" in headend("jobs", "cancel", str(both["job"])).output
    chosen.write_text(f"{serial}\n\nM-9\n")
    unknown = told(headend("read", "--file", str(chosen), status=1))
    assert "chosen.txt:3: no meter has the asset id 'M-9'" in unknown
    assert json.loads(headend("jobs", "list", "--json").output)[0]["job"] == both["job"], "nothing was begun"
    refused = headend("read", serial, "--obis", "1-0:99.99.99*255", status=1)
    assert "1-0:99.99.99*255: " in refused.output
    done = json.loads(headend("collect", serial, "--days", "1", "--json").output)
    assert (done["due"], done["read"]) == (1, 1)
    assert done["intervals"] > 90
