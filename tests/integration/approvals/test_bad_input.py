"""What a hurried or a hostile person gives: each refused, by API and by command line, with what to do."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.services import Services
from headend.approvals.policy import Policy
from headend.clock import utc_now
from headend.moment.moment import Moment
from headend.people.login import log_in
from headend.store import tokens
from headend.store.sessions import SessionKind
from headend.store.tokens import Scope
from tests.integration.approvals.test_operator_alone import Headend, headend, said
from tests.integration.people import PASSWORD, account, ask, people
from tests.integration.programs.field import Works, works
from tests.integration.programs.tariffs import THREE
from tests.integration.programs.test_firmware import TRUSTED, packed

__all__ = ["headend"]  # a fixture
SWITCH = {"kind": "switch", "action": "disconnect", "reason": "arrears"}
DAYS = [
    {
        "name": "work",
        "switches": [{"from": "00:00", "period": "peak"}, {"from": "25:00", "period": "off-peak"}],
    },
    *THREE["days"][1:],
]
PAST = {"kind": "tariff", "document": {**THREE, "activation": "2026-01-01T00:00:00+01:00"}}
OF_25_HOURS = {"kind": "tariff", "document": {**THREE, "activation": "at once", "days": DAYS}}


OCTETS = {"Content-Type": "application/octet-stream"}


def nothing_came_of(here: Works) -> bool:
    """One campaign, which was right, waits for another person."""
    sent = here.rows("SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM firmware_packages)")
    return sent == [(0, 0)] and here.rows("SELECT state FROM campaigns") == [("proposed",)]


def flipped(data: bytes) -> bytes:
    """One bit of it is another."""
    return data[:700] + bytes((data[700] ^ 4,)) + data[701:]


async def test_by_api(embedded_database: Any) -> None:
    async with works(
        embedded_database.dsn, meters=1, working=False, settings={"firmware_keys": [TRUSTED]}
    ) as here:
        (meter,) = here.meters
        pool, settings, who = here.house.base.pool, here.house.base.settings, people()
        await account(pool, who, "alice", "metering_engineer", "operator")
        issued = await log_in(pool.connection, who, ask("alice", kind=SessionKind.CLI), now=utc_now())
        async with pool.connection() as connection:
            over = await tokens.create(
                connection, name="billing", scopes=[Scope.READ], expires_at=utc_now() - timedelta(hours=1)
            )
        services = Services(
            pool, Moment.of(pool, settings, None, utc_now), people=who, policy=Policy.of(settings),
            procedures=here.house.procedures, firmware_keys=(TRUSTED,),
        )  # fmt: skip
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(services)), base_url="http://headend",
            headers={"Authorization": f"Bearer {issued.secret}"},
        ) as api:  # fmt: skip

            def campaign(program: Any, **selection: Any) -> dict[str, Any]:
                return {
                    "title": "t",
                    "program": program,
                    "plan": {"selection": selection or {"meters": [meter]}},
                }

            made = (await api.post("/api/v1/campaigns", json=campaign(SWITCH))).json()
            approval, digest = made["approval"]["id"], made["approval"]["digest"]
            expired = {"Authorization": f"Bearer {over.secret}"}
            table = {
                "a flipped bit": (
                    api.post("/api/v1/firmware", content=flipped(packed()), headers=OCTETS),
                    422, "its signature does not hold: it was changed on its way, or is not whole; fetch it",
                ),
                "25 hours": (
                    api.post("/api/v1/campaigns", json=campaign(OF_25_HOURS)),
                    422, "days[0].switches[1].from: '25:00' is no time of day: 00:00 to 23:59",
                ),
                "the past": (
                    api.post("/api/v1/campaigns", json=campaign(PAST)),
                    409, "is past: name a time to come, or write activation = 'at once'",
                ),
                "nobody": (
                    api.post("/api/v1/campaigns", json=campaign(SWITCH, query="X*")),
                    422, "has no commissioned meter: look at it with `headend meters list`, and commission",
                ),
                "himself": (
                    api.post(f"/api/v1/approvals/{approval}/approve", json={"digest": digest}),
                    403, "who asked for it cannot approve it: another person with the permission has to",
                ),
                "an expired token": (
                    api.get("/api/v1/meters", headers=expired),
                    401, "is unknown, expired or revoked: `headend token create` makes another",
                ),
            }  # fmt: skip
            for name, (asked, status, told) in table.items():
                answer = await asked
                assert answer.status_code == status, (name, answer.text)
                assert told in answer.json()["detail"], (name, answer.text)
                assert answer.headers["content-type"] == "application/problem+json", name
            assert nothing_came_of(here)


async def test_by_command_line(
    headend: Headend, embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADEND_FIRMWARE_KEYS", json.dumps([TRUSTED]))
    (tmp_path / "package.bin").write_bytes(flipped(packed()))
    (tmp_path / "long.json").write_text(json.dumps(OF_25_HOURS["document"]))
    (tmp_path / "past.json").write_text(json.dumps(PAST["document"]))
    async with works(embedded_database.dsn, meters=1, working=False) as here:
        (meter,) = here.meters
        pool, who = here.house.base.pool, people()
        await account(pool, who, "alice", "metering_engineer", "operator")
        async with pool.connection() as connection:
            over = await tokens.create(
                connection, name="billing", scopes=[Scope.OPERATE], expires_at=utc_now() - timedelta(hours=1)
            )

        async def cli(*arguments: str, status: int = 1, **options: Any) -> str:
            return said(await asyncio.to_thread(headend, *arguments, status=status, **options))

        disconnect = ("switch", "disconnect", "--reason", "arrears")
        await cli("login", "alice", "--password-stdin", typed=f"{PASSWORD}\n", status=0)
        await cli(*disconnect, meter, status=3)
        table = {
            ("firmware", "upload", "package.bin"): (
                "its signature does not hold: it was changed on its way, or is not whole; fetch it again"
            ),
            ("tariff", "apply", "long.json", "--meter", meter): (
                "long.json:1: days[0].switches[1].from: '25:00' is no time of day: 00:00 to 23:59"
            ),
            ("tariff", "apply", "past.json", "--meter", meter): (
                "is past: name a time to come, or write activation = 'at once'"
            ),
            (*disconnect, "--query", "X*"): (
                "has no commissioned meter: look at it with `headend meters list`, and commission"
            ),
            ("approvals", "approve", "1", "--digest", "00" * 32): (
                "who asked for it cannot approve it: another person with the permission has to; you are"
            ),
        }
        for arguments, told in table.items():
            assert told in await cli(*arguments), arguments
        monkeypatch.setenv("HEADEND_TOKEN", over.secret)
        told = await cli(*disconnect, meter)
        assert "is unknown, expired or revoked: `headend token create` makes another" in told
        assert nothing_came_of(here)
