"""`headend read` of a meter on a serial line: command, session, HDLC, pseudo-terminal, simulated meter."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from typer.testing import CliRunner

from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario
from headend.cli.main import app


@pytest.fixture
def field() -> Iterator[Field]:
    """One meter on a pseudo-terminal, served by a loop of its own."""
    made: list[Field] = []
    ready, stop = threading.Event(), []

    async def serve() -> None:
        over = asyncio.Event()
        stop.append((asyncio.get_running_loop(), over))
        settings = {"base_port": 0, "meters": 1, "security": "hls5", "framing": "serial"}
        async with Field(make_scenario(settings)) as field:
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


def test_everything_that_a_meter_tells_over_a_serial_line(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: Field
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)

    def headend(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, done.output
        return done.output

    (tmp_path / "field.csv").write_text(field.csv())
    assert ",hdlc+serial:///" in field.csv()
    headend("meters", "import", "field.csv", "--allow-plain-keys", "--since", "2026-01-01T00:00:00Z")
    meter = field.meters[0].meter
    codes = {
        "1-0:1.8.0*255": 1,  # register
        "1-0:1.6.0*255": 1,  # extended register
        "1-0:1.4.0*255": 2,  # demand register: current and last average
        "0-0:1.0.0*255": 1,  # clock
        "0-0:42.0.0*255": 1,  # data
        "0-0:41.0.0*255": 1,  # SAP assignment
        "0-0:43.0.0*255": 4,  # security setup
    }
    options = [word for code in codes for word in ("--obis", code)]
    told = json.loads(headend("read", meter.serial, *options, "--json"))
    found = [one["obis"] for one in told["registers"]]
    assert {code: found.count(code) for code in codes} == codes
    by_code = {one["obis"]: one for one in reversed(told["registers"])}
    assert by_code["0-0:42.0.0*255"]["text"] == meter.name
    assert by_code["0-0:41.0.0*255"]["text"] == f"1 {meter.name}"
    assert by_code["0-0:43.0.0*255"]["text"].startswith("authenticated request, encrypted request")
    titles = [one["text"] for one in told["registers"] if one["obis"] == "0-0:43.0.0*255"]
    assert titles[3] == meter.system_title.hex().upper()
    done = json.loads(headend("collect", meter.serial, "--days", "2", "--json"))
    assert (done["due"], done["read"]) == (1, 1)
    assert done["intervals"] > 180
