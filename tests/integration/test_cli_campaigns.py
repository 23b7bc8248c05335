"""headend campaign and headend approvals as people and scripts use them, at simulated meters."""

import asyncio
import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headend.approvals import four_eyes
from headend.cli.main import app
from headend.store import approvals
from schemas.people import Permission, Principal
from tests.integration.programs.field import works

Headend = Callable[..., Result]
BOB = Principal("bob", frozenset(Permission), account=2)


@pytest.fixture
def headend(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Headend:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)
    monkeypatch.setenv("HEADEND_FOUR_EYES", '["clock"]')
    (tmp_path / "clock.toml").write_text('kind = "clock"\nleave_s = 5\n')

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done

    return run


def said(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


async def test_a_campaign_from_proposal_to_report(
    headend: Headend, embedded_database: Any, tmp_path: Path
) -> None:
    async with works(embedded_database.dsn, meters=3) as here:
        first, second, _ = sorted(here.meters)

        async def cli(*arguments: str, status: int = 0) -> Result:
            return await asyncio.to_thread(headend, *arguments, status=status)

        (tmp_path / "none.toml").write_text("leave_s = 5\n")
        assert 'as in kind = "clock"' in said(
            await cli("campaign", "propose", "--program", "none.toml", status=1)
        )
        propose = ("campaign", "propose", "--program", "clock.toml")
        assert "--all-meters" in said(await cli(*propose, status=1))
        assert "no meter 'X'" in said(await cli(*propose, "--meter", "X", status=1))
        asked = (*propose, "--meter", first, "--meter", second, "--window", "00:00-23:59@UTC")
        waits = await cli(*asked, "--canaries", "1", "--waves", "50,50", "--title", "spring", status=3)
        assert "headend approvals approve 1" in said(waits)
        assert "nothing is sent before" in said(waits)
        assert here.rows("SELECT count(*) FROM requests") == [(0,)]
        for shown in (said(waits), said(await cli("approvals", "show", "1"))):
            for told in (
                "what clock: spring",
                "leave_s 5",
                "whom 2 meters",
                "canaries: 1, wave",
                "00:00-23:59 UTC",
                first,
                second,
            ):
                assert told in shown
        assert "spring" in said(await cli("approvals", "list"))

        digest = json.loads((await cli("approvals", "show", "1", "--json")).stdout)["digest"]
        alone = await cli("approvals", "approve", "1", "--digest", digest, status=1)
        assert "a person with an account" in said(alone)
        assert here.rows("SELECT count(*) FROM requests") == [(0,)]
        assert here.rows("SELECT action FROM audit_log ORDER BY audit_id DESC LIMIT 1") == [
            ("approval.refused",)
        ]

        async with here.house.base.pool.connection() as connection:
            found = await approvals.find(connection, 1)
        await four_eyes.decide(
            here.house.base.pool.connection, 1, BOB, approve=True, seen=found.digest, reason=None,
            now=datetime.now(UTC),
        )  # fmt: skip
        followed = said(await cli("campaign", "follow", "1"))
        assert "campaign 1 is done" in followed
        assert "unchanged" in followed
        listed = json.loads((await cli("campaign", "list", "--json")).stdout)
        assert [(one["campaign"], one["state"]) for one in listed] == [(1, "done")]
        assert "spring" in said(await cli("campaign", "show", "1", "--proofs"))
        one = json.loads((await cli("campaign", "show", "1", "--meter", first, "--json")).stdout)
        assert one["state"] == "unchanged"
        assert one["proof"]
        await cli("campaign", "report", "1", "--out", "report.csv")
        with (tmp_path / "report.csv").open(newline="") as reading:
            rows = list(csv.DictReader(reading))
        assert [(row["asset_id"], row["state"]) for row in rows] == [
            (first, "unchanged"), (second, "unchanged"),
        ]  # fmt: skip
        assert json.loads(rows[0]["proof"]) == one["proof"]


async def test_one_that_waits_is_ended_and_never_begins(headend: Headend, embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:

        async def cli(*arguments: str, status: int = 0) -> Result:
            return await asyncio.to_thread(headend, *arguments, status=status)

        await cli("campaign", "propose", "--program", "clock.toml", "--all-meters", status=3)
        assert "--reason" in said(await cli("campaign", "abort", "1", status=2))
        ended = await cli("campaign", "abort", "1", "--reason", "he has paid")
        assert "campaign 1 is aborted: he has paid" in said(ended)
        assert "nothing waits" in said(await cli("approvals", "list"))
        assert "void" in said(await cli("approvals", "list", "--all"))
        await cli("campaign", "resume", "1", "--reason", "again", status=1)
        assert here.rows("SELECT count(*) FROM requests") == [(0,)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--waves", "10,20"), "add up to 100"),
        (("--waves", "a"), "10,30,60"),
        (("--window", "22-05"), "22:00-05:00@Europe/Berlin"),
        (("--window", "22:00-05:00@Nowhere/Here"), "zone"),
        (("--starts", "2026-03-01"), "offset"),
    ],
)
def test_options_that_say_nothing_are_told(headend: Headend, options: tuple[str, ...], told: str) -> None:
    done = headend("campaign", "propose", "--program", "clock.toml", "--meter", "M", *options, status=1)
    assert told in said(done)
