"""Clocks over REST: the series of one, the fleet's histogram, and intervals in which one was changed."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headend.cli import read_view
from headend.store import clocks
from headend.store.tokens import Scope
from schemas.clock import ClockReading, MeterClockReading
from schemas.job import CurveRange

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}


def read(meter_id: int, ago_h: float, offset_s: float) -> MeterClockReading:
    at = NOW - timedelta(hours=ago_h)
    one = ClockReading(at, timedelta(seconds=offset_s), timedelta(seconds=1), -60, 0)
    return MeterClockReading(meter_id, one, "read")


@pytest.fixture
async def fleet(house_on_both: Any) -> Any:
    """M-1 gains 10 s a day, M-2 is right, M-3 was put right this morning, M-4 is 400 s behind."""
    numbers = [await house_on_both.add_meter(f"M-{n}") for n in range(1, 5)]
    one, two, three, four = numbers
    told = [read(one, 24 * day, 20 - 10 * day) for day in range(3)]
    told += [read(two, 24 * day, 0) for day in range(20)]
    told += [read(three, 48, -900), read(three, 24, -950), read(three, 1, 0)]
    told += [read(four, 2, -400)]
    async with house_on_both.pool.connection() as connection:
        await clocks.insert(connection, told)
        await clocks.insert(connection, told[:2])  # again: nothing
        for step, took_effect in (("shift-1", False), ("set-2", True)):
            shown = (NOW - timedelta(hours=2, seconds=950), NOW - timedelta(hours=2))
            await clocks.intend_change(
                connection, 1, three, step, at=NOW - timedelta(hours=2), change="set", shown=shown
            )
            await clocks.settle_change(connection, 1, three, step, took_effect=took_effect)
    return house_on_both


async def test_the_fleet_as_a_histogram(fleet: Any) -> None:
    async with fleet.client() as client:
        body = (await client.get("/api/v1/clock/drift", params={"beyond_s": 100})).json()
    assert body["meters"] == 4
    assert {(one["low_s"], one["high_s"]): one["meters"] for one in body["bins"] if one["meters"]} == {
        (-900, -300): 1, (-1, 1): 2, (10, 30): 1,
    }  # fmt: skip
    (model,) = body["models"]
    assert (model["rated"], model["fastest_ppm"], model["slowest_ppm"]) == (2, "115.7", "0.0")
    assert body["beyond"] == 1
    (far,) = body["outliers"]
    assert (far["meter"], far["offset_s"], far["uncertainty_s"], far["ppm"]) == (
        "M-4",
        "-400.000",
        "1.000",
        None,
    )


async def test_the_series_of_one(fleet: Any) -> None:
    async with fleet.client() as client:
        body = (await client.get("/api/v1/meters/M-1/clock", params={"limit": 2})).json()
        assert [one["offset_s"] for one in body["readings"]] == ["20.000", "10.000"]
        assert body["readings"][0]["deviation_min"] == -60
        assert body["changes"] == []
        changes = (await client.get("/api/v1/meters/M-3/clock")).json()["changes"]
        assert [(one["change"], one["took_effect"], one["campaign"]) for one in changes] == [
            ("set", True, 1), ("set", False, 1),
        ]  # fmt: skip
        assert changes[0]["from"] < changes[0]["to"] == changes[0]["at"]
        assert (await client.get("/api/v1/meters/NOPE/clock")).status_code == 404
        bad = await client.get("/api/v1/meters/M-1/clock", params={"from": "yesterday"})
        assert bad.status_code == 422


async def test_intervals_over_which_a_clock_was_changed_say_so(house_on_both: Any) -> None:
    house, url = house_on_both, "/api/v1/meters/M-1/load-curve"
    number = await house.add_meter("M-1")
    await house.store("M-1", [(1000 + 7 * n, n) for n in range(96)])
    async with house.client() as client:
        before = await client.get(url, params=DAY)
        assert not any("clock_changed" in row for row in before.json()["rows"])
        async with house.pool.connection() as connection:
            shown = [datetime(2026, 3, 1, 10, minute, tzinfo=UTC) for minute in (20, 2)]
            await clocks.intend_change(connection, 1, number, "set-1", at=NOW, change="set", shown=shown)
        after = await client.get(url, params=DAY)
        assert after.headers["ETag"] != before.headers["ETag"]
        starts = [row["start"][11:16] for row in after.json()["rows"] if row.get("clock_changed")]
        assert starts == ["10:00", "10:15"]
        text = (await client.get(url, params={**DAY, "format": "csv"})).text.splitlines()
        assert [line.endswith(",true") for line in text].count(True) == 2
        async with house.pool.connection() as connection:
            await clocks.settle_change(connection, 1, number, "set-1", took_effect=False)
        undone = (await client.get(url, params=DAY)).json()
        assert not any("clock_changed" in row for row in undone["rows"])


async def test_whoever_hands_on_intervals_marks_the_same_ones(house_on_both: Any) -> None:
    """A meter's curve and its point's, JSON and CSV, and the command line."""
    house = house_on_both
    number = await house.add_meter("M-1")
    await house.store("M-1", [(1000 + 7 * n, n) for n in range(96)])
    async with house.pool.connection() as connection:
        shown = [datetime(2026, 3, 1, 10, minute, tzinfo=UTC) for minute in (20, 2)]
        await clocks.intend_change(connection, 1, number, "set-1", at=NOW, change="set", shown=shown)
    marked = {f"2026-03-01T10:{minute}:00Z" for minute in ("00", "15")}
    async with house.client(Scope.ADMIN) as client:
        assert (await client.post("/api/v1/points", json={"code": "P"})).status_code == 201
        since = {"meter": "M-1", "since": "2026-01-01T00:00:00Z"}
        assert (await client.post("/api/v1/points/P/installations", json=since)).status_code == 201
        for url in ("/api/v1/meters/M-1/load-curve", "/api/v1/points/P/load-curve"):
            told = (await client.get(url, params=DAY)).json()["rows"]
            assert {row["start"] for row in told if row.get("clock_changed")} == marked
            table = (await client.get(url, params={**DAY, "format": "csv"})).text
            lines = list(csv.DictReader(io.StringIO(table, newline="")))
            assert {line["start"] for line in lines if line["clock_changed"] == "true"} == marked
    whole = CurveRange(profile=1, since=DAY["from"], until=DAY["to"])
    rows, _ = await read_view.curve(house.pool, number, [whole])
    assert {row["start"] for row in rows if row.get("clock_changed")} == marked


async def test_what_our_own_clock_drew_is_not_marked(house_on_both: Any) -> None:
    house = house_on_both
    number = await house.add_meter("M-1")
    await house.store("M-1", [(1000 + 7 * n, n) for n in range(96)])
    async with house.pool.connection() as connection:
        await connection.execute("UPDATE interval_reads SET quality = 2 WHERE start = '2026-03-01T10:00Z'")
        shown = [datetime(2026, 3, 1, 10, minute, tzinfo=UTC) for minute in (20, 2)]
        await clocks.intend_change(connection, 1, number, "set-1", at=NOW, change="set", shown=shown)
    async with house.client() as client:
        told = (await client.get("/api/v1/meters/M-1/load-curve", params=DAY)).json()["rows"]
    assert [row["start"][11:16] for row in told if row.get("clock_changed")] == ["10:15"]
