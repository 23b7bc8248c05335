"""Reads on demand and their jobs over REST, against a real database; lanes are the test's."""

import asyncio
from typing import Any

import pytest

from headend.store.requests import Settled
from headend.store.tokens import Scope
from schemas.failure import Stage
from schemas.job import RequestState

URL = "/api/v1/reads"
REGISTERS = [{"kind": "registers", "obis": ["1.8.0"]}]


async def add(house: Any, *names: str) -> None:
    for name in names:
        await house.add_meter(name, address="tcp://127.0.0.1:4059")


async def test_what_is_quick_is_the_answer(house: Any) -> None:
    await add(house, "M-1", "M-2")
    failed = Settled(0, RequestState.FAILED, stage=Stage.TIMEOUT, reason="silent")
    house.lanes.answer = lambda meter: failed if meter == "M-2" else Settled(0, result={"intervals": 4})
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(URL, json={"meters": ["M-2", "M-1", "M-2"], "works": REGISTERS})
    assert answer.status_code == 200
    job, results = answer.json()["job"], answer.json()["results"]
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["state"], job["progress"], job["counts"]["done"], job["counts"]["failed"]) == (
        "ended", "100.0", 1, 1,
    )  # fmt: skip
    assert job["failures"] == [{"stage": "timeout", "open": 0, "ended": 1}]
    assert job["works"] == [{"kind": "registers", "obis": ["1-0:1.8.0*255"]}], "in their full form"
    by_meter = {one["meter"]: one for one in results}
    assert by_meter["M-1"]["result"]["intervals"] == 4
    assert (by_meter["M-2"]["state"], by_meter["M-2"]["stage"], by_meter["M-2"]["reason"]) == (
        "failed", "timeout", "silent",
    )  # fmt: skip
    assert len(results) == 2, "each meter once"


async def test_what_takes_longer_is_followed(house: Any) -> None:
    await add(house, "M-1", "M-2")
    house.lanes.answer = None
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(URL, json={"meters": ["M-1", "M-2"], "works": REGISTERS, "wait_s": 0})
        assert (answer.status_code, answer.json()["results"]) == (202, [])
        url = answer.headers["location"]
        stream = asyncio.create_task(client.get(f"{url}/events"))
        await followed(house)
        house.lanes.answer = lambda _: Settled(0, result={"intervals": 1})
        events = told((await asyncio.wait_for(stream, 10)).text)
        requests = (await client.get(f"{url}/requests", params={"state": "done", "limit": 1})).json()
        rest = await client.get(f"{url}/requests", params={"after": requests["next"]})
    assert events[0][0] == "progress"
    assert events[-1][0] == "end"
    assert '"open":2' in events[0][1]
    assert '"state":"ended"' in events[-1][1]
    assert sorted(name for name, _ in events).count("result") == 2, "each result once"
    assert [one["meter"] for one in requests["requests"] + rest.json()["requests"]] == ["M-1", "M-2"]


async def test_who_follows_late_gets_everything(house: Any) -> None:
    await add(house, "M-1")
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(URL, json={"meters": ["M-1"], "works": REGISTERS})
        url = answer.headers["location"]
        events = told((await client.get(f"{url}/events", headers={"Last-Event-ID": "5"})).text)
        none = await client.get("/api/v1/jobs/99/events")
    assert [name for name, _ in events] == ["result", "progress", "end"]
    assert none.status_code == 404


async def test_the_service_ends_streams(house: Any) -> None:
    await add(house, "M-1")
    house.lanes.answer = None
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(URL, json={"meters": ["M-1"], "works": REGISTERS, "wait_s": 0})
        stream = asyncio.create_task(client.get(f"{answer.headers['location']}/events"))
        await followed(house)
        house.moment.feeds.close()
        events = told((await asyncio.wait_for(stream, 5)).text)
    assert [name for name, _ in events] == ["progress"]
    assert house.moment.feeds.clients == 0


async def test_cancel(house: Any) -> None:
    await add(house, "M-1", "M-2")
    house.lanes.answer = None
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(URL, json={"meters": ["M-1", "M-2"], "works": REGISTERS, "wait_s": 0})
        url = answer.headers["location"]
        stream = asyncio.create_task(client.get(f"{url}/events"))
        await followed(house)
        first = await client.post(f"{url}/cancel")
        again = await client.post(f"{url}/cancel")
        events = told((await asyncio.wait_for(stream, 5)).text)
        none = await client.post("/api/v1/jobs/99/cancel")
    for one in (first, again):
        assert (one.status_code, one.json()["state"], one.json()["counts"]["cancelled"]) == (
            200, "cancelled", 2,
        )  # fmt: skip
    assert events[-1][0] == "end"
    assert none.status_code == 404
    assert [line[1] for line in house.audit()] == ["meter.read", "job.cancelled"], "cancelled once"


