"""Breakers, critical customers and the emergency stop over HTTP."""

from typing import Any

from headend.store import switching
from headend.store.switching import BreakerState
from headend.store.tokens import Scope
from tests.integration.api.conftest import T0

_WHY = {"reason": "the list was wrong"}


async def test_a_meters_breaker_and_what_was_switched(house: Any) -> None:
    number = await house.add_meter("M-1")
    async with house.client() as client:
        assert (await client.get("/api/v1/meters/NO/switch")).status_code == 404
        assert (await client.get("/api/v1/meters/M-1/switch")).json() == {
            "breaker": None, "critical": None, "switchings": [], "next": None
        }  # fmt: skip
    async with house.pool.connection() as connection:
        await switching.was_read(connection, number, BreakerState(T0, False, "ready", 3))
        for campaign in (1, 2):
            await switching.sent(
                connection, campaign, number, action="disconnect", reason="arrears", note="", actor="anna",
                at=T0,
            )  # fmt: skip
    async with house.client() as client:
        first = (await client.get("/api/v1/meters/M-1/switch", params={"limit": 1})).json()
        after = {"limit": 1, "after": first["next"]}
        rest = (await client.get("/api/v1/meters/M-1/switch", params=after)).json()
    assert first["breaker"] == {
        "read_at": "2026-03-01T00:00:00Z", "connected": False, "control": "ready", "mode": 3
    }  # fmt: skip
    assert [one["switchings"][0]["campaign"] for one in (first, rest)] == [2, 1]
    assert rest["next"] is None


async def test_critical_customers_come_and_go_and_are_audited(house: Any) -> None:
    await house.add_meter("M-1")
    body = {"meter": "M-1", "why": "dialysis at home"}
    async with house.client() as client:
        assert (await client.post("/api/v1/critical-customers", json=body)).status_code == 403
    async with house.client(Scope.OPERATE) as client:
        for wrong in ({**body, "meter": "NO"}, {**body, "point": "P"}, {"why": "x"}, {**body, "why": ""}):
            assert (await client.post("/api/v1/critical-customers", json=wrong)).status_code == 422
        made = await client.post("/api/v1/critical-customers", json=body)
        assert (made.status_code, made.json()["meter"], made.json()["until"]) == (201, "M-1", None)
        assert (await client.get("/api/v1/meters/M-1/switch")).json()["critical"] == "dialysis at home"
        listed = (await client.get("/api/v1/critical-customers", params={"meter": "M-1"})).json()
        assert listed == {"critical_customers": [made.json()], "next": None}
        path = f"/api/v1/critical-customers/{made.json()['number']}"
        assert [(await client.delete(path)).status_code for _ in range(2)] == [204, 404]
        assert (await client.get("/api/v1/meters/M-1/switch")).json()["critical"] is None
    actions = [action for _, action, *_ in house.audit() if action.startswith("critical")]
    assert actions == ["critical.add", "critical.remove"]


async def test_an_emergency_stop_and_who_may_not_end_it(house: Any) -> None:
    async with house.client() as client:  # a reader
        assert (await client.post("/api/v1/switching/stop", json=_WHY)).status_code == 403
    async with house.client(Scope.OPERATE) as client:
        assert (await client.post("/api/v1/switching/allow", json=_WHY)).status_code == 409
        stopped = (await client.post("/api/v1/switching/stop", json=_WHY)).json()
        assert stopped["stopped"]["reason"] == _WHY["reason"]
        assert (await client.get("/api/v1/switching")).json()["stopped"] == stopped["stopped"]
        assert (await client.post("/api/v1/switching/allow", json=_WHY)).status_code == 403
    told = [(action, detail.get("why")) for _, action, _, detail in house.audit() if "switching" in action]
    assert [action for action, _ in told] == ["switching.refused", "switching.stop", "switching.refused"]
    assert "emergency_stop" in told[0][1]
