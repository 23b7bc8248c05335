"""Meters, registers, reads now and metering points over REST, against a real database."""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from headend.store.requests import Settled
from headend.store.tokens import Scope
from schemas.failure import Stage
from schemas.job import RequestState
from schemas.read_result import ReadResult, StoredRows
from schemas.reading import Quality, RegisterRead, registers_only

T0 = datetime.fromisoformat("2026-03-01T00:00:00Z")


def micros(moment: datetime) -> int:
    return round(moment.timestamp()) * 1_000_000


async def test_paging_walks_all_meters_once(house: Any) -> None:
    for n in range(7):
        await house.add_meter(
            f"M-{n}", feeder="F 1" if n % 2 else "F2", model="aidon" if n == 3 else "headend-sim"
        )
    async with house.client() as client:
        seen, url, pages = [], "/api/v1/meters?limit=3&model=headend-sim", 0
        while url:
            answer = await client.get(url)
            assert answer.status_code == 200
            seen += [m["asset_id"] for m in answer.json()["meters"]]
            found = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("link", ""))
            assert (found is None) == (answer.json()["next"] is None)
            url, pages = (found[1] if found else ""), pages + 1
        assert seen == ["M-0", "M-1", "M-2", "M-4", "M-5", "M-6"]
        assert pages == 2
        one = await client.get("/api/v1/meters", params={"feeder": "F 1", "q": "m-", "state": "received"})
        assert [m["asset_id"] for m in one.json()["meters"]] == ["M-1", "M-3", "M-5"]
        for params in ({"limit": 0}, {"limit": 1001}, {"state": "lost"}, {"after": "x"}, {"after": "WzFd"}):
            answer = await client.get("/api/v1/meters", params=params)
            assert answer.status_code == 422, params
            assert answer.json()["errors"][0]["parameter"] == next(iter(params))


async def test_one_meter_and_its_life(house: Any) -> None:
    await house.add_meter(
        "M 1ä", system_title=bytes.fromhex("4845440000000101"), address="tcp://127.0.0.1:4059"
    )
    async with house.client(Scope.READ) as client:
        assert (await client.get("/api/v1/meters/M%201%C3%A4")).json()["asset_id"] == "M 1ä"
    await house.add_meter("M-1", system_title=bytes.fromhex("4845440000000102"))
    async with house.client(Scope.OPERATE) as client:
        body = (await client.get("/api/v1/meters/M-1")).json()
        assert body["system_title"] == "4845440000000102"
        assert body["states"] == [{"state": "received", "since": "2026-03-01T00:00:00Z"}]
        assert body["point"] is None
        url = "/api/v1/meters/M-1/states"
        made = await client.post(url, json={"state": "installed", "since": "2026-03-02T00:00:00Z"})
        assert (made.status_code, made.json()["state"]) == (201, "installed")
        assert (await client.post(url, json={"state": "commissioned"})).json()[
            "state_since"
        ] == "2026-03-10T12:00:00Z"
        jump = await client.post(url, json={"state": "received"})
        assert jump.status_code == 409
        assert "suspended" in jump.json()["detail"]
        early = await client.post(url, json={"state": "suspended", "since": "2026-03-02T00:00:00Z"})
        assert early.status_code == 409
        future = await client.post(url, json={"state": "suspended", "since": "2026-03-11T00:00:00Z"})
        assert (future.status_code, future.json()["errors"][0]["pointer"]) == (422, "/since")
        naive = await client.post(url, json={"state": "suspended", "since": "2026-03-10T00:00:00"})
        assert naive.status_code == 422
        assert "append Z" in naive.json()["detail"]
        extra = await client.post(url, json={"state": "suspended", "sinse": None})
        assert extra.json()["errors"][0]["pointer"] == "/sinse"
    changes = [line for line in house.audit() if line[1] == "meter.state"]
    assert [(line[2], line[3]["to"]) for line in changes] == [
        ("meter:M-1", "installed"),
        ("meter:M-1", "commissioned"),
    ]
    assert changes[0][0].endswith(" operate")


