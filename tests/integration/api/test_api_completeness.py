"""GET /completeness with who is missing, gaps and reports; GET /meters/{id}/why-late."""

from datetime import timedelta
from typing import Any

import pytest

from headend.store import completeness, gaps, link_states, meters, network, reports
from headend.store.completeness import ModelCurve
from headend.store.link_states import Change, LinkState
from headend.store.network import Hanging, NewNode
from schemas.meter import MeterState
from schemas.network import LinkKind, NodeKind
from tests.integration.api.conftest import NOW, T0

DAY = timedelta(days=1)
WINDOW = {"day": "2026-03-02"}


@pytest.fixture
async def county(house: Any) -> Any:
    """Three meters on March 2: A is there, B lacks six hours (of which it has lost one), C has never
    answered; A and B behind a concentrator."""
    async with house.pool.connection() as connection:
        await completeness.keep_contract(connection, [ModelCurve("headend-sim", 1, 900, "stored")])
    for name in ("A", "B", "C"):
        await house.add_meter(name, feeder="F-1" if name == "C" else "F-2", address="tcp://192.0.2.1:4059")
        async with house.pool.connection() as connection:
            for n, state in enumerate((MeterState.INSTALLED, MeterState.COMMISSIONED), 1):
                await meters.change_state(
                    connection, house.ids[name], state, since=T0 + n * timedelta(hours=1)
                )
    async with house.pool.connection() as connection:
        made = await network.add_nodes(
            connection,
            [NewNode("DC", NodeKind.CONCENTRATOR), *(NewNode(n, NodeKind.METER, house.ids[n]) for n in "AB")],
        )
        await network.hang(
            connection, [Hanging(made[n], made["DC"], LinkKind.PLC_NARROWBAND) for n in "AB"], at=T0
        )
        silent = LinkState("meter", str(house.ids["C"]), T0, NOW + DAY, 3, 0, "timeout", "nothing came")
        await link_states.keep(connection, [Change(T0, "meter", silent.id, silent)])
        await connection.execute(
            "INSERT INTO coverage VALUES (%s, 1, tstzmultirange(tstzrange(%s, %s)))",
            (house.ids["B"], T0 + DAY, T0 + DAY + timedelta(hours=1)),
        )
    await house.store("A", [(1, None)] * 96, first=T0 + DAY)
    await house.store("B", [(1, 1)] * 72, first=T0 + DAY + timedelta(hours=6))
    return house


