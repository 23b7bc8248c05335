"""Who may do what: tokens, scopes, health, headers; and the whole over a real socket."""

import asyncio
import re
import socket
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn

from api.app import create_app
from api.services import Services
from headend.store import accounts, tokens
from headend.store.tokens import Scope

NEEDS = [
    ("GET", "/api/v1/meters", Scope.READ),
    ("GET", "/api/v1/meters/M-1", Scope.READ),
    ("POST", "/api/v1/meters/M-1/states", Scope.OPERATE),
    ("GET", "/api/v1/meters/M-1/load-curve?from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z", Scope.READ),
    ("GET", "/api/v1/meters/M-1/registers", Scope.READ),
    ("POST", "/api/v1/meters/M-1/reads", Scope.OPERATE),
    ("GET", "/api/v1/workers", Scope.READ),
    ("GET", "/api/v1/meters/M-1/why-late", Scope.READ),
    ("GET", "/api/v1/completeness", Scope.READ),
    ("GET", "/api/v1/completeness/missing", Scope.READ),
    ("GET", "/api/v1/completeness/channels", Scope.READ),
    ("GET", "/api/v1/completeness/gaps", Scope.READ),
    ("GET", "/api/v1/completeness/reports", Scope.READ),
    ("GET", "/api/v1/completeness/reports/99", Scope.READ),
    ("GET", "/api/v1/schedules", Scope.READ),
    ("POST", "/api/v1/schedules", Scope.OPERATE),
    ("GET", "/api/v1/schedules/S", Scope.READ),
    ("PUT", "/api/v1/schedules/S", Scope.OPERATE),
    ("DELETE", "/api/v1/schedules/S", Scope.OPERATE),
    ("POST", "/api/v1/schedules/S/pause", Scope.OPERATE),
    ("POST", "/api/v1/schedules/S/resume", Scope.OPERATE),
    ("POST", "/api/v1/schedules/S/run", Scope.OPERATE),
    ("GET", "/api/v1/schedules/S/runs", Scope.READ),
    ("GET", "/api/v1/schedules/S/jobs", Scope.READ),
    ("GET", "/api/v1/groups", Scope.READ),
    ("POST", "/api/v1/groups", Scope.OPERATE),
    ("GET", "/api/v1/groups/G", Scope.READ),
    ("PATCH", "/api/v1/groups/G", Scope.OPERATE),
    ("DELETE", "/api/v1/groups/G", Scope.OPERATE),
    ("GET", "/api/v1/groups/G/meters", Scope.READ),
    ("PATCH", "/api/v1/groups/G/meters", Scope.OPERATE),
    ("GET", "/api/v1/tags", Scope.READ),
    ("POST", "/api/v1/tags", Scope.OPERATE),
    ("GET", "/api/v1/meters/M-1/tags", Scope.READ),
    ("PUT", "/api/v1/meters/M-1/tags", Scope.OPERATE),
    ("POST", "/api/v1/reads", Scope.OPERATE),
    ("GET", "/api/v1/jobs", Scope.READ),
    ("GET", "/api/v1/jobs/99", Scope.READ),
    ("GET", "/api/v1/jobs/99/requests", Scope.READ),
    ("GET", "/api/v1/jobs/99/events", Scope.READ),
    ("POST", "/api/v1/jobs/99/cancel", Scope.OPERATE),
    ("GET", "/api/v1/programs", Scope.READ),
    ("POST", "/api/v1/programs", Scope.OPERATE),
    ("GET", "/api/v1/programs/99", Scope.READ),
    ("GET", "/api/v1/campaigns", Scope.READ),
    ("POST", "/api/v1/campaigns", Scope.OPERATE),
    ("GET", "/api/v1/campaigns/99", Scope.READ),
    ("GET", "/api/v1/campaigns/99/meters", Scope.READ),
    ("GET", "/api/v1/campaigns/99/meters/M-1", Scope.READ),
    ("GET", "/api/v1/campaigns/99/events", Scope.READ),
    ("GET", "/api/v1/campaigns/99/report.csv", Scope.READ),
    ("POST", "/api/v1/campaigns/99/pause", Scope.OPERATE),
    ("POST", "/api/v1/campaigns/99/resume", Scope.OPERATE),
    ("POST", "/api/v1/campaigns/99/abort", Scope.OPERATE),
    ("GET", "/api/v1/approvals", Scope.READ),
    ("GET", "/api/v1/approvals/99", Scope.READ),
    ("POST", "/api/v1/approvals/99/approve", Scope.OPERATE),
    ("POST", "/api/v1/approvals/99/refuse", Scope.OPERATE),
    ("GET", "/api/v1/points", Scope.READ),
    ("POST", "/api/v1/points", Scope.ADMIN),
    ("GET", "/api/v1/points/P", Scope.READ),
    ("GET", "/api/v1/points/P/load-curve?from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z", Scope.READ),
    ("POST", "/api/v1/points/P/ratios", Scope.ADMIN),
    ("POST", "/api/v1/points/P/installations", Scope.OPERATE),
    ("POST", "/api/v1/points/P/exchange", Scope.OPERATE),
    ("GET", "/api/v1/network/nodes", Scope.READ),
    ("GET", "/api/v1/network/nodes/T-1", Scope.READ),
    ("PATCH", "/api/v1/network/nodes/T-1", Scope.OPERATE),
    ("GET", "/api/v1/network/tree", Scope.READ),
    ("POST", "/api/v1/network/imports", Scope.ADMIN),
    ("GET", "/api/v1/announcements", Scope.READ),
    ("POST", "/api/v1/announcements/99/accept", Scope.OPERATE),
    ("POST", "/api/v1/announcements/99/reject", Scope.OPERATE),
    ("GET", "/api/v1/events", Scope.READ),
    ("GET", "/api/v1/links", Scope.READ),
    ("POST", "/api/v1/links/meter/M-1/reset", Scope.OPERATE),
    ("GET", "/api/v1/quarantine", Scope.READ),
    ("POST", "/api/v1/quarantine/99/replay", Scope.OPERATE),
    ("GET", "/api/v1/tokens", Scope.ADMIN),
    ("POST", "/api/v1/tokens", Scope.ADMIN),
    ("DELETE", "/api/v1/tokens/99", Scope.ADMIN),
    ("GET", "/api/v1/accounts", Scope.ADMIN),
    ("POST", "/api/v1/accounts", Scope.ADMIN),
    ("GET", "/api/v1/accounts/nobody", Scope.ADMIN),
    ("PATCH", "/api/v1/accounts/nobody", Scope.ADMIN),
    ("PUT", "/api/v1/accounts/nobody/roles", Scope.ADMIN),
    ("DELETE", "/api/v1/accounts/nobody/sessions", Scope.ADMIN),
]
ORDER = [Scope.READ, Scope.OPERATE, Scope.ADMIN]