@pytest.fixture
async def registers(house: Any) -> Any:
    number = await house.add_meter("M-1")
    rows = [
        (
            T0 + timedelta(hours=n),
            number,
            2,
            int(Quality.MEASURED),
            "1-0:1.8.0*255",
            "Wh",
            Decimal(n).scaleb(-3),
            None,
        )
        for n in range(5)
    ]
    rows.append((T0, number, 2, int(Quality.HANDHELD), "0-0:96.1.0*255", None, None, "4711"))
    with psycopg.connect(house.dsn) as connection:
        connection.cursor().executemany(
            "INSERT INTO register_reads"
            " (read_at, batch_id, meter_id, attribute, quality, obis, unit, value, text)"
            " VALUES (%s, 1, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
    return house


async def test_latest_registers(registers: Any) -> None:
    async with registers.client() as client:
        body = (await client.get("/api/v1/meters/M-1/registers")).json()
        one = (await client.get("/api/v1/meters/M-1/registers", params={"obis": "1-0:1.8.0.255"})).json()
    told = {r["obis"]: r for r in body["registers"]}
    assert told["1-0:1.8.0*255"]["value"] == "0.004"
    assert told["1-0:1.8.0*255"]["read_at"] == "2026-03-01T04:00:00Z"
    assert (told["0-0:96.1.0*255"]["text"], told["0-0:96.1.0*255"]["quality"]) == ("4711", "handheld")
    assert [r["obis"] for r in one["registers"]] == ["1-0:1.8.0*255"]


async def test_history_of_a_register(registers: Any) -> None:
    params = {
        "obis": "1-0:1.8.0*255", "from": "2026-03-01T00:00:00Z", "to": "2026-03-01T04:00:00Z", "limit": "3",
    }  # fmt: skip
    async with registers.client() as client:
        first = await client.get("/api/v1/meters/M-1/registers", params=params)
        second = await client.get(re.fullmatch(r"<(.+)>.*", first.headers["link"])[1])  # type: ignore[index]
        lone = await client.get(
            "/api/v1/meters/M-1/registers", params={"from": params["from"], "to": params["to"]}
        )
        half = await client.get(
            "/api/v1/meters/M-1/registers", params={"obis": params["obis"], "to": params["to"]}
        )
        bad = await client.get("/api/v1/meters/M-1/registers", params={"obis": "energy"})
        cursor = await client.get("/api/v1/meters/M-1/registers", params={**params, "after": "WyJ4IiwxXQ"})
    assert [r["value"] for r in first.json()["registers"]] == ["0.000", "0.001", "0.002"]
    assert [r["value"] for r in second.json()["registers"]] == ["0.003"]
    assert second.json()["next"] is None
    for answer, place in ((lone, "obis"), (half, "from"), (cursor, "after"), (bad, "obis")):
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, place)


async def test_read_now(house: Any) -> None:
    number = await house.add_meter("M-1", address="tcp://127.0.0.1:4059")
    read = RegisterRead(number, "1-0:1.8.0*255", 2, micros(T0), None, Decimal("12.50"), None, "Wh")
    float_ = read._replace(obis="1-0:32.7.0*255", value=Decimal("230.1"), unit="V", from_float=True)
    result = ReadResult.of(
        registers_only([read, float_], source="test"), [("0-0:1.0.0*255", "read-write-denied")]
    ).model_copy(update={"intervals": 96, "stored": StoredRows(new=90, repeated=6, registers=1)})
    house.lanes.answer = lambda _: Settled(0, result=result.model_dump(mode="json"))
    body = {
        "obis": ["1.8.0", "0-0:1.0.0*255", "1.8.0"],
        "profile": {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"},
    }
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(
            "/api/v1/meters/M-1/reads", json=body, headers={"X-Correlation-Id": "call-7"}
        )
        job = (await client.get(f"/api/v1/jobs/{answer.json()['job']}")).json()
    assert answer.status_code == 200
    told = answer.json()
    assert [(r["value"], r["from_float"]) for r in told["registers"]] == [("12.50", False), ("230.1", True)]
    assert told["refused"] == [{"obis": "0-0:1.0.0*255", "reason": "read-write-denied"}]
    assert (told["intervals"], told["stored"]["new"], told["stored"]["repeated"]) == (96, 90, 6)
    ((meter, (curve, registers)),) = house.lanes.asked
    assert meter == "M-1"
    assert registers.obis == ("1-0:1.8.0*255", "0-0:1.0.0*255")
    assert (curve.profile, curve.since, curve.until - curve.since) == (1, T0, timedelta(days=1))
    ((actor, action, thing, detail),) = house.audit()
    assert (actor, action, thing) == ("token:2 operate", "meter.read", "meter:M-1")
    assert detail["works"][0]["since"] == "2026-03-01T00:00:00Z"
    assert answer.headers["x-correlation-id"] == detail["correlation_id"] == job["correlation_id"] == "call-7"
    assert (job["kind"], job["state"], job["counts"]["done"]) == ("on_demand", "ended", 1)


@pytest.mark.parametrize(
    ("stage", "status", "slug"),
    [
        (Stage.TIMEOUT, 504, "meter-timeout"),
        (Stage.ACCESS, 502, "meter-refused"),
        (Stage.GATEWAY, 502, "meter-link"),
        (Stage.CIPHER, 502, "meter-security"),
        (Stage.SETTINGS, 409, "meter-settings"),
        (None, 500, "internal-error"),
    ],
)
async def test_read_now_that_fails(house: Any, stage: Stage | None, status: int, slug: str) -> None:
    await house.add_meter("M-1", address="tcp://127.0.0.1:4059")
    house.lanes.answer = lambda _: Settled(0, RequestState.FAILED, stage=stage, reason="nothing for 5 s")
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post("/api/v1/meters/M-1/reads", json={"obis": ["1.8.0"]})
    told = answer.json()
    assert (answer.status_code, told["type"], told["detail"]) == (
        status,
        f"/problems/{slug}",
        "nothing for 5 s",
    )
    assert (told.get("stage"), told.get("fault")) == ((None, None) if stage is None else (stage, "peer"))
    assert [line[1] for line in house.audit()] == ["meter.read"], "what was tried is on record"


async def test_read_now_that_cannot_be(house: Any) -> None:
    await house.add_meter("M-1")
    url = "/api/v1/meters/M-1/reads"
    profile = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}
    async with house.client(Scope.OPERATE) as client:
        assert (await client.post(url, json={"obis": ["1.8.0"]})).status_code == 409
        assert (await client.post("/api/v1/meters/M-3/reads", json={"obis": ["1.8.0"]})).status_code == 404
        for body, pointer in (
            ({}, ""),
            ({"obis": ["nonsense"]}, "/obis/0"),
            ({"profile": {**profile, "to": "2026-04-02T00:00:00Z"}}, "/profile/to"),
            ({"profile": {**profile, "from": "2026-03-01"}}, "/profile/from"),
            ({"obis": ["1.8.0"] * 65}, "/obis"),
        ):
            answer = await client.post(url, json=body)
            assert answer.status_code == 422, body
            assert answer.json()["errors"][0]["pointer"] == pointer
        assert (await client.get("/api/v1/jobs")).json()["jobs"] == []
    assert house.lanes.asked == []


