"""An operator alone tries to disconnect, by API and by command line: refused, audited, and nothing is sent.

The same operator with a second person: the customer is switched off, once, with proof.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from api.app import create_app
from api.services import Services
from concentrator_sim.breaker import Breaker
from headend.approvals.policy import Policy
from headend.cli.main import app
from headend.clock import utc_now
from headend.moment.moment import Moment
from headend.people.identity import host_actor
from headend.people.login import log_in
from headend.store.sessions import SessionKind
from schemas.config import load_settings
from tests.integration.people import PASSWORD, account, ask, people
from tests.integration.programs.field import Works, works

Headend = Callable[..., Result]
SWITCH = {"kind": "switch", "action": "disconnect", "reason": "arrears"}


@pytest.fixture
def headend(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Headend:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)
    monkeypatch.setenv("HEADEND_SECOND_FACTOR_ROLES", "[]")

    def run(*arguments: str, status: int = 0, typed: str | None = None) -> Result:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"}, input=typed)
        assert done.exit_code == status, done.output
        return done

    return run


def said(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


def refusals(here: Works) -> list[tuple[str, str]]:
    rows = here.rows(
        "SELECT actor, detail->>'why' FROM audit_log WHERE action = 'approval.refused' ORDER BY audit_id"
    )
    return [(actor, why) for actor, why in rows]


async def test_an_operator_alone_cannot_disconnect(headend: Headend, embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        (meter,) = here.meters
        pool, settings = here.house.base.pool, load_settings()
        who = people()
        for login in ("alice", "bob"):
            await account(pool, who, login, "operator")

        def untouched() -> bool:
            breaker = here.simulated().part(Breaker)
            counted = here.rows("SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM switchings)")
            return breaker.output and breaker.moves == 0 and counted == [(0, 0)]

        # ---- by API
        issued = await log_in(pool.connection, who, ask("alice", kind=SessionKind.CLI), now=utc_now())
        services = Services(
            pool, Moment.of(pool, settings, None, utc_now), people=who, policy=Policy.of(settings),
            procedures=here.house.procedures,
        )  # fmt: skip
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(services)), base_url="http://headend",
            headers={"Authorization": f"Bearer {issued.secret}"},
        ) as api:  # fmt: skip
            plan = {"selection": {"meters": [meter]}, "urgent": True}
            made = await api.post(
                "/api/v1/campaigns", json={"title": "arrears", "program": SWITCH, "plan": plan}
            )
            assert (made.status_code, made.json()["state"]) == (201, "proposed"), made.text
            approval = made.json()["approval"]
            alone = await api.post(
                f"/api/v1/approvals/{approval['id']}/approve", json={"digest": approval["digest"]}
            )
            assert (alone.status_code, alone.json()["type"]) == (403, "/problems/four-eyes"), alone.text
            assert "another person with the permission has to" in alone.json()["detail"]
            await here.advance(made.json()["id"])
            assert untouched()
            ((actor, why),) = refusals(here)
            assert actor.endswith("alice")
            assert "who asked for it cannot approve it" in why
            ended = await api.post(f"/api/v1/campaigns/{made.json()['id']}/abort", json={"reason": "anew"})
            assert ended.json()["state"] == "aborted"

        # ---- by command line
        async def cli(*arguments: str, **options: Any) -> Result:
            return await asyncio.to_thread(headend, *arguments, **options)

        await cli("login", "alice", "--password-stdin", typed=f"{PASSWORD}\n")
        waits = await cli("switch", "disconnect", meter, "--reason", "arrears", status=3)
        assert "nothing is sent before" in said(waits)
        number = json.loads((await cli("approvals", "list", "--json")).stdout)[0]["approval"]
        show = json.loads((await cli("approvals", "show", str(number), "--json")).stdout)
        decide = ("approvals", "approve", str(number), "--digest", show["digest"])
        assert "who asked for it cannot approve it" in said(await cli(*decide, status=1))
        assert "who asked for it" in said(await cli(*decide[:3], status=1)), "nothing is asked of him"
        await cli("logout")
        assert "a person with an account" in said(await cli(*decide, status=1))
        campaign = int(show["subject"].partition(":")[2])
        await here.advance(campaign)
        assert untouched()
        assert [actor.split()[-1] for actor, _ in refusals(here)] == ["alice", "alice", "alice", host_actor()]

        # ---- with a second person
        await cli("login", "bob", "--password-stdin", typed=f"{PASSWORD}\n")
        assert "nobody can be asked here" in said(await cli(*decide[:3], status=1))
        assert f"campaign:{campaign} is approved" in said(await cli(*decide))
        assert "is done" in said(await cli("campaign", "follow", str(campaign)))
        breaker = here.simulated().part(Breaker)
        assert (breaker.output, breaker.moves) == (False, 1)
