"""Reads on demand over a real socket of the API, through lanes, of simulated meters, into a real database."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.services import Services
from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario
from headend.clock import utc_now
from headend.foundation import open_base, sealer
from headend.house import open_house
from headend.ingest.meter_import import import_meters
from headend.moment.delivery import Patience
from headend.moment.moment import Moment, deliveries
from headend.moment.signature import is_genuine
from headend.moment.telling import telling
from headend.processes.tasks import cancelled
from headend.serving import listen, make_server, url_of
from headend.store import tokens
from headend.store.tokens import Scope
from schemas.config import load_settings

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=26)
WORKS = [
    {"kind": "registers", "obis": ["1.8.0"]},
    {
        "kind": "range",
        "profile": 1,
        "since": HOUR.isoformat(),
        "until": (HOUR + timedelta(hours=6)).isoformat(),
    },
]


class Desk:
    """A client of a running service, and the field behind it."""

    def __init__(self, client: httpx.AsyncClient, field: Field) -> None:
        self.client = client
        self.field = field
        self.names = [item.meter.serial for item in field.meters]

    async def read(self, *meters: str, **more: Any) -> httpx.Response:
        return await self.client.post("/reads", json={"meters": list(meters), "works": WORKS} | more)

    async def events(self, url: str) -> AsyncIterator[tuple[str, Any]]:
        async with self.client.stream("GET", f"{url.removeprefix('/api/v1')}/events") as stream:
            name = ""
            async for line in stream.aiter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    yield name, json.loads(value)


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await cancelled(task)


@asynccontextmanager
async def desk(dsn: str, field: dict[str, Any], **given: Any) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(Field(make_scenario({"base_port": 0, **field})))
        settings = load_settings(**{"database_url": dsn, "master_key": "42" * 32, **given})
        base = await stack.enter_async_context(open_base(settings))
        house = await stack.enter_async_context(open_house(base))
        async with base.pool.connection() as connection:
            done = await import_meters(
                connection, simulated.csv().encode(), vault=await base.vault(),
                since=HOUR - timedelta(days=8), actor="test", allow_plain_keys=True,
            )  # fmt: skip
            assert not done.errors, done.errors
            secret = (await tokens.create(connection, name="desk", scopes=[Scope.OPERATE])).secret
        moment = Moment.of(base.pool, settings, sealer(settings), utc_now)
        await stack.enter_async_context(running(moment.watch.run()))
        teller = deliveries(base.pool, settings, sealer(settings), utc_now, Patience(first_s=0.1))
        await stack.enter_async_context(running(telling(base.pool, teller.deliver, drain_s=5)))
        queue = await stack.enter_async_context(house.at_work("test"))
        await stack.enter_async_context(running(queue.run(drain_s=5)))
        listener = listen("127.0.0.1", 0)
        stack.callback(listener.close)
        server = make_server(create_app(Services(base.pool, moment)))
        serving = asyncio.create_task(server.serve([listener]))

        async def end() -> None:
            moment.feeds.close()
            server.should_exit = True
            await asyncio.wait([serving])

        stack.push_async_callback(end)
        client = httpx.AsyncClient(
            base_url=f"{url_of(listener)}/api/v1", headers={"Authorization": f"Bearer {secret}"}, timeout=60
        )
        yield Desk(await stack.enter_async_context(client), simulated)


async def test_a_quick_read_is_answered_at_once(database: Any) -> None:
    async with desk(database.dsn, {"meters": 3}) as one:
        answer = await one.read(one.names[0], wait_s=60)
        old = await one.client.post(f"/meters/{one.names[1]}/reads", json={"obis": ["1.8.0"]})
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert (result["state"], result["meter"], result["attempts"]) == ("done", one.names[0], 1)
    assert [r["obis"] for r in result["result"]["registers"]] == ["1-0:1.8.0*255"]
    assert result["result"]["intervals"] == 24
    assert old.status_code == 200, old.text
    assert [r["obis"] for r in old.json()["registers"]] == ["1-0:1.8.0*255"]
    assert old.json()["meter"] == one.names[1]


async def test_a_long_one_is_followed_to_its_end_and_told(
    embedded_database: Any, receiver: Callable[..., Any]
) -> None:
    got, host = receiver(500, 500)
    secret = "sixteen or more bytes"
    async with desk(embedded_database.dsn, {"meters": 12}, webhook_hosts=(host,)) as one:
        begun = await one.read(*one.names, wait_s=0, webhook={"url": f"http://{host}/told", "secret": secret})
        assert begun.status_code == 202, begun.text
        events = [event async for event in one.events(begun.headers["location"])]
        job = (await one.client.get(begun.headers["location"].removeprefix("/api/v1"))).json()
        async with asyncio.timeout(60):
            while job["webhook"]["state"] == "waiting":
                await asyncio.sleep(0.2)
                job = (await one.client.get(f"/jobs/{job['id']}")).json()
    assert events[-1][0] == "end"
    assert events[-1][1]["counts"]["done"] == 12
    results = [data["meter"] for name, data in events if name == "result"]
    assert sorted(results) == sorted(one.names), "each once"
    assert (job["webhook"]["state"], job["webhook"]["attempts"]) == ("delivered", 3)
    assert secret not in str(job)
    assert len(got) == 3
    for headers, body in got:
        signed_s = int(headers["Headend-Signature"].partition(",")[0].removeprefix("t="))
        assert is_genuine(secret, body, headers["Headend-Signature"], now_s=signed_s)
    assert json.loads(got[-1][1])["counts"]["done"] == 12


async def test_what_is_cancelled_is_not_read(embedded_database: Any) -> None:
    """Silent meters hold their requests; cancelled, the stream ends at once."""
    field = {"meters": 2, "silent_every": 1}
    async with desk(embedded_database.dsn, field, response_timeout_s=60) as one:
        begun = await one.read(*one.names, wait_s=0, attempts=20)
        events = one.events(begun.headers["location"])
        assert (await anext(events))[0] == "progress"
        cancelled = await one.client.post(f"/jobs/{begun.json()['job']['id']}/cancel")
        async with asyncio.timeout(10):
            rest = [name async for name, _ in events]
    assert cancelled.json()["counts"]["cancelled"] == 2
    assert rest[-1] == "end"


@pytest.fixture
def receiver() -> Any:
    """Makes a receiver of webhooks that answers with these statuses, then 204."""
    servers: list[tuple[HTTPServer, Thread]] = []

    def make(*statuses: int) -> tuple[list[tuple[dict[str, str], bytes]], str]:
        got: list[tuple[dict[str, str], bytes]] = []
        left = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append((dict(self.headers.items()), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(left.pop(0) if left else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return got, f"127.0.0.1:{server.server_port}"

    yield make
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()
