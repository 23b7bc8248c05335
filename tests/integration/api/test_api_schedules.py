"""Schedules, groups and tags over HTTP: made, changed, refused with the place of what is wrong."""

from typing import Any

import pytest

from headend.store import meters
from headend.store.tokens import Scope
from schemas.meter import MeterState

from .conftest import NOW, T0

URL = "/api/v1/schedules"
NIGHTLY = {
    "name": "nightly", "cron": "0 1 * * *", "zone": "Europe/Berlin", "works": [{"kind": "curves"}],
    "deadline": "06:00", "window": {"closes": "05:30"},
}  # fmt: skip


MODEL_AND_GROUP = ["/selection/models/0", "/selection/groups/0"]


async def commission(house: Any, *names: str) -> None:
    for name in names:
        number = await house.add_meter(name, address="tcp://127.0.0.1:4059")
        async with house.pool.connection() as connection:
            for state, hours in ((MeterState.INSTALLED, 1), (MeterState.COMMISSIONED, 2)):
                since = T0.replace(hour=hours)
                await meters.change_state(connection, number, state, since=since)


async def test_the_life_of_a_schedule(house: Any) -> None:
    await commission(house, "M-1", "M-2")
    async with house.client(Scope.OPERATE) as client:
        made = await client.post(URL, json=NIGHTLY)
        assert made.status_code == 201, made.text
        assert made.headers["location"] == f"{URL}/nightly"
        told = made.json()
        assert told["next_at"] == "2026-03-11T00:00:00Z"
        assert told["selection"]["meters"] == []
        assert told["retry"]["attempts"] == 5
        assert (await client.post(URL, json=NIGHTLY)).status_code == 409
        seen = await client.get(f"{URL}/nightly")
        assert seen.json() == told
        tag = seen.headers["etag"]
        assert tag == made.headers["etag"]

        later = NIGHTLY | {"cron": "30 2 * * *"}
        changed = await client.put(f"{URL}/nightly", json=later, headers={"If-Match": tag})
        assert changed.status_code == 200, changed.text
        assert changed.json()["next_at"] == "2026-03-11T01:30:00Z"
        for method in ("PUT", "DELETE"):
            body = NIGHTLY if method == "PUT" else None
            late = await client.request(method, f"{URL}/nightly", json=body, headers={"If-Match": tag})
            assert late.status_code == 412, method
            assert late.json()["type"] == "/problems/changed-since"
        for bad in ("4", '"x"', 'W/"1"', '"99999999999999999999"', '"1", "2"'):
            late = await client.put(f"{URL}/nightly", json=NIGHTLY, headers={"If-Match": bad})
            assert late.status_code == 412, bad

        paused = await client.post(f"{URL}/nightly/pause")
        assert (paused.json()["enabled"], paused.json()["next_at"]) == (False, None)
        started = await client.post(f"{URL}/nightly/run")
        assert started.status_code == 202
        assert started.json()["requests"] == 2
        assert started.headers["location"] == f"/api/v1/jobs/{started.json()['job']}"
        resumed = await client.post(f"{URL}/nightly/resume")
        assert resumed.json()["next_at"] == "2026-03-11T01:30:00Z"
        (job,) = (await client.get(f"{URL}/nightly/jobs")).json()["jobs"]
        assert (job["counts"]["total"], job["schedule_id"]) == (2, told["id"])
        assert job["run_at"] == "2026-03-10T12:00:00Z"

        gone = await client.delete(f"{URL}/nightly", headers={"If-Match": resumed.headers["etag"]})
        assert gone.status_code == 204
        assert (await client.get(f"{URL}/nightly")).status_code == 404
    actions = [action for actor, action, _, _ in house.audit() if actor.startswith("token:")]
    assert [action.removeprefix("schedule.") for action in actions] == [
        "added", "changed", "paused", "run", "resumed", "removed",
    ]  # fmt: skip