def operations(house: Any) -> list[tuple[str, str]]:
    """All that the document tells, with something in the place of each parameter of the path."""
    return [
        (method.upper(), re.sub(r"\{[^}]*\}", "1", path))
        for path, item in house.app.openapi()["paths"].items()
        for method in item
        if path.startswith("/api") and not path.startswith("/api/v1/session")
    ]


async def test_without_a_token_or_a_role_nothing_is_answered(house: Any) -> None:
    async with house.pool.connection() as connection:
        nobody = await accounts.add(connection, login="nobody", title="Nobody", now=house_now(house))
        token = await tokens.create(
            connection, name="of nobody", scopes=[Scope.ADMIN], account_id=nobody.account_id
        )
    asked = operations(house)
    assert len(asked) >= len(NEEDS)
    async with house.client(None) as client:
        for method, path in asked:
            body = {} if method[0] == "P" else None
            assert (await client.request(method, path, json=body)).status_code == 401, path
            bearer = {"Authorization": f"Bearer {token.secret}"}
            refused = await client.request(method, path, json=body, headers=bearer)
            assert refused.status_code == 403, (method, path, refused.text)


async def test_each_operation_needs_its_scope(house: Any) -> None:
    for scope in (None, *ORDER):
        async with house.client(scope) as client:
            for method, path, needed in NEEDS:
                answer = await client.request(method, path, json={} if method[0] == "P" else None)
                if scope is None:
                    assert answer.status_code == 401, path
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                elif ORDER.index(scope) < ORDER.index(needed):
                    assert answer.status_code == 403, (scope, path)
                    assert f'scope="{needed}"' in answer.headers["www-authenticate"]
                else:
                    assert answer.status_code in {200, 204, 404, 409, 422}, (scope, path, answer.text)
                if answer.status_code >= 400:
                    assert answer.headers["content-type"] == "application/problem+json"


async def test_tokens_that_are_not_good_look_alike(house: Any) -> None:
    async with house.pool.connection() as connection:
        over = await tokens.create(
            connection, name="over", scopes=[Scope.READ], expires_at=house_now(house) - timedelta(seconds=1)
        )
        gone = await tokens.create(connection, name="gone", scopes=[Scope.READ])
        await tokens.revoke(connection, gone.token.token_id, now=house_now(house))
    answers = []
    async with house.client(None) as client:
        for given in (over.secret, gone.secret, "hdnd_unknown", "x", b"hdnd_\xc3\xa4", b"hdnd_\xff"):
            given = given.encode() if isinstance(given, str) else given
            headers = {"Authorization": b"Bearer " + given}
            answers.append(await client.get("/api/v1/meters", headers=headers))
        basic = await client.get("/api/v1/meters", headers={"Authorization": "Basic eDp5"})
    assert {(a.status_code, a.text) for a in answers} == {(401, answers[0].text)}
    assert 'error="invalid_token"' in answers[0].headers["www-authenticate"]
    assert basic.status_code == 401


def house_now(house: Any) -> Any:
    return house.app.state.services.clock()