async def test_read_now_of_which_nobody_takes_care(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told in time, and left to nobody: what nobody waits for any more is not read later."""
    monkeypatch.setattr("api.reads.endpoints.PATIENCE_S", 0.2)
    monkeypatch.setattr("api.reads.endpoints._GRACE_S", 0)
    await house.add_meter("M-1", address="tcp://127.0.0.1:4059")
    house.lanes.answer = None
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post("/api/v1/meters/M-1/reads", json={"obis": ["1.8.0"]})
        (job,) = (await client.get("/api/v1/jobs")).json()["jobs"]
    assert (answer.status_code, answer.json()["type"]) == (504, "/problems/meter-timeout")
    assert (job["state"], job["counts"]["cancelled"]) == ("cancelled", 1)


async def test_points(house: Any) -> None:
    await house.add_meter("M-1")
    await house.add_meter("M-2")
    async with house.client(Scope.ADMIN) as client:
        made = await client.post("/api/v1/points", json={"code": "P-1"})
        assert (made.status_code, made.headers["location"]) == (201, "/api/v1/points/P-1")
        assert made.json() == {"code": "P-1", "installations": [], "ratios": []}
        assert (await client.post("/api/v1/points", json={"code": "P-1"})).status_code == 409
        await client.post("/api/v1/points", json={"code": "P-2"})
        page = (await client.get("/api/v1/points", params={"limit": 1})).json()
        assert page["points"] == ["P-1"]
        assert (await client.get("/api/v1/points", params={"after": page["next"]})).json()["points"] == [
            "P-2"
        ]
        url = "/api/v1/points/P-1"
        early = await client.post(f"{url}/exchange", json={"meter": "M-1", "at": "2026-03-01T00:00:00Z"})
        assert early.status_code == 409
        body = {"meter": "M-1", "since": "2026-03-01T00:00:00Z", "start_registers": {"1-0:1.8.0*255": "0.50"}}
        put = await client.post(f"{url}/installations", json=body)
        assert put.status_code == 201
        assert put.json()["installations"][0]["start_registers"] == {"1-0:1.8.0*255": "0.50"}
        assert (await client.get("/api/v1/meters/M-1")).json()["point"] == "P-1"
        assert (await client.post(f"{url}/installations", json=body)).status_code == 409
        unknown = await client.post(f"{url}/exchange", json={"meter": "M-9", "at": "2026-03-02T00:00:00Z"})
        assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/meter")
        loss = {**body, "start_registers": {"1-0:1.8.0*255": 0.1}}
        lost = await client.post(f"{url}/installations", json=loss)
        assert lost.status_code == 422
        assert "write it as a string" in lost.json()["detail"]
        backwards = await client.post(f"{url}/exchange", json={"meter": "M-2", "at": "2026-02-01T00:00:00Z"})
        assert backwards.status_code == 409
        done = await client.post(f"{url}/exchange", json={"meter": "M-2", "at": "2026-03-02T00:00:00Z"})
        assert [i["until"] for i in done.json()["installations"]] == ["2026-03-02T00:00:00Z", None]
        for ratio in ({"ct_numerator": 0}, {"ct_numerator": "-1"}, {"until": "2026-01-01T00:00:00Z"}):
            whole = {"since": "2026-03-01T00:00:00Z", "ct_numerator": "100", "ct_denominator": "5", **ratio}
            assert (await client.post(f"{url}/ratios", json=whole)).status_code == 422, ratio
        assert (await client.get("/api/v1/points/P-9")).status_code == 404
    actions = [line[1] for line in house.audit()]
    assert actions == ["point.create", "point.create", "point.install", "point.exchange"]
