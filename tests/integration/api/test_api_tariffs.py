"""GET /meters/{asset_id}/tariffs and POST /tariffs/check."""

from datetime import timedelta
from typing import Any

from headend.store import tariffs
from schemas.tariff.calendar import Compiled, compiled, day_numbers
from schemas.tariff.document import TariffDocument
from tests.integration.api.conftest import T0
from tests.integration.programs.tariffs import THREE
from tests.unit.test_tariff_documents import LIMITS, WRONG

DOCUMENT = TariffDocument.model_validate(THREE)
STORED = compiled(DOCUMENT, LIMITS, day_numbers(DOCUMENT, LIMITS, frozenset()))
OLD = Compiled(STORED.calendar._replace(name="OLD"), ())


async def test_a_meters_programs_by_time(house: Any) -> None:
    await house.add_meter("M-1")
    number = house.ids["M-1"]
    async with house.pool.connection() as connection:
        for n in (0, 1, 2):  # found again, it is the same
            await tariffs.found(connection, number, OLD, at=T0 + timedelta(hours=n))
        await tariffs.found(connection, number, STORED, at=T0 + timedelta(days=2, hours=1))
        for _ in range(2):  # and so is what began, also before it was found
            await tariffs.began(connection, number, STORED, at=T0 + timedelta(days=2), campaign_id=7)
    async with house.client() as client:
        whole = (await client.get("/api/v1/meters/M-1/tariffs")).json()["tariffs"]
        then = await client.get("/api/v1/meters/M-1/tariffs", params={"at": "2026-03-02T23:59:59Z"})
        before = await client.get("/api/v1/meters/M-1/tariffs", params={"at": "2026-02-28T00:00:00Z"})
        nobody = await client.get("/api/v1/meters/M-9/tariffs")
    told = [(one["calendar"], one["from"], one["to"], one["campaign"], one["is_exact"]) for one in whole]
    assert told == [
        ("THREE", "2026-03-03T00:00:00Z", None, 7, True),
        ("OLD", "2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z", None, False),
    ]
    assert [one["calendar"] for one in then.json()["tariffs"]] == ["OLD"]
    assert before.json() == {"tariffs": []}
    assert nobody.status_code == 404
    assert whole[0]["content"]["special_days"][0] == [None, 12, 25, 2]


async def test_a_document_is_checked(house: Any) -> None:
    async with house.client() as client:
        right = await client.post("/api/v1/tariffs/check", json={"document": THREE, "model": "headend-sim"})
        wrong = await client.post("/api/v1/tariffs/check", json={"text": WRONG})
        both = await client.post("/api/v1/tariffs/check", json={"text": "", "document": {}})
        model = await client.post("/api/v1/tariffs/check", json={"document": THREE, "model": "idis"})
    assert right.json() == {"is_right": True, "findings": []}
    assert wrong.status_code == 200
    assert wrong.json()["is_right"] is False
    assert {
        "line": 16,
        "place": "days[0].switches[3].from",
        "severity": "error",
        "message": "'25:00' is no time of day: 00:00 to 23:59",
    } in wrong.json()["findings"]
    assert (both.status_code, model.status_code) == (422, 422)
    assert model.json()["errors"][0]["pointer"] == "/model"