async def test_a_key_makes_one_job(house: Any) -> None:
    await add(house, "M-1")
    body = {"meters": ["M-1"], "works": REGISTERS, "wait_s": 5}
    headers = {"Idempotency-Key": "k-1"}
    async with house.client(Scope.OPERATE) as client, house.client(Scope.ADMIN) as other:
        answers = await asyncio.gather(*(client.post(URL, json=body, headers=headers) for _ in range(8)))
        impatient = await client.post(URL, json=body | {"wait_s": 0}, headers=headers)
        changed = await client.post(URL, json=body | {"priority": 9}, headers=headers)
        theirs = await other.post(URL, json=body | {"priority": 9}, headers=headers)
        page = (await client.get("/api/v1/jobs")).json()["jobs"]
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["job"]["id"] for a in (*answers, impatient)}) == 1
    assert (changed.status_code, changed.json()["errors"][0]["parameter"]) == (422, "Idempotency-Key")
    assert theirs.json()["job"]["id"] != impatient.json()["job"]["id"], "a key is a token's own"
    assert len(page) == 2
    assert len(house.lanes.asked) == 2


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"meters": ["M-1", "M-7", "M-2", "M-8"]}, "/meters/1"),
        ({"meters": ["M-1", "M-3"]}, "/meters/1"),
        ({"meters": []}, "/meters"),
        ({"meters": None}, ""),
        ({"meters": None, "selection": {"groups": ["no such"]}}, "/selection/groups/0"),
        ({"works": []}, "/works"),
        ({"works": [{"kind": "forwarded"}]}, "/works/0"),
        ({"works": [*REGISTERS, {"kind": "registers", "obis": ["1.8.0", "rubbish"]}]}, "/works/1/obis/1"),
        ({"works": [{"kind": "billing", "obis": "x"}]}, "/works/0/obis"),
        (
            {
                "works": [
                    {
                        "kind": "range",
                        "profile": 1,
                        "since": "2026-01-01T00:00:00Z",
                        "until": "2026-03-01T00:00:00Z",
                    }
                ]
            },
            "/works/0/until",
        ),
        ({"wait_s": 61}, "/wait_s"),
        ({"webhook": {"url": "http://example.com/x", "secret": "s" * 16}}, "/webhook/url"),
        ({"webhook": {"url": "https://10.0.0.7/x", "secret": "s" * 16}}, "/webhook/url"),
        ({"webhook": {"url": "https://example.com/x"}}, "/webhook/secret"),
        ({"webhook": {"url": "https://example.com/x", "secret": "short"}}, "/webhook"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_place(
    house: Any, change: dict[str, Any], pointer: str
) -> None:
    await add(house, "M-1", "M-2")
    await house.add_meter("M-3")
    body = {"meters": ["M-1"], "works": REGISTERS} | change
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(URL, json=body)
        page = (await client.get("/api/v1/jobs")).json()["jobs"]
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    if pointer == "/meters/1" and "M-7" in body["meters"]:
        assert [one["pointer"] for one in answer.json()["errors"]] == ["/meters/1", "/meters/3"]
    assert page == [], "nothing is half begun"
    assert house.audit() == []
    assert "s" * 16 not in answer.text


async def test_a_selection_is_read(house: Any) -> None:
    for name, feeder in (("M-1", "F-1"), ("M-2", "F-2"), ("M-3", "F-1")):
        await house.add_meter(name, address="tcp://127.0.0.1:4059", feeder=feeder)
        async with house.client(Scope.OPERATE) as client:
            for state, day in (("installed", 2), ("commissioned", 3)):
                change = {"state": state, "since": f"2026-03-0{day}T00:00:00Z"}
                assert (await client.post(f"/api/v1/meters/{name}/states", json=change)).status_code == 201
    async with house.client(Scope.OPERATE) as client:
        answer = await client.post(URL, json={"selection": {"feeders": ["F-1"]}, "works": REGISTERS})
    assert answer.status_code == 200, answer.text
    assert sorted(one["meter"] for one in answer.json()["results"]) == ["M-1", "M-3"]


async def test_jobs_are_filtered_and_paged(house: Any) -> None:
    await add(house, "M-1")
    async with house.client(Scope.OPERATE) as client:
        for n in range(3):
            house.lanes.answer = None if n == 2 else house.lanes.answer
            await client.post(URL, json={"meters": ["M-1"], "works": REGISTERS, "wait_s": 1 if n < 2 else 0})
        seen, after = [], None
        while True:
            params = {"limit": 2} | ({} if after is None else {"after": after})
            page = (await client.get("/api/v1/jobs", params=params)).json()
            seen += [(job["id"], job["state"]) for job in page["jobs"]]
            after = page["next"]
            if after is None:
                break
        still = (await client.get("/api/v1/jobs?state=open&kind=on_demand")).json()["jobs"]
        none = (await client.get("/api/v1/jobs?schedule=5")).json()["jobs"]
        bad = await client.get("/api/v1/jobs?after=rubbish")
    assert [state for _, state in seen] == ["open", "ended", "ended"]
    assert [job["id"] for job in still] == [seen[0][0]]
    assert none == []
    assert (bad.status_code, bad.json()["errors"][0]["parameter"]) == (422, "after")


async def followed(house: Any) -> None:
    """When a client has the first of its events."""
    async with asyncio.timeout(20):
        while not any(  # noqa: ASYNC110 - nobody tells of it
            feed.progress is not None for feed in house.moment.feeds._feeds.values()
        ):
            await asyncio.sleep(0.01)


def told(stream: str) -> list[tuple[str, str]]:
    """Events of a stream: name and data."""
    events = []
    for block in stream.replace("\r\n", "\n").strip().split("\n\n"):
        members = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if members:
            events.append((members["event"], members["data"]))
    return events
