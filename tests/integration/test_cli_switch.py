"""headend switch as people use it, at simulated meters: where breakers stand, and what is to be approved."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from concentrator_sim.breaker import Breaker
from headend.cli.main import app
from tests.integration.programs.field import works

Headend = Callable[..., Result]


@pytest.fixture
def headend(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Headend:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)
    monkeypatch.setenv("HEADEND_DISCONNECTIONS_PER_HOUR", "1")

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done

    return run


def said(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


async def _apart(*arguments: str, status: int = 0) -> str:
    """In a process of its own: what follows a read listens for Ctrl-C, which a thread cannot."""
    call = "from headend.cli.main import app; app(prog_name='headend')"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", call, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    assert process.returncode == status, told.decode()
    return " ".join(told.decode().split())


async def test_breakers_are_read_when_asked(headend: Headend, embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=2) as here:
        first, second = sorted(here.meters, key=lambda name: here.meters[name])
        stored = ("switch", "state", first, "--stored")
        assert "its breaker was never read" in said(await asyncio.to_thread(headend, *stored))
        told = await _apart("switch", "state", first, second)
        assert f"{first}: connected (control: connected, mode 2), read " in told
        assert f"{second}: connected" in told
        breaker = here.simulated().part(Breaker)
        breaker.output = False  # by hand, at the meter
        (known,) = json.loads((await asyncio.to_thread(headend, *stored, "--json")).stdout)
        assert known["state"]["output"] is True

        # one without a breaker, one that only pushes, and nobody's name: the rest is shown all the same
        with psycopg.connect(embedded_database.dsn, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO meters (asset_id, model, address) SELECT 'PLAIN', 'generic-dlms', address"
                "  FROM meters WHERE asset_id = %s",
                (first,),
            )
            connection.execute("INSERT INTO meters (asset_id, model) VALUES ('PUSHER', 'generic-dlms')")
            connection.execute("INSERT INTO meter_states SELECT meter_id, 'commissioned', now() FROM meters")
        some = await _apart("switch", "state", first, "PLAIN", "PUSHER", "NOBODY", status=1)
        assert f"{first}: not connected" in some
        assert "PLAIN: meters of model generic-dlms have no breaker" in some
        assert "PUSHER: it has no address: it only pushes" in some
        assert "NOBODY" in some
        (now,) = json.loads((await asyncio.to_thread(headend, *stored, "--json")).stdout)
        assert (now["state"]["output"], now["failure"]) == (False, None)
        assert now["state"]["read_at"] > known["state"]["read_at"]
        assert breaker.moves == 0, "nothing is switched"
        assert here.rows("SELECT count(*) FROM switch_states") == [(2,)]


async def test_a_mass_disconnection_is_told_beside_its_campaign(
    headend: Headend, embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = ("switch", "disconnect", "--reason", "arrears", "--no-follow")
    async with works(embedded_database.dsn, meters=2, working=False) as here:
        names = sorted(here.meters)

        async def cli(*arguments: str, status: int = 0) -> Result:
            return await asyncio.to_thread(headend, *arguments, status=status)

        monkeypatch.setenv("HEADEND_FOUR_EYES", '["switch"]')
        both = said(await cli(*off, *names, status=3))
        assert "nothing is sent before: headend approvals approve 1" in both
        assert "no more than 1 customers are disconnected within an hour" in both
        assert "headend approvals approve 2" in both
        await cli("campaign", "abort", "1", "--reason", "once more")
        told = json.loads((await cli(*off, *names, "--json", status=3)).stdout)
        assert told["mass_approval"]["subject"] == "mass-disconnection:2"
        assert told["approval"]["subject"] == "campaign:2"
        await cli("campaign", "abort", "2", "--reason", "once more")
        monkeypatch.setenv("HEADEND_FOUR_EYES", "[]")
        mass = json.loads((await cli(*off, *names, "--json")).stdout)
        assert (mass["approval"], mass["mass_approval"]["subject"]) == (None, "mass-disconnection:3")
        await cli("campaign", "abort", "3", "--reason", "once more")
        one = json.loads((await cli(*off, names[0], "--json")).stdout)
        assert (one["approval"], one["mass_approval"]) == (None, None)
