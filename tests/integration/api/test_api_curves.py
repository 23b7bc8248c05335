"""Load curves over REST: exact, half-open, tagged, in JSON and CSV, across exchanges and ratios."""

import asyncio
import csv
import io
from datetime import datetime
from typing import Any

import psycopg
import pytest

from headend.store.tokens import Scope

DAY = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}
URL = "/api/v1/meters/M-1/load-curve"


@pytest.fixture
async def curve(house_on_both: Any) -> Any:
    await house_on_both.add_meter("M-1")
    await house_on_both.store("M-1", [(1000 + 7 * n, n) for n in range(96 * 2)])
    return house_on_both


async def test_a_day_as_metered(curve: Any) -> None:
    async with curve.client() as client:
        answer = await client.get(URL, params=DAY)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["meter"], body["profile"], body["count"], len(body["rows"])) == ("M-1", 1, 96, 96)
    first, last = body["rows"][0], body["rows"][-1]
    assert first["start"] == "2026-03-01T00:00:00Z"
    assert first["end"] == first["stamp"] == "2026-03-01T00:15:00Z"
    assert first["values"] == {"active_import": "1.000", "active_export": "0"}
    assert first["consumption"] == {"active_import": None, "active_export": None}
    assert first["reasons"] == {"active_import": "gap", "active_export": "gap"}
    assert last["end"] == "2026-03-02T00:00:00Z"
    assert last["consumption"] == {"active_import": "0.007", "active_export": "1"}
    assert "reasons" not in last
    assert (last["quality"], last["amr_status"], last["clock_status"]) == ("measured", 0, 0)
    channel = body["layouts"][first["layout"]]["active_import"]
    assert channel == {
        "obis": "1-0:1.8.0*255", "unit": "Wh", "scaler": -3, "kind": "cumulative", "modulus": 10**9,
    }  # fmt: skip


async def test_a_status_word_of_32_set_bits_is_told_unsigned(house: Any) -> None:
    await house.add_meter("M-1")
    await house.store("M-1", [(1000, 0)], amr_status=2**32 - 1)
    async with house.client() as client:
        (row,) = (await client.get(URL, params=DAY)).json()["rows"]
        text = (await client.get(URL, params={**DAY, "format": "csv"})).text
    assert row["amr_status"] == 4294967295
    assert text.splitlines()[1].split(",")[-3] == "4294967295"


async def test_the_row_before_the_range_gives_the_first_consumption(curve: Any) -> None:
    async with curve.client() as client:
        body = (
            await client.get(URL, params={"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T00:15:00Z"})
        ).json()
    (row,) = body["rows"]
    assert row["consumption"] == {"active_import": "0.007", "active_export": "1"}


async def test_offsets_are_instants(curve: Any) -> None:
    async with curve.client() as client:
        utc = await client.get(URL, params=DAY)
        cet = await client.get(
            URL, params={"from": "2026-03-01T01:00:00+01:00", "to": "2026-03-02T01:00:00+01:00"}
        )
    assert cet.json() == utc.json()


