"""headend stations: rounds on demand, told for people and for scripts."""

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from tests.integration.test_stations import MASTER_KEY, ROWS, Station, house_with


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["stations", *arguments])


@pytest.fixture
def environment(embedded_database: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", MASTER_KEY)
    monkeypatch.setenv("COLUMNS", "200")
    return str(embedded_database.dsn)


def test_without_concentrators_it_says_so(environment: str) -> None:
    async def migrate() -> None:
        station = Station()
        async with house_with(environment, station, network=False):
            pass

    asyncio.run(migrate())
    result = run()
    assert result.exit_code == 0
    assert "no concentrator" in result.stdout


async def test_a_round_is_told(environment: str) -> None:
    station = Station()
    async with house_with(environment, station):
        result = await asyncio.to_thread(run, "--json")
        assert result.exit_code == 0, result.output
        (told,) = json.loads(result.stdout)
        assert (told["station"], told["meters"], told["fetched"]) == ("DC-1", 3, 3 * ROWS)
        result = await asyncio.to_thread(run, "DC-1")
        assert result.exit_code == 0
        assert "DC-1" in result.stdout
    result = await asyncio.to_thread(run, "DC-1")  # nobody listens any more
    assert result.exit_code == 1
    assert "DC-1: " in result.stdout