async def test_the_life_of_a_token(house: Any) -> None:
    async with house.client(Scope.ADMIN) as client:
        made = await client.post("/api/v1/tokens", json={"name": "billing", "scopes": ["read"]})
        assert made.status_code == 201
        secret, number = made.json()["token"], made.json()["id"]
        async with house.client(None) as other:
            headers = {"Authorization": f"Bearer {secret}"}
            assert (await other.get("/api/v1/meters", headers=headers)).status_code == 200
            told = {t["name"]: t for t in (await client.get("/api/v1/tokens")).json()["tokens"]}
            assert told["billing"]["last_used_at"] == "2026-03-10T12:00:00Z"
            assert secret not in (await client.get("/api/v1/tokens")).text
            assert (await client.delete(f"/api/v1/tokens/{number}")).status_code == 204
            assert (await other.get("/api/v1/meters", headers=headers)).status_code == 401
        assert (await client.delete("/api/v1/tokens/999")).status_code == 404
        past = {"name": "x", "scopes": ["read"], "expires_at": "2026-03-10T11:00:00Z"}
        for bad in (
            past,
            {"name": " ", "scopes": ["read"]},
            {"name": "x", "scopes": []},
            {"name": "x", "scopes": ["all"]},
        ):
            assert (await client.post("/api/v1/tokens", json=bad)).status_code == 422, bad
    lines = house.audit()
    assert [(line[0], line[1]) for line in lines] == [
        ("token:3 admin", "token.create"), ("token:3 admin", "token.revoke"),
    ]  # fmt: skip
    assert secret not in str(lines)


async def test_health_documents_and_headers(house: Any) -> None:
    async with house.client(None) as client:
        health = await client.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        for path, kind in (
            ("/docs", "text/html"), ("/docs/docs.js", "text/javascript"), ("/docs/docs.css", "text/css"),
            ("/openapi.json", "application/json"), ("/nothing", "application/problem+json"),
        ):  # fmt: skip
            answer = await client.get(path)
            assert answer.headers["content-type"].startswith(kind)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await client.get("/redoc")).status_code == 404


async def test_the_bare_address_leads_to_the_documents(house: Any) -> None:
    async with house.client(None) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "docs")
        assert (await client.get("/", follow_redirects=True)).headers["content-type"].startswith("text/html")


async def test_refusals_speak_of_what_was_sent(house: Any) -> None:
    async with house.client(Scope.ADMIN) as client:
        page = await client.get("/api/v1/meters", params={"next": "x", "limit": "1"})
        assert page.status_code == 422  # ignored, it would be the first page for ever
        known = "no such query parameter; known are after, feeder, "
        assert page.json()["errors"][0]["parameter"] == "next"
        assert page.json()["errors"][0]["detail"].startswith(known)
        assert (await client.get("/api/v1/meters", params={"limit": "1"})).status_code == 200
        one = (await client.get("/api/v1/meters/M-1?x=1")).json()
        assert one["detail"] == "x: no such query parameter; this operation has none"
        put = await client.put("/api/v1/points")
        assert (put.status_code, put.json()["detail"]) == (405, "this path takes GET, POST, not PUT")
        assert put.headers["allow"] == "GET, POST"
        made = await client.post("/api/v1/points", json={"code": "Ü/\U0008912d"})
        assert (made.status_code, made.headers["location"]) == (201, "/api/v1/points/%C3%9C%2F%F2%89%84%AD")
        read = (await client.post("/api/v1/meters/M-1/reads", json={"obis": ["rubbish"]})).json()
        assert read["errors"][0]["detail"].startswith("not an OBIS code: 'rubbish'")


@pytest.fixture
async def server(house: Any) -> Any:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(house.app, log_level="warning", lifespan="off", ws="none")
    running = uvicorn.Server(config)
    running.install_signal_handlers = lambda: None  # type: ignore[method-assign,attr-defined]
    task = asyncio.create_task(running.serve(sockets=[listener]), name="server")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    await task
    listener.close()


async def test_over_a_real_socket(house: Any, server: str) -> None:
    await house.add_meter("M-1")
    await house.store("M-1", [(n, n) for n in range(1000)])
    headers = {"Authorization": f"Bearer {house.secrets[Scope.OPERATE]}"}
    async with httpx.AsyncClient(base_url=server, headers=headers, trust_env=False) as client:
        params = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-20T00:00:00Z"}
        both = await asyncio.gather(
            client.get("/api/v1/meters/M-1/load-curve", params=params), client.get("/health")
        )
        assert [a.status_code for a in both] == [200, 200]
        assert len(both[0].json()["rows"]) == 1000
        lost = await client.get(
            "/api/v1/meters/M-1/load-curve?from=2026-03-01T00:00:00+01:00&to=2026-03-02T00:00:00Z"
        )
        assert lost.status_code == 422
        assert "%2B" in lost.json()["detail"]

        async def body() -> Any:
            for _ in range(40):
                yield b" " * 65536

        over = await client.post(
            "/api/v1/meters/M-1/reads", content=body(), headers={"content-type": "application/json"}
        )
        assert over.status_code == 413


async def test_a_database_that_went_away_is_a_503(house: Any) -> None:
    app = create_app(Services(house.pool, house.moment))
    house.app = app
    with psycopg.connect(house.dsn, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await house.pool.close()
    async with house.client(Scope.READ) as client:
        answer = await client.get("/api/v1/meters")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await client.get("/health")).status_code == 503
