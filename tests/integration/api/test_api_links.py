"""GET /links and its reset; GET /metrics."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.services import Services
from headend.observe.metrics import Metrics
from headend.store import link_states
from headend.store.link_states import Change, LinkState
from headend.store.tokens import Scope
from tests.integration.api.conftest import T0

LINE = "modbus+rtu:/dev/ttyUSB0"


def state(kind: str, id_: str) -> LinkState:
    return LinkState(kind, id_, T0, T0 + timedelta(seconds=300), 3, 0, "timeout", "nothing came")


@pytest.fixture
async def silent(house: Any) -> Any:
    for name in ("M-1", "M-2"):
        await house.add_meter(name)
    opened = [state("line", LINE), *(state("meter", str(house.ids[name])) for name in ("M-1", "M-2"))]
    async with house.pool.connection() as connection:
        await link_states.keep(connection, [Change(T0, one.kind, one.id, one) for one in opened])
    return house


async def test_open_breakers_are_listed_in_pages(silent: Any) -> None:
    async with silent.client() as client:
        first = await client.get("/api/v1/links", params={"limit": 2, "state": "open"})
        rest = await client.get(first.headers["link"].split(">")[0].removeprefix("<"))
        meters = await client.get("/api/v1/links", params={"kind": "meter"})
        closed = await client.get("/api/v1/links", params={"state": "closed"})
    names = [one["name"] for answer in (first, rest) for one in answer.json()["links"]]
    assert names == [LINE, "M-1", "M-2"]
    assert "link" not in rest.headers
    assert (first.json()["next"] is None, rest.json()["next"]) == (False, None)
    assert [one["name"] for one in meters.json()["links"]] == ["M-1", "M-2"]
    assert closed.json() == {"links": [], "next": None}
    assert meters.json()["links"][0] == {
        "kind": "meter",
        "name": "M-1",
        "state": "open",
        "since": "2026-03-01T00:00:00Z",
        "until": "2026-03-01T00:05:00Z",
        "failures": 3,
        "probes": 0,
        "stage": "timeout",
        "reason": "nothing came",
    }


@pytest.mark.parametrize(("kind", "name"), [("meter", "M-1"), ("line", LINE)])
async def test_a_reset_is_asked_for_and_on_record(silent: Any, kind: str, name: str) -> None:
    async with silent.client(Scope.OPERATE) as client:
        answer = await client.post(f"/api/v1/links/{kind}/{name}/reset")
    assert (answer.status_code, answer.json()["name"]) == (202, name)
    async with silent.pool.connection() as connection:
        ((_, asked, _),) = await link_states.resets(connection, 0)
    assert asked == kind
    assert silent.audit() == [("token:2 operate", "link.reset", f"{kind}:{name}", {"reason": "nothing came"})]


async def test_what_is_not_open_cannot_be_reset(silent: Any) -> None:
    async with silent.client(Scope.OPERATE) as client:
        answer = await client.post("/api/v1/links/meter/M-9/reset")
    assert (answer.status_code, answer.json()["detail"]) == (409, "meter M-9 has no open breaker")
    assert silent.audit() == []


async def test_reading_is_not_enough_to_reset(silent: Any) -> None:
    async with silent.client(Scope.READ) as client:
        answer = await client.post("/api/v1/links/meter/M-1/reset")
    assert answer.status_code == 403


async def test_a_cursor_that_is_none_is_refused(silent: Any) -> None:
    async with silent.client() as client:
        answer = await client.get("/api/v1/links", params={"after": "zzz"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("public", "scope", "status"), [(False, None, 401), (False, Scope.READ, 200), (True, None, 200)]
)
async def test_metrics_need_a_token_unless_they_are_public(
    house: Any, public: bool, scope: Scope | None, status: int
) -> None:
    metrics = Metrics()
    metrics.conversations.labels("dlms", "timeout").inc(3)
    app = create_app(Services(house.pool, house.moment, metrics=metrics.text, metrics_public=public))
    headers = {} if scope is None else {"Authorization": f"Bearer {house.secrets[scope]}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://headend", headers=headers
    ) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == status
    if status == 200:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'headend_conversations_total{driver="dlms",outcome="timeout"} 3.0' in answer.text
