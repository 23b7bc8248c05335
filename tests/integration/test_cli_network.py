"""headend network and headend announcements as a person and as a script use them, on a real database."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from headend.cli.main import app
from headend.store import network
from headend.store.announcements import announce
from schemas.network import Announced, LinkKind

Headend = Callable[..., Result]

METERS = "asset_id,model\n" + "".join(f"M{n:03},generic-dlms\n" for n in range(60))
NETWORK = (
    "node,kind,parent,link,hops,quality,address,model,title\n"
    "S1,substation,,,,,,,North\n"
    "F1,feeder,S1,,,,,,\n"
    "T1,transformer,F1,,,,,,\n"
    "DC1,concentrator,T1,cellular,1,80,tcp://10.0.0.1,generic-dlms,Mill [red]Street\n"
    "DC2,concentrator,T1,cellular,1,20,tcp://10.0.0.2,generic-dlms,\n"
    + "".join(f"M{n:03},meter,DC1,plc_narrowband,{1 + n % 3},{n},,,\n" for n in range(59))
)


@pytest.fixture
def headend(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Headend:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    (tmp_path / "meters.csv").write_text(METERS)
    (tmp_path / "network.csv").write_text(NETWORK)

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done

    run("meters", "import", "meters.csv")
    return run


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_network_is_imported_shown_and_exported(headend: Headend, tmp_path: Path) -> None:
    assert "no nodes yet" in headend("network", "show").stdout
    dry = headend("network", "import", "network.csv", "--dry-run")
    assert "nothing is stored; would be: 64 nodes added" in said(dry)
    begins = "--since=2026-03-01T00:00:00Z"
    assert "64 nodes added, 0 moved" in said(headend("network", "import", "network.csv", begins))
    again = json.loads(headend("network", "import", "network.csv", "--json").stdout)
    assert again == {"added": 0, "moved": 0, "changed": 0, "unchanged": 64, "errors": []}
    whole = said(headend("network", "show"))
    assert "S1 substation North 1 feeder, 1 transformer, 2 concentrators, 59 meters" in whole
    assert "DC1" not in whole
    assert "1 meters have no place in the network" in whole
    one = said(headend("network", "show", "DC1", "--most", "5"))
    assert "DC1 concentrator Mill [red]Street generic-dlms tcp://10.0.0.1:4059 cellular 80 % 59 meters" in one
    assert "M002 plc_narrowband 3 hops 2 %" in one
    assert "... and 54 meters more" in one
    assert "M005" not in one
    (tree,) = json.loads(headend("network", "show", "F1", "--depth", "3", "--json").stdout)
    assert tree["below"] == {"transformer": 1, "concentrator": 2, "meter": 59}
    assert len(tree["children"][0]["children"][0]["children"]) == 59
    assert "no node 'X'" in said(headend("network", "show", "X", status=1))
    headend("network", "export", "out.csv")
    assert (tmp_path / "out.csv").read_text() == headend("network", "export").stdout
    assert "64 unchanged" in said(headend("network", "import", "out.csv"))


def test_errors_of_a_file_are_told_by_line(headend: Headend, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("node,kind,parent,colour\n")
    assert "bad.csv: line 1, colour: is no column" in said(headend("network", "import", "bad.csv", status=1))
    (tmp_path / "bad.csv").write_text("node,kind,parent\nT1,lake,\nM999,meter,T1\n")
    text = said(headend("network", "import", "bad.csv", status=1))
    assert "bad.csv: line 2, kind: must be one of" in text
    assert "bad.csv: line 3, node: there is no such meter" in text
    assert "2 errors; nothing was imported" in text


def test_a_meter_moves_and_keeps_its_past(headend: Headend) -> None:
    headend("network", "import", "network.csv", "--since", "2026-03-01T00:00:00Z")
    moved = headend(
        "network", "move", "M001", "DC2", "--link", "plc_broadband", "--since", "2026-03-02T00:00:00Z"
    )
    assert "M001 is below DC2 since 2026-03-02 00:00:00Z, before DC1" in said(moved)
    shown = json.loads(headend("meters", "show", "M001", "--json").stdout)
    assert (shown["station"], shown["link"], shown["hops"]) == ("DC2", "plc_broadband", 1)
    past = json.loads(headend("network", "history", "M001", "--json").stdout)
    assert [(one["parent"], one["link"], one["from"], one["to"]) for one in past] == [
        ("DC1", "plc_narrowband", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"),
        ("DC2", "plc_broadband", "2026-03-02T00:00:00Z", None),
    ]
    assert "plc_broadband" in headend("network", "history", "M001").stdout
    refused = headend("network", "move", "DC1", "M001", status=1)
    assert "a concentrator does not stand below a meter" in said(refused)


def test_announced_devices_are_decided(headend: Headend, embedded_database: Any) -> None:
    headend("network", "import", "network.csv", "--since", "2026-03-01T00:00:00Z")
    assert said(headend("announcements", "list")).strip() == "no device waits to be decided on"
    assert said(headend("events")).strip() == "no event of that kind is stored"

    async def tell() -> None:
        async with await psycopg.AsyncConnection.connect(embedded_database.dsn) as connection:
            station = (await network.stations(connection))[1]
            told = [
                Announced(f"X{n}", "generic-dlms", f"via:?gateway=0:0{n}", LinkKind.PLC_NARROWBAND)
                for n in range(4)
            ]
            await announce(connection, station.node_id, told, now=datetime.now(UTC), most=3)

    asyncio.run(tell())
    assert "DC2: 1 more found no room" in said(headend("announcements", "list"))
    waiting = json.loads(headend("announcements", "list", "--json", "--station", "DC2").stdout)
    numbers = [str(one["number"]) for one in waiting]
    done = said(headend("announcements", "accept", *numbers[:2], "--state", "commissioned"))
    assert "X0 is a meter: generic-dlms, commissioned, via:?gateway=0:00" in done
    assert "X2 is rejected" in said(headend("announcements", "reject", numbers[2]))
    assert json.loads(headend("announcements", "list", "--json").stdout) == []
    gone = json.loads(headend("announcements", "list", "--state", "rejected", "--json").stdout)
    assert [one["identity"] for one in gone] == ["X2"]
    assert json.loads(headend("meters", "show", "X1", "--json").stdout)["transformer"] == "T1"
    twice = headend("announcements", "accept", numbers[2], numbers[0], status=1)
    assert f"announcement {numbers[0]} was accepted as meter X0" in said(twice)
    assert json.loads(headend("announcements", "list", "--state", "rejected", "--json").stdout) == gone
    for wrong in (["--asset-id", "A"], ["--address", "inbound:"], ["--state", "removed"]):
        headend("announcements", "accept", *numbers, *wrong, status=1)
    assert "announcement 999" in said(headend("announcements", "reject", "999", status=1))