async def test_the_next_runs_over_a_change_of_clocks(house: Any) -> None:
    async with house.client(Scope.OPERATE) as client:
        await client.post(URL, json=NIGHTLY | {"cron": "30 2 * * *", "window": {}})
        answer = await client.get(f"{URL}/nightly/runs", params={"n": 2, "after": "2026-03-28T12:00:00Z"})
        assert answer.json()["runs"] == [
            {
                "run": "2026-03-29T01:00:00Z",
                "opens": "2026-03-29T01:00:00Z",
                "deadline": "2026-03-29T04:00:00Z",
                "drop_dead": "2026-03-29T04:00:00Z",
                "local": {
                    "run": "2026-03-29T03:00:00+02:00",
                    "opens": "2026-03-29T03:00:00+02:00",
                    "deadline": "2026-03-29T06:00:00+02:00",
                    "drop_dead": "2026-03-29T06:00:00+02:00",
                },
            },
            answer.json()["runs"][1],
        ]
        far = await client.get(f"{URL}/nightly/runs", params={"after": "9999-12-31T23:00:00Z"})
        assert far.status_code in {200, 422}


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({"cron": "61 * * * *"}, ["/cron"]),
        ({"cron": "0 0 30 2 *"}, ["/cron"]),
        ({"every_min": 15}, [""]),
        ({"zone": "Europe/Atlantis"}, ["/zone"]),
        ({"window": {"opens": "07:00"}}, ["/window/opens"]),
        ({"window": {"closes": "06:30"}}, ["/window/closes"]),
        ({"window": {"opens": "7"}}, ["/window/opens"]),
        ({"deadline": None}, ["/deadline"]),
        ({"priority": 10}, ["/priority"]),
        ({"retry": {"attempts": 0, "colour": "red"}}, ["/retry/attempts", "/retry/colour"]),
        ({"works": []}, ["/works"]),
        ({"works": [{"kind": "curves"}, {"kind": "dance"}]}, ["/works/1"]),
        ({"works": [{"kind": "curves", "days": 0}]}, ["/works/0/days"]),
        ({"works": [{"kind": "curves", "colour": 1}]}, ["/works/0/colour"]),
        ({"works": [{"kind": "curves", "profiles": [1, 77]}]}, ["/works/0/profiles/1"]),
        ({"works": [{"kind": "range", "profile": 1, "since": "2026-03-01T00:00:00Z"}]}, ["/works/0/until"]),
        (
            {"works": [{"kind": "range", "profile": 1, "since": T0.isoformat(), "until": T0.isoformat()}]},
            ["/works/0"],
        ),
        ({"works": [{"kind": "registers", "obis": ["1.8.0", "x"]}]}, ["/works/0/obis/1"]),
        ({"selection": {"meters": ["M-1", "X", "M-1", "a\u0000b"]}}, None),
        ({"selection": {"meters": ["M-1", "X", "M-1", "Y"]}}, ["/selection/meters/1", "/selection/meters/3"]),
        ({"selection": {"groups": ["g"], "models": ["nokia"]}}, MODEL_AND_GROUP),
        ({"selection": {"query": ""}}, ["/selection/query"]),
        ({"name": "a/b"}, ["/name"]),
        ({"name": "house-mine"}, ["/name"]),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_with_its_place(
    house: Any, change: dict[str, Any], places: Any
) -> None:
    await commission(house, "M-1")
    async with house.client(Scope.OPERATE) as client:
        refused = await client.post(URL, json=NIGHTLY | change)
        assert refused.status_code in ({422} if places is not None else {400, 422}), refused.text
        if places is not None:
            assert [place["pointer"] for place in refused.json()["errors"]] == places
        assert (await client.get(URL)).json() == {"schedules": [], "next": None}


async def test_one_unknown_meter_of_thousands(house: Any) -> None:
    await commission(house, "M-1")
    async with house.client(Scope.OPERATE) as client:
        names = ["M-1"] * 20_000
        names[3712] = "X"
        for url, body, pointer in (
            (URL, NIGHTLY | {"selection": {"meters": names}}, "/selection/meters/3712"),
            ("/api/v1/groups", {"name": "g", "meters": names}, "/meters/3712"),
            ("/api/v1/tags", {"meters": names, "set": ["vip"]}, "/meters/3712"),
        ):
            refused = await client.post(url, json=body)
            assert refused.status_code == 422
            assert refused.json()["errors"] == [{"pointer": pointer, "detail": "no meter 'X'"}]
        assert (await client.get("/api/v1/groups")).json()["groups"] == []
        assert (await client.get("/api/v1/tags")).json() == {"tags": []}
    assert not [line for line in house.audit() if line[0].startswith("token:")]