async def get(house: Any, path: str, status: int = 200, **query: Any) -> Any:
    async with house.client() as client:
        answer = await client.get(f"/api/v1{path}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_day_is_told_by_groups_the_least_complete_first(county: Any) -> None:
    told = await get(county, "/completeness", by="concentrator", **WINDOW)
    assert (told["from"], told["to"]) == ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
    assert told["now"] == {
        "meters": 3, "incomplete": 2, "expected": 288, "present": 168, "lost": 4, "open": 116,
        "ratio": 0.583333,
    }  # fmt: skip
    assert told["forecast"]["reason"] == "no run of a schedule is under way"
    assert [(one["name"], one["present"]) for one in told["groups"]] == [(None, 0), ("DC", 168)]
    for by, names in (
        ("network", [None]), ("feeder", ["F-1", "F-2"]), ("model", ["headend-sim"]), ("profile", ["1"]),
        ("cause", ["timeout", "not_asked", None]),
    ):  # fmt: skip
        groups = (await get(county, "/completeness", by=by, **WINDOW))["groups"]
        assert [one["name"] for one in groups] == names, by
        assert sum(one["expected"] for one in groups) == 288


async def test_groups_come_in_pages(county: Any) -> None:
    first = await get(county, "/completeness", by="feeder", limit=1, **WINDOW)
    rest = await get(county, "/completeness", by="feeder", limit=1, after=first["next"], **WINDOW)
    assert [one["name"] for told in (first, rest) for one in told["groups"]] == ["F-1", "F-2"]
    assert rest["next"] is None


async def test_who_is_missing_and_why(county: Any) -> None:
    first = await get(county, "/completeness/missing", limit=1, **WINDOW)
    rest = await get(county, "/completeness/missing", limit=1, after=first["next"], **WINDOW)
    (b,), (c,) = first["missing"], rest["missing"]
    assert b == {
        "asset_id": "B", "profile": 1, "model": "headend-sim", "feeder": "F-2", "station": "DC",
        "cause": "not_asked", "expected": 96, "present": 72, "lost": 4, "open": 20,
        "first_open": "2026-03-02T01:00:00Z",
    }  # fmt: skip
    assert (c["asset_id"], c["cause"], c["station"], c["open"]) == ("C", "timeout", None, 96)
    assert rest["next"] is None
    for query, names in (
        ({"cause": "timeout"}, ["C"]), ({"station": "DC"}, ["B"]), ({"feeder": "F-1"}, ["C"]),
        ({"model": "x"}, []),
    ):  # fmt: skip
        found = (await get(county, "/completeness/missing", **query, **WINDOW))["missing"]
        assert [one["asset_id"] for one in found] == names


async def test_values_are_counted_within_rows(county: Any) -> None:
    told = await get(county, "/completeness/channels", **WINDOW)
    assert told["channels"] == [
        {"quantity": "active_import", "rows": 168, "values": 168},
        {"quantity": "active_export", "rows": 168, "values": 72},
    ]
    refused = await get(
        county,
        "/completeness/channels",
        422,
        **{"from": "2026-03-01T00:00:00Z", "to": "2026-03-09T00:00:00Z"},
    )
    assert refused["errors"][0]["parameter"] == "to"


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"day": "2026-02-30"}, "day"),
        ({"day": "0001-01-01"}, "day"),
        ({"day": "2026-03-01", "zone": "Mars/Olympus"}, "zone"),
        ({"day": "2026-03-01", "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}, "day"),
        ({"from": "2026-03-01T00:00:00Z"}, "to"),
        ({"to": "2026-03-01T00:00:00Z"}, "from"),
        ({"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "to"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}, "to"),
    ],
)
async def test_a_window_that_is_none_is_refused_with_its_place(house: Any, query: Any, where: str) -> None:
    assert (await get(house, "/completeness", 422, **query))["errors"][0]["parameter"] == where


async def test_a_day_is_a_local_one_and_yesterday_where_none_is_given(house: Any) -> None:
    told = await get(house, "/completeness", day="2026-03-29", zone="Europe/Berlin")
    assert (told["from"], told["to"]) == ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")
    assert (told["now"]["ratio"], told["groups"]) == (1.0, told["groups"])
    assert (await get(house, "/completeness"))["from"] == "2026-03-09T00:00:00Z"


async def test_the_ledger_and_reports_are_paged(county: Any) -> None:
    async with county.pool.connection() as connection:
        await gaps.open_missing(connection, T0 + DAY, T0 + 2 * DAY, now=NOW)
        for n in range(2):
            await reports.insert(
                connection, job_id=n, schedule_id=7, title="night", occasion="end", made_at=NOW, since=T0,
                until=T0 + DAY, body={"requests": {}, "missing": [{"meter": "B"}]},
            )  # fmt: skip
    told = await get(county, "/completeness/gaps", state="open", limit=1)
    rest = await get(county, "/completeness/gaps", limit=1, after=told["next"])
    assert {told["gaps"][0]["asset_id"], rest["gaps"][0]["asset_id"]} == {"B", "C"}
    (b,) = (await get(county, "/completeness/gaps", meter="B"))["gaps"]
    assert b["missing"] == [{"from": "2026-03-02T01:00:00Z", "to": "2026-03-02T06:00:00Z"}]
    assert (b["from"], b["state"], b["tries"], b["wraps_at"]) == ("2026-03-02T01:00:00Z", "open", 0, None)
    await get(county, "/completeness/gaps", 404, meter="nobody")
    listed = await get(county, "/completeness/reports", limit=1, schedule_id=7)
    assert [(one["job_id"], "missing" in one["body"]) for one in listed["reports"]] == [(1, False)]
    older = await get(county, "/completeness/reports", after=listed["next"])
    assert [one["job_id"] for one in older["reports"]] == [0]
    whole = await get(county, f"/completeness/reports/{older['reports'][0]['report_id']}")
    assert whole["body"]["missing"] == [{"meter": "B"}]
    await get(county, "/completeness/reports/4711", 404)


async def test_a_meter_says_why_it_is_late(county: Any) -> None:
    told = await get(county, "/meters/C/why-late")
    assert (told["late"], told["stage"], told["meaning"] in told["summary"]) == (True, "timeout", True)
    assert told["holds"][0] == {
        "kind": "silent meter",
        "text": "the meter has not answered since 2026-03-01 00:00:00Z: nothing came; it is only probed",
        "until": "2026-03-11T12:00:00Z",
    }
    assert told["advice"][0] == "when it is mended: headend links reset meter C"
    assert told["curves"][0]["present"] == 0
    async with county.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO attempts"
            " VALUES (%s, 1, 1, %s, 20011, 10, 0, 0, 3, 'gateway', 'peer', 'not reached', 'w-1')",
            (NOW, county.ids["C"]),
        )
    (made,) = (await get(county, "/meters/C/why-late"))["attempts"]
    assert (made["began_at"], made["took_ms"], made["stage"]) == ("2026-03-10T12:00:00Z", 20011, "gateway")
    await get(county, "/meters/nobody/why-late", 404)


async def test_what_waits_for_a_meter_is_told_with_its_place(county: Any) -> None:
    from headend.store import jobs
    from headend.store.jobs import NewJob
    from schemas.job import Curves, JobKind

    county.lanes.answer = None
    async with county.pool.connection() as connection:
        for title in ("first", "night"):
            job_id = await jobs.create(
                connection,
                NewJob(JobKind.SCHEDULED, title, (Curves(),), 5, NOW + DAY, NOW + DAY, "test", "c"),
            )
            assert job_id is not None
            await jobs.add_requests(
                connection, job_id, [county.ids["A" if title == "first" else "B"]],
                urgency=20, due_by=NOW, next_at=NOW, drop_dead=NOW + DAY,
            )  # fmt: skip
    told = await get(county, "/meters/B/why-late")
    (held,) = told["holds"]
    assert held["text"].startswith("night: nobody works at its lane station:")
    assert held["text"].endswith("1 requests are before it")
    assert told["next_try_at"] == "2026-03-10T12:00:00Z"