async def test_csv(curve: Any) -> None:
    async with curve.client() as client:
        answer = await client.get(URL, params={**DAY, "format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 96
    assert rows[1]["active_import"] == "1.007"
    assert rows[1]["active_import_unit"] == "Wh"
    assert rows[1]["active_import_consumption"] == "0.007"
    assert rows[0]["active_import_reason"] == "gap"
    assert rows[1]["reactive_import"] == ""
    assert rows[1]["reactive_import_reason"] == "no_channel"
    assert rows[1]["active_export"] == "1"
    assert rows[0]["active_export"] == "0"


async def test_an_empty_range_is_an_empty_curve(curve: Any) -> None:
    async with curve.client() as client:
        params = {"from": "2025-03-01T00:00:00Z", "to": "2025-03-02T00:00:00Z"}
        body = (await client.get(URL, params=params)).json()
        text = (await client.get(URL, params={**params, "format": "csv"})).text
    assert (body["count"], body["rows"], body["layouts"]) == (0, [], {})
    assert text.count("\r\n") == 1


async def test_etag_holds_until_something_changes(curve: Any) -> None:
    async with curve.client() as client:
        first = await client.get(URL, params=DAY)
        tag = first.headers["etag"]
        assert tag.startswith('"')
        assert first.headers["cache-control"] == "private, no-cache"
        same = await client.get(URL, params=DAY, headers={"If-None-Match": f'"other", {tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        # Another form, another range: other bytes, other tags.
        assert (await client.get(URL, params={**DAY, "format": "csv"})).headers["etag"] != tag
        # The same values again change nothing; one corrected value changes the tag.
        await curve.store("M-1", [(1000 + 7 * n, n) for n in range(96 * 2)])
        assert (await client.get(URL, params=DAY, headers={"If-None-Match": tag})).status_code == 304
        await curve.store("M-1", [(1001, 0)])
        changed = await client.get(URL, params=DAY, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag
        assert changed.json()["rows"][0]["values"]["active_import"] == "1.001"


async def test_a_change_of_the_row_before_changes_the_tag(curve: Any) -> None:
    params = {"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T00:15:00Z"}
    async with curve.client() as client:
        tag = (await client.get(URL, params=params)).headers["etag"]
        before = datetime.fromisoformat("2026-03-01T23:45:00Z")
        await curve.store("M-1", [(1000 + 7 * 95 - 1, 95)], first=before)
        answer = await client.get(URL, params=params, headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.json()["rows"][0]["consumption"]["active_import"] == "0.008"


async def test_gaps_nulls_and_rollover(house: Any) -> None:
    await house.add_meter("M-1")
    top = 10**9
    await house.store("M-1", [(top - 5, 5), (10, None), (30, 7)])
    await house.store("M-1", [(50, 9), (40, 9)], first=datetime.fromisoformat("2026-03-01T02:00:00Z"))
    async with house.client() as client:
        rows = (await client.get(URL, params=DAY)).json()["rows"]
    assert [r["consumption"]["active_import"] for r in rows] == [None, "0.015", "0.020", None, None]
    assert [r.get("reasons", {}).get("active_import") for r in rows] == [
        "gap",
        None,
        None,
        "gap",
        "decreased",
    ]
    assert [r["values"]["active_export"] for r in rows] == ["5", None, "7", "9", "9"]
    assert rows[1]["reasons"] == {"active_export": "no_reading"}
    assert rows[2]["reasons"] == {"active_export": "gap"}
    assert rows[4]["consumption"]["active_export"] == "0"


@pytest.mark.parametrize(
    ("params", "place", "words"),
    [
        ({"from": "2026-03-01T00:00:00", "to": DAY["to"]}, "from", "append Z or +01:00"),
        ({"from": DAY["from"], "to": "2026-03-02"}, "to", "RFC 3339"),
        ({"from": "2026-03-01T01:00:00 01:00", "to": DAY["to"]}, "from", "%2B"),
        ({"from": DAY["to"], "to": DAY["from"]}, "to", "later than 'from'"),
        ({"from": DAY["from"], "to": DAY["from"]}, "to", "later than 'from'"),
        ({"from": "2024-01-01T00:00:00Z", "to": DAY["to"]}, "to", "at most 400 days"),
        ({"from": "2026-02-30T00:00:00Z", "to": DAY["to"]}, "from", "no date of the calendar"),
        ({"from": "0001-01-01T00:00:00+14:00", "to": DAY["to"]}, "from", "no date of the calendar"),
        ({"to": DAY["to"]}, "from", "required"),
        ({**DAY, "format": "xml"}, "format", "'json' or 'csv'"),
        ({**DAY, "profile": "99999"}, "profile", "32767"),
        ({**DAY, "profile": "one"}, "profile", "integer"),
    ],
)
async def test_bad_questions_are_told_what_to_change(house: Any, params: Any, place: str, words: str) -> None:
    await house.add_meter("M-1")
    async with house.client() as client:
        answer = await client.get(URL, params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["instance"] == URL
    assert [e["parameter"] for e in body["errors"]] == [place]
    assert words in body["detail"]


async def test_unknown_meter_and_point(house: Any) -> None:
    async with house.client() as client:
        for path in ("/api/v1/meters/nobody/load-curve", "/api/v1/points/nowhere/load-curve"):
            answer = await client.get(path, params=DAY)
            assert answer.status_code == 404
            assert answer.json()["type"] == "/problems/not-found"


async def test_more_rows_than_an_answer_holds(curve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.load_curves.endpoints.MAX_ROWS", 95)
    async with curve.client() as client:
        answer = await client.get(URL, params=DAY)
    assert answer.status_code == 422
    assert "96 intervals" in answer.json()["detail"]


async def test_a_point_follows_the_exchange_and_applies_the_ratio(house_on_both: Any) -> None:
    house = house_on_both
    await house.add_meter("OLD")
    await house.add_meter("NEW")
    async with house.client(Scope.ADMIN) as client:
        ratio = {"since": "2026-01-01T00:00:00Z", "ct_numerator": "100", "ct_denominator": 5}
        made = await client.post("/api/v1/points", json={"code": "P", "ratio": ratio})
        assert made.status_code == 201, made.text
        since = {"meter": "OLD", "since": "2026-01-01T00:00:00Z"}
        assert (await client.post("/api/v1/points/P/installations", json=since)).status_code == 201
        at = {"meter": "NEW", "at": "2026-03-01T01:07:00Z", "start_registers": {"1.8.0": "0.000"}}
        assert (await client.post("/api/v1/points/P/exchange", json=at)).status_code == 201
        # 00:00 to 01:00 of the old meter, and one row after its removal that is not the point's.
        await house.store("OLD", [(1000, 0), (1010, 0), (1020, 0), (1030, 0), (1031, 0)])
        # 01:00 to 01:45 of the new one, and one row before it was installed that is not the point's.
        await house.store(
            "NEW", [(0, 0), (3, 0), (5, 0), (9, 0)], first=datetime.fromisoformat("2026-03-01T00:45:00Z")
        )
        body = (await client.get("/api/v1/points/P/load-curve", params=DAY)).json()
        rows = body["rows"]
        assert [r["meter"] for r in rows] == ["OLD"] * 4 + ["NEW"] * 3
        assert [r["values"]["active_import"] for r in rows[:2]] == ["20.000", "20.200"]
        used = [r["consumption"]["active_import"] for r in rows]
        assert used == [None, "0.200", "0.200", "0.200", None, "0.040", "0.080"]
        assert rows[4]["reasons"]["active_import"] == "meter_exchange"
        assert {r["ratio"] for r in rows} == {"20"}
        assert [i["meter"] for i in body["installations"]] == ["OLD", "NEW"]
        text = (await client.get("/api/v1/points/P/load-curve", params={**DAY, "format": "csv"})).text
        told = list(csv.DictReader(io.StringIO(text)))
        assert [r["active_import_consumption"] for r in told] == [u or "" for u in used]
        assert {r["rounded"] for r in told} == {"false"}
        # A ratio that changes at 00:20 leaves the interval around it without a number.
        tag = (await client.get("/api/v1/points/P/load-curve", params=DAY)).headers["etag"]
        third = {"since": "2026-03-01T00:20:00Z", "ct_numerator": 1, "ct_denominator": 3}
        assert (await client.post("/api/v1/points/P/ratios", json=third)).status_code == 201
        changed = await client.get("/api/v1/points/P/load-curve", params=DAY, headers={"If-None-Match": tag})
        rows = changed.json()["rows"]
        assert rows[1]["reasons"]["active_import"] == "ratio_change"
        assert rows[1]["ratio"] is None
        assert rows[2]["consumption"]["active_import"] == "0.003333333"
        assert rows[2]["rounded"] is True
        assert rows[0]["values"]["active_import"] == "20.000"
        # The meter's own curve stays as metered.
        own = (await client.get("/api/v1/meters/OLD/load-curve", params=DAY)).json()
        assert own["rows"][1]["consumption"]["active_import"] == "0.010"


async def test_no_connection_is_held_after_the_answer(curve: Any) -> None:
    async with curve.client() as client:
        for _ in range(6):
            assert (await client.get(URL, params=DAY)).status_code == 200
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    with psycopg.connect(curve.dsn, autocommit=True) as connection:
        async with asyncio.timeout(20):  # the answer is there a moment before its connection is given back
            while connection.execute(query).fetchone() != (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_the_readings_at_an_exchange_give_its_interval(house_on_both: Any) -> None:
    house = house_on_both
    await house.add_meter("OLD")
    await house.add_meter("NEW")
    async with house.client(Scope.ADMIN) as client:
        ratio = {"since": "2026-01-01T00:00:00Z", "ct_numerator": "100", "ct_denominator": 5}
        await client.post("/api/v1/points", json={"code": "P", "ratio": ratio})
        since = {"meter": "OLD", "since": "2026-03-01T00:00:00Z", "start_registers": {"1.8.0": "0.990"}}
        await client.post("/api/v1/points/P/installations", json=since)
        at = {"meter": "NEW", "at": "2026-03-01T00:20:00Z", "removal_registers": {"1.8.0": "1.004"}}
        await client.post("/api/v1/points/P/exchange", json=at | {"start_registers": {"1.8.0": "0.001"}})
        await house.store("OLD", [(1000, 0)])
        await house.store("NEW", [(0, 0), (3, 0), (9, 0)])
        rows = (await client.get("/api/v1/points/P/load-curve", params=DAY)).json()["rows"]
    assert [r["meter"] for r in rows] == ["OLD", "NEW", "NEW"]
    # times 20: 1000 - 990, (1004 - 1000) + (3 - 1), 9 - 3
    assert [r["consumption"]["active_import"] for r in rows] == ["0.200", "0.120", "0.120"]
    assert [r["reasons"]["active_export"] for r in rows[:2]] == ["gap", "meter_exchange"]


async def test_an_exchange_on_the_quarter_hour(house: Any) -> None:
    """The interval that ends at the exchange is the old meter's, the one that begins there the new one's."""
    await house.add_meter("OLD")
    await house.add_meter("NEW")
    async with house.client(Scope.ADMIN) as client:
        await client.post("/api/v1/points", json={"code": "P"})
        since = {"meter": "OLD", "since": "2026-03-01T00:00:00Z"}
        await client.post("/api/v1/points/P/installations", json=since)
        await client.post("/api/v1/points/P/exchange", json={"meter": "NEW", "at": "2026-03-01T00:30:00Z"})
        await house.store("OLD", [(1, 0), (2, 0), (3, 0)])
        await house.store("NEW", [(0, 0), (0, 0), (5, 0), (9, 0)])
        rows = (await client.get("/api/v1/points/P/load-curve", params=DAY)).json()["rows"]
        later = {"from": "2026-03-01T00:45:00Z", "to": DAY["to"]}
        tail = (await client.get("/api/v1/points/P/load-curve", params=later)).json()["rows"]
    assert [(r["meter"], r["start"][11:16]) for r in rows] == [
        ("OLD", "00:00"), ("OLD", "00:15"), ("NEW", "00:30"), ("NEW", "00:45"),
    ]  # fmt: skip
    assert [r["consumption"]["active_import"] for r in rows] == [None, "0.001", None, "0.004"]
    assert [r["consumption"]["active_import"] for r in tail] == ["0.004"]