async def test_schedules_page_and_filter(house: Any) -> None:
    async with house.client(Scope.OPERATE) as client:
        assert (await client.post("/api/v1/groups", json={"name": "homes"})).status_code == 201
        for number in range(5):
            body = NIGHTLY | {"name": f"s{number}", "enabled": number % 2 == 0}
            body |= {"selection": {"groups": ["homes"]}} if number == 3 else {}
            assert (await client.post(URL, json=body)).status_code == 201
        first = await client.get(URL, params={"limit": 3})
        assert [one["name"] for one in first.json()["schedules"]] == ["s0", "s1", "s2"]
        rest = await client.get(first.links["next"]["url"])
        assert [one["name"] for one in rest.json()["schedules"]] == ["s3", "s4"]
        for asked, names in (
            ({"enabled": "false"}, ["s1", "s3"]),
            ({"group": "homes"}, ["s3"]),
            ({"q": "S4"}, ["s4"]),
        ):
            found = await client.get(URL, params=asked)
            assert [one["name"] for one in found.json()["schedules"]] == names
        assert (await client.delete("/api/v1/groups/homes")).status_code == 409


async def test_the_life_of_a_group(house: Any) -> None:
    await commission(house, "M-1", "M-2", "M-3")
    async with house.client(Scope.OPERATE) as client:
        made = await client.post("/api/v1/groups", json={"name": "homes", "meters": ["M-1", "M-2"]})
        assert (made.status_code, made.json()["meters"]) == (201, 2)
        url = made.headers["location"]
        moved = await client.patch(f"{url}/meters", json={"add": ["M-3", "M-2"], "remove": ["M-1"]})
        assert (moved.json()["came"], moved.json()["went"], moved.json()["meters"]) == (1, 1, 2)
        refused = await client.patch(f"{url}/meters", json={"add": ["M-1"], "remove": ["M-2", "X"]})
        assert [place["pointer"] for place in refused.json()["errors"]] == ["/remove/1"]
        refused = await client.patch(f"{url}/meters", json={"set": ["M-1"], "remove": ["M-2"]})
        assert refused.status_code == 422
        first = await client.get(f"{url}/meters", params={"limit": 1})
        assert first.json()["meters"] == ["M-2"]
        assert (await client.get(first.links["next"]["url"])).json() == {"meters": ["M-3"], "next": None}
        exact = await client.patch(f"{url}/meters", json={"set": ["M-1"]})
        assert (exact.json()["came"], exact.json()["went"]) == (1, 2)
        assert (await client.patch(url, json={"title": "Homes"})).json()["title"] == "Homes"
        found = await client.get("/api/v1/groups", params={"meter": "M-1"})
        assert [one["name"] for one in found.json()["groups"]] == ["homes"]
        assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).status_code == 404


async def test_tags_of_meters(house: Any) -> None:
    await commission(house, "M-1", "M-2")
    async with house.client(Scope.OPERATE) as client:
        bulk = await client.post("/api/v1/tags", json={"meters": ["M-1", "M-2"], "set": ["rate=1", "vip="]})
        assert bulk.json() == {"changed": 4}
        url = "/api/v1/meters/M-1/tags"
        assert (await client.get(url)).json() == {"tags": ["rate=1", "vip"]}
        assert (await client.put(url, json={"tags": ["rate=2"]})).json() == {"tags": ["rate=2"]}
        used = (await client.get("/api/v1/tags")).json()["tags"]
        assert used == [
            {"tag": "rate=1", "meters": 1}, {"tag": "rate=2", "meters": 1}, {"tag": "vip", "meters": 1},
        ]  # fmt: skip
        for bad in (["=1"], [" a=1"], ["a=1", "a=2"], ["a\n"], [""]):
            assert (await client.put(url, json={"tags": bad})).status_code == 422, bad
        assert (await client.post("/api/v1/tags", json={"meters": ["M-1"]})).status_code == 422
        assert (await client.get("/api/v1/meters/X/tags")).status_code == 404


def test_the_clock_of_the_house() -> None:
    assert NOW.hour == 12, "what the times above are counted from"
