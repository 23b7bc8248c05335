"""The command itself, as a process where signals matter."""

import csv
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections import Counter

import pytest
from typer.testing import CliRunner

from concentrator_sim.cli import app
from concentrator_sim.field import Field
from concentrator_sim.generator import Consumption
from concentrator_sim.network_file import network_csv
from concentrator_sim.scenario import find_scenario, load_scenario

COMMAND = [sys.executable, "-c", "from concentrator_sim.cli import app; app()"]
runner = CliRunner()


def serve(*options):
    return subprocess.Popen(
        [*COMMAND, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_ready_and_stops_on_a_signal(tmp_path, number):
    path = tmp_path / "meters.csv"
    process = serve("--meters", "20", "--base-port", "0", "--mix", "demo", "--write-meters", str(path))
    try:
        ready = json.loads(process.stdout.readline())
        assert (ready["event"], ready["meters"], ready["pid"]) == ("ready", 20, process.pid)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert len(rows) == 20
        port = int(rows[0]["address"].rpartition(":")[2])
        assert port == ready["first_port"]
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert json.loads(out)["event"] == "ended"
    finally:
        process.kill()
        process.wait()


def test_serve_for_some_seconds():
    done = subprocess.run(
        [*COMMAND, "serve", "--meters", "1", "--base-port", "0", "--for", "0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    ready, ended = map(json.loads, done.stdout.splitlines())
    assert (ready["meters"], ended["images"]["blocks"]) == (1, 0)


def test_a_taken_port_is_one_line_and_a_status():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = runner.invoke(app, ["serve", "--meters", "1", "--base-port", str(port)])
    assert result.exit_code == 2
    assert "in use" in result.stderr
    assert result.stderr.count("\n") == 1


def test_show_tells_the_truth():
    options = [
        "show",
        "SIM000070000003",
        "--from",
        "2026-11-01T00:00:00Z",
        "--to",
        "2026-11-01T02:00:00+01:00",
    ]
    result = runner.invoke(app, [*options, "--json"])
    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert told["meter"] == "SIM000070000003"
    assert [row["stamp"] for row in told["rows"]][::4] == ["2026-11-01T00:00:00Z", "2026-11-01T01:00:00Z"]
    truth = Consumption(7, 3)
    assert told["rows"][0] == {
        "stamp": "2026-11-01T00:00:00Z",
        **{f"{n + 1}.8.0": truth.at(n, 1_793_491_200) for n in range(4)},
    }
    table = runner.invoke(app, options).stdout
    assert str(truth.at(0, 1_793_491_200)) in table
    assert len(table.splitlines()) == 2 + 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["show", "x"], "no serial number"),
        (["show", "0"], "no serial number"),
        (["show", "1", "--from", "yesterday"], "no time"),
        (["show", "1", "--from", "2026-11-01T00:00:00"], "no offset"),
        (["show", "1", "--from", "1999-11-01T00:00:00Z"], "2020 to 2069"),
        (["serve", "--now", "2026-10-24"], "no offset"),
        (["serve", "--now", "2096-10-24T00:00:00Z"], "2020 to 2069"),
        (["serve", "--mix", "x"], "must be one of"),
        (["serve", "--meters", "0"], "meters"),
    ],
)
def test_mistakes_are_told_in_one_line(options, says):
    result = runner.invoke(app, options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_tree_of_a_scenario():
    result = runner.invoke(app, ["tree", "--scenario", "demo"])
    assert result.exit_code == 0
    for told in ("SS01", "FD002", "TR0001", "DC-0001", "plc_narrowband", "SIM000011000001"):
        assert told in result.stdout
    short = runner.invoke(app, ["tree", "--scenario", "demo", "--depth", "2"]).stdout
    assert "FD002" in short
    assert "TR0001" not in short
    assert runner.invoke(app, ["tree"]).exit_code == 2


@pytest.mark.parametrize("name", ["demo", "lossy", "direct", "mixed"])
def test_packaged_scenarios_say_the_same_twice(tmp_path, name):
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for file in files:
        options = ["tree", "--scenario", name, "--depth", "1", "--write-network", str(file)]
        assert runner.invoke(app, options).exit_code == 0
    first, second = (file.read_text() for file in files)
    assert first == second
    rows = list(csv.DictReader(first.splitlines()))
    seen = set()
    for row in rows:
        assert not row["parent"] or row["parent"] in seen
        seen.add(row["node"])
    assert len(seen) == len(rows)
    if name in ("direct", "mixed"):
        kinds = Counter(row["kind"] for row in rows)
        assert (kinds["substation"], kinds["feeder"], kinds["meter"]) == (15, 110, 154_000)


def test_parts_are_served_side_by_side_and_their_files_make_the_whole(tmp_path):
    whole = Field(load_scenario(find_scenario("direct"), meters=700, base_port=0))
    processes, meters, nodes, told = [], [], [], []
    try:
        for n in (1, 2):
            files = [tmp_path / f"meters{n}.csv", tmp_path / f"network{n}.csv"]
            options = ["--meters", "700", "--base-port", "0", "--part", f"{n}/2"]
            paths = ["--write-meters", str(files[0]), "--write-network", str(files[1])]
            processes.append(serve("--scenario", "direct", *options, *paths))
            told.append(json.loads(processes[-1].stdout.readline()))
            meters += csv.DictReader(files[0].read_text().splitlines())
            nodes += csv.DictReader(files[1].read_text().splitlines())
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [one["part"] for one in told] == ["1/2", "2/2"]
    assert all(one["meters"] and one["stations"] for one in told)
    assert sum(one["meters"] + one["below_stations"] for one in told) == 700 == len(meters)
    assert {row["asset_id"] for row in meters} == {row["asset_id"] for row in rows_of(whole.csv())}
    assert {row["node"]: row["parent"] for row in nodes} == {
        row["node"]: row["parent"] for row in rows_of(network_csv(whole))
    }
    answering = [row["address"] for row in meters if row["address"].startswith("tcp:")]
    answering += [row["address"] for row in nodes if row["address"]]
    assert len(set(answering)) == len(answering) == len(whole.meters) + len(whole.stations)


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "-1/2", "a/b"])
def test_what_is_no_part_is_refused(text):
    result = runner.invoke(app, ["serve", "--part", text])
    assert result.exit_code == 2
    assert "is no part" in result.stderr


def test_an_unknown_scenario_is_told():
    result = runner.invoke(app, ["tree", "--scenario", "atlantis"])
    assert result.exit_code == 2
    assert "demo, direct, lossy, mixed" in result.stderr


def test_a_person_is_told_what_is_served():
    from concentrator_sim.cli import _summary
    from concentrator_sim.field import Field
    from concentrator_sim.scenario import make_scenario

    told = _summary(Field(make_scenario({"meters": 20, "mix": "demo"})))
    assert told.startswith("20 meters: 9 hls5 over wrapper, ")
    assert "1 hls5-suite2 over wrapper" in told


def test_the_keys_file_is_replaced_whole(tmp_path):
    from concentrator_sim.cli import _write_private

    path = tmp_path / "meters.csv"
    path.write_text("old")
    os.chmod(path, 0o644)  # noqa: PTH101
    _write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
