"""Lists as whoever is limited to areas sees them: cut in the query, so that pages and numbers are of what he
sees, and what lies elsewhere is told as what does not exist."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headend.store import (
    areas,
    completeness,
    gaps,
    groups,
    jobs,
    link_states,
    meters,
    network,
    reports,
    schedules,
)
from headend.store.completeness import ModelCurve
from headend.store.link_states import Change, LinkState
from headend.store.network import Hanging, NewNode
from headend.store.writer import write
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.job import Curves, JobKind, Selection
from schemas.meter import MeterState
from schemas.network import LinkKind, NodeKind
from schemas.reading import registers_only
from schemas.schedule import Schedule
from tests.integration.api.conftest import NOW, T0, app_over
from tests.integration.api.test_api_sessions import browser
from tests.integration.people import account, people

DAY = timedelta(days=1)
WINDOW = {"day": "2026-03-02"}
US = round(T0.timestamp()) * 1_000_000
WORK = (Curves(),)


async def _county(house: Any) -> AsyncIterator[Any]:
    """N-1 and N-2 in the group north; S-1 behind DC-1; X-1 elsewhere; N-1 and X-1 in the group mixed.

    gina is limited to north, dora to DC-1, nobody's area is empty. T-1 is above N-1, X-1 and both stations.
    """
    house.pages = {}
    house.people = people()
    house.app = app_over(replace(house.app.state.services, people=house.people))
    for name in ("N-1", "N-2", "S-1", "X-1"):
        number = await house.add_meter(name, address="tcp://127.0.0.1:1", feeder="F-1")
        async with house.pool.connection() as connection:
            for hour, state in ((1, MeterState.INSTALLED), (2, MeterState.COMMISSIONED)):
                await meters.change_state(connection, number, state, since=T0.replace(hour=hour))
    async with house.pool.connection() as connection:
        for name, members in (("north", ["N-1", "N-2"]), ("mixed", ["N-1", "X-1"]), ("far", ["X-1"])):
            await groups.add(connection, name, meters=members, actor="test")
        new = [
            NewNode("F-1", NodeKind.FEEDER),
            NewNode("T-1", NodeKind.TRANSFORMER),
            NewNode("DC-1", NodeKind.CONCENTRATOR),
            NewNode("DC-2", NodeKind.CONCENTRATOR),
            *(NewNode(name, NodeKind.METER, house.ids[name]) for name in ("N-1", "S-1", "X-1")),
        ]
        made = house.nodes = await network.add_nodes(connection, new)
        wanted = [
            Hanging(made["T-1"], made["F-1"], None),
            *(Hanging(made[name], made["T-1"], None) for name in ("DC-1", "DC-2", "N-1")),
            Hanging(made["S-1"], made["DC-1"], LinkKind.PLC_NARROWBAND),
            Hanging(made["X-1"], made["DC-2"], LinkKind.PLC_NARROWBAND),
        ]
        await network.hang(connection, wanted, at=T0)
    for login, role in (("gina", "viewer:north"), ("dora", "viewer:DC-1"), ("nemo", "viewer:far")):
        await account(house.pool, house.people, login, role)
    async with house.pool.connection() as connection:
        await groups.remove(connection, "far", actor="test")
        await groups.add(connection, "far-off", meters=["X-1"], actor="test")
    async with AsyncExitStack() as stack:
        for login in ("gina", "dora", "nemo"):
            page = house.pages[login] = await stack.enter_async_context(browser(house))
            await page.come_in(login=login)
        yield house


@pytest.fixture
async def county(house: Any) -> AsyncIterator[Any]:
    async for made in _county(house):
        yield made


@pytest.fixture
async def county_on_both(house_on_both: Any) -> AsyncIterator[Any]:
    async for made in _county(house_on_both):
        yield made


async def seen(house: Any, login: str, path: str, status: int = 200, **query: Any) -> Any:
    answer = await house.pages[login].get(f"/api/v1{path}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


def names(told: Any, what: str, name: str) -> list[str]:
    return [one[name] for one in told[what]]


async def test_events_and_completeness_of_his_meters(county_on_both: Any) -> None:
    await _events(county_on_both)
    await _completeness(county_on_both)


async def _events(house: Any) -> None:
    def event(meter: str | None, minute: int, node: str | None = None) -> MeterEvent:
        at = US + minute * 60_000_000
        number = None if meter is None else house.ids[meter]
        return MeterEvent(
            number, EventLog.STANDARD, EventMeaning.POWER_DOWN, 1, at, at + 1, "tcp://192.0.2.1:1", node=node
        )

    told = [event(name, n) for n, name in enumerate(("N-1", "X-1", "N-2", "X-1", "S-1", "N-1"))]
    told += [event(None, 6, "DC-1"), event(None, 7, "DC-2"), event("X-1", 8, "DC-1")]
    await write(house.pool, registers_only([], source="test", events=told))
    first = await seen(house, "gina", "/events", limit=2)
    rest = await seen(house, "gina", "/events", limit=2, after=first["next"])
    assert names(first, "events", "meter") + names(rest, "events", "meter") == ["N-1", "N-2", "N-1"]
    assert rest["next"] is None
    at_dc = await seen(house, "dora", "/events")
    assert [(one["meter"], one["node"]) for one in at_dc["events"]] == [(None, "DC-1"), ("S-1", None)]
    assert (await seen(house, "dora", "/events", node="DC-2"))["events"] == []
    assert "no meter has" in (await seen(house, "gina", "/events", 404, meter="X-1"))["detail"]
    assert (await seen(house, "nemo", "/events"))["events"] == []


async def test_groups_and_the_network(county: Any) -> None:
    await _groups(county)
    await _network(county)


async def _groups(house: Any) -> None:
    told = await seen(house, "gina", "/groups")
    assert [(one["name"], one["meters"]) for one in told["groups"]] == [("mixed", 1), ("north", 2)]
    one = await seen(house, "gina", "/groups", limit=1)
    assert names(await seen(house, "gina", "/groups", after=one["next"]), "groups", "name") == ["north"]
    assert (await seen(house, "gina", "/groups/mixed/meters"))["meters"] == ["N-1"]
    assert (await seen(house, "gina", "/groups/mixed"))["meters"] == 1
    assert (await seen(house, "gina", "/groups", meter="X-1"))["groups"] == []
    for path in ("/groups/far-off", "/groups/far-off/meters"):
        hidden = await seen(house, "gina", path, 404)
        unknown = await seen(house, "gina", path.replace("far-off", "none"), 404)
        assert hidden["detail"].replace("far-off", "none") == unknown["detail"], "told alike"
    assert (await seen(house, "nemo", "/groups"))["groups"] == []


async def _network(house: Any) -> None:
    gina = await seen(house, "gina", "/network/nodes")
    assert names(gina, "nodes", "code") == ["F-1", "N-1", "T-1"]
    dora = await seen(house, "dora", "/network/nodes", limit=3)
    more = await seen(house, "dora", "/network/nodes", after=dora["next"])
    assert names(dora, "nodes", "code") + names(more, "nodes", "code") == ["DC-1", "F-1", "S-1", "T-1"]
    assert names(await seen(house, "dora", "/network/nodes", parent="T-1"), "nodes", "code") == ["DC-1"]
    (top,) = (await seen(house, "dora", "/network/tree", depth=0))["roots"]
    assert (top["code"], top["below"]) == ("F-1", {"transformer": 1, "concentrator": 1, "meter": 1})
    (top,) = (await seen(house, "gina", "/network/tree", depth=9))["roots"]
    assert [one["code"] for one in top["children"][0]["children"]] == ["N-1"]
    assert (await seen(house, "gina", "/network/nodes/T-1"))["below"] == {"meter": 1}
    at = [("meter", house.ids[name]) for name in ("N-1", "X-1")]
    at += [("station", house.nodes[name]) for name in ("DC-1", "DC-2")] + [("line", "/dev/ttyS0")]
    async with house.pool.connection() as connection:
        silent = [LinkState(kind, str(n), T0, NOW, 3, 0, "timeout", "nothing came") for kind, n in at]
        await link_states.keep(connection, [Change(T0, one.kind, one.id, one) for one in silent])
    assert names(await seen(house, "gina", "/links"), "links", "name") == ["N-1"]
    assert names(await seen(house, "dora", "/links"), "links", "name") == ["DC-1"]
    for path, query in (
        ("/network/nodes/X-1", {}), ("/network/nodes", {"parent": "X-1"}), ("/network/tree", {"root": "X-1"}),
    ):  # fmt: skip
        hidden = await seen(house, "gina", path, 404, **query)
        assert hidden["detail"].startswith("the network has no node 'X-1'"), path
    assert (await seen(house, "nemo", "/network/tree"))["roots"] == []

    async with house.pool.connection() as connection:
        await network.move(connection, "S-1", "DC-2", kind=LinkKind.PLC_NARROWBAND, at=T0 + DAY)
        await network.move(connection, "S-1", "DC-1", kind=LinkKind.PLC_NARROWBAND, at=T0 + 2 * DAY)
    past = (await seen(house, "dora", "/network/nodes/S-1"))["history"]
    assert [one["parent"] for one in past] == ["DC-1", "DC-1"]


async def _completeness(house: Any) -> None:
    async with house.pool.connection() as connection:
        await completeness.keep_contract(connection, [ModelCurve("headend-sim", 1, 900, "stored")])
        await gaps.open_missing(connection, T0 + DAY, T0 + 2 * DAY, now=NOW)
    await house.store("N-1", [(1, 1)] * 96, first=T0 + DAY)
    await house.store("X-1", [(1, None)] * 96, first=T0 + DAY)
    told = await seen(house, "gina", "/completeness", by="feeder", **WINDOW)
    assert (told["now"]["meters"], told["now"]["expected"], told["now"]["present"]) == (2, 192, 96)
    assert [(one["name"], one["meters"]) for one in told["groups"]] == [("F-1", 2)]
    assert names(await seen(house, "gina", "/completeness/missing", **WINDOW), "missing", "asset_id") == [
        "N-2"
    ]
    channels = (await seen(house, "gina", "/completeness/channels", **WINDOW))["channels"]
    assert [(one["quantity"], one["values"]) for one in channels][:2] == [
        ("active_import", 96), ("active_export", 96),
    ]  # fmt: skip
    first = await seen(house, "gina", "/completeness/gaps", limit=1)
    rest = await seen(house, "gina", "/completeness/gaps", after=first["next"])
    assert sorted(names(first, "gaps", "asset_id") + names(rest, "gaps", "asset_id")) == ["N-1", "N-2"]
    assert "no meter has" in (await seen(house, "gina", "/completeness/gaps", 404, meter="X-1"))["detail"]
    nothing = await seen(house, "nemo", "/completeness", **WINDOW)
    assert (nothing["now"]["meters"], nothing["groups"]) == (0, [])


async def _job(house: Any, title: str, *asked: int, schedule: int | None = None) -> int:
    async with house.pool.connection() as connection:
        job = await jobs.create(
            connection,
            jobs.NewJob(
                JobKind.SCHEDULED, title, WORK, 5, NOW + DAY, NOW + DAY, "schedule", title,
                schedule_id=schedule, run_at=NOW,
            ),
        )  # fmt: skip
        assert job is not None
        await jobs.add_requests(
            connection, job, asked, urgency=2, due_by=NOW + DAY, next_at=NOW + DAY, drop_dead=NOW + DAY
        )
    return job


async def test_what_is_under_way(county: Any) -> None:
    county.lanes.answer = None
    await _job(county, "far", county.ids["X-1"])
    for login in ("gina", "dora"):
        idle = await seen(county, login, "/completeness", **WINDOW)
        assert idle["forecast"]["reason"] == "no run of a schedule is under way", login
    await _schedules(county)
    await _jobs_and_reports(county)
    await _forecasts(county)


async def _forecasts(house: Any) -> None:
    for login in ("gina", "dora"):
        told = await seen(house, login, "/completeness", **WINDOW)
        assert told["forecast"]["at"] == "2026-03-11T12:00:00Z", login
    async with house.pool.connection() as connection:
        own = await areas.within(connection, {"north"})
        await completeness.count(connection, T0 + DAY, T0 + 2 * DAY, now=NOW, meter_ids=sorted(own.meters))
        work = await completeness.work(connection, now=NOW, pace_since=T0, successes_since=T0, within=own)
    assert work is not None
    assert sum(one.requests for one in work.ahead) == 2


async def _schedules(house: Any) -> None:
    selections = {
        "all": {}, "north": {"groups": ["north"]}, "both": {"groups": ["north", "mixed"]},
        "north-sim": {"groups": ["north"], "models": ["headend-sim"]}, "feeder": {"feeders": ["F-1"]},
        "by-name": {"meters": ["N-1", "N-2"]}, "mixed-names": {"meters": ["N-1", "X-1"]},
        "station": {"stations": ["DC-1"]}, "stations": {"stations": ["DC-1", "DC-2"]},
        "concentrator": {"meters": ["DC-1"]},
    }  # fmt: skip
    async with house.pool.connection() as connection:
        for name, selection in selections.items():
            plan = Schedule(
                name=name, cron="0 1 * * *", works=WORK, deadline="06:00", selection=Selection(**selection)
            )
            await schedules.add(connection, plan, next_at=NOW)
    told = await seen(house, "gina", "/schedules", limit=2)
    more = await seen(house, "gina", "/schedules", after=told["next"])
    assert names(told, "schedules", "name") + names(more, "schedules", "name") == [
        "by-name", "north", "north-sim",
    ]  # fmt: skip
    assert names(await seen(house, "dora", "/schedules"), "schedules", "name") == ["concentrator", "station"]
    for what in ("", "/runs", "/jobs"):
        await seen(house, "gina", f"/schedules/north{what}")
        hidden = await seen(house, "gina", f"/schedules/all{what}", 404)
        assert hidden["detail"].startswith("no schedule 'all'"), what
    assert (await seen(house, "nemo", "/schedules"))["schedules"] == []


async def _jobs_and_reports(house: Any) -> None:
    async with house.pool.connection() as connection:
        number = (await schedules.get(connection, "north")).schedule_id
    north = await _job(house, "north", house.ids["N-1"], house.ids["N-2"], schedule=number)
    station = await _job(house, "station", -house.nodes["DC-1"])
    every = await _job(house, "every", house.ids["N-1"], house.ids["X-1"], -house.nodes["DC-1"])
    empty = await _job(house, "empty")
    made = {}
    async with house.pool.connection() as connection:
        for job in (north, station, every, empty):
            made[job] = await reports.insert(
                connection, job_id=job, schedule_id=None, title="run", occasion="end", made_at=NOW, since=T0,
                until=T0 + DAY, body={},
            )  # fmt: skip
    for login, own in (("gina", north), ("dora", station)):
        assert names(await seen(house, login, "/jobs"), "jobs", "id") == [own], login
        told = await seen(house, login, "/completeness/reports")
        assert names(told, "reports", "report_id") == [made[own]], login
        await seen(house, login, f"/completeness/reports/{made[own]}")
        await seen(house, login, f"/jobs/{own}/requests")
        for other in {north, station, every, empty} - {own}:
            await seen(house, login, f"/completeness/reports/{made[other]}", 404)
            await seen(house, login, f"/jobs/{other}", 404)
    assert names(await seen(house, "gina", "/schedules/north/jobs"), "jobs", "id") == [north]
