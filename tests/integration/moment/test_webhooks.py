"""The end of a job is told to a real receiver: signed, again until it is taken, and to nobody else."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from headend.keys.seal import MasterKey, Sealer
from headend.moment import reads
from headend.moment.delivery import Deliveries, Patience
from headend.moment.reads import Ask
from headend.moment.secrets import WebhookSecrets
from headend.moment.signature import is_genuine
from headend.store import jobs, webhooks
from headend.store.pool import Pool, open_pool
from headend.store.webhooks import WebhookState
from schemas.job import Registers

SECRET = "sixteen or more bytes"


class Receiver:
    """Answers with the statuses given, then 204, and keeps what came."""

    def __init__(self, *statuses: int, location: str | None = None) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        left = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.got.append((dict(handler.headers.items()), body))
                handler.send_response(left.pop(0) if left else 204)
                if location is not None:
                    handler.send_header("Location", location)
                handler.end_headers()

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/hook?token=dark"

    @contextmanager
    def running(self) -> Iterator["Receiver"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
async def pool(database: Any) -> AsyncIterator[Pool]:
    async with open_pool(database.dsn, max_size=2) as opened:
        yield opened


class Clock:
    """Moved by hand, from the database's time on: the queue has its own."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def deliveries(pool: Pool, clock: Clock, hosts: tuple[str, ...], attempts: int = 12) -> Deliveries:
    return Deliveries(
        pool.connection, secrets(), hosts=hosts, clock=clock, patience=Patience(attempts=attempts)
    )


def secrets() -> WebhookSecrets:
    return WebhookSecrets(Sealer(MasterKey(bytes(32))), None)


async def begin(pool: Pool, url: str, now: datetime) -> int:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "INSERT INTO meters (asset_id, model, address) VALUES ('M-1', 'm', 'tcp://127.0.0.1:1') "
            "RETURNING meter_id"
        )
        row = await cursor.fetchone()
        assert row is not None
        ask = Ask(
            meter_ids=(row[0],), works=(Registers(),), title="read of M-1", about="meter:M-1", actor="test",
            correlation_id="call-7", within=timedelta(hours=1),
            webhook=secrets().sealed(url, SecretStr(SECRET)),
        )  # fmt: skip
        return (await reads.begin(connection, ask, now=now)).job_id


async def queued(pool: Pool) -> list[tuple[int, datetime]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT (args->>'job_id')::bigint, scheduled_at FROM procrastinate_jobs"
            " WHERE task_name = 'webhook' AND status = 'todo'"
        )
        return [(number, at) for number, at in await cursor.fetchall()]


async def test_the_end_is_told_again_until_it_is_taken(pool: Pool) -> None:
    clock = Clock()
    with Receiver(500, 302, location="http://127.0.0.1:1/").running() as receiver:
        tell = deliveries(pool, clock, (receiver.host,))
        job_id = await begin(pool, receiver.url, clock.now)
        assert await tell.deliver(job_id) is None, "it has not ended"
        assert await queued(pool) == []
        async with pool.connection() as connection:
            await reads.cancel(connection, job_id, actor="test")
        for attempt, status in enumerate((500, 302, 204), 1):
            ((number, at),) = await queued(pool)
            assert number == job_id
            async with pool.connection() as connection:
                await connection.execute("DELETE FROM procrastinate_jobs")
            clock.now = max(clock.now, at)
            outcome = await tell.deliver(job_id)
            assert outcome is not None
            assert outcome.status == status
            async with pool.connection() as connection:
                stored = await webhooks.find(connection, job_id)
            assert stored is not None
            assert (stored.attempts, stored.last_status) == (attempt, status)
            assert await tell.deliver(job_id) is None, "not before its time"
        assert stored.state is WebhookState.DELIVERED
        assert await queued(pool) == []
    assert len(receiver.got) == 3
    for headers, body in receiver.got:
        told = json.loads(body)
        assert (told["job"], told["state"], told["counts"]["cancelled"]) == (job_id, "cancelled", 1)
        assert (told["correlation_id"], headers["X-Correlation-Id"]) == ("call-7", "call-7")
        assert headers["Headend-Delivery"] == f"job-{job_id}"
        signed_s = int(headers["Headend-Signature"].partition(",")[0].removeprefix("t="))
        assert is_genuine(SECRET, body, headers["Headend-Signature"], now_s=signed_s)
        assert not is_genuine(SECRET, body + b" ", headers["Headend-Signature"], now_s=signed_s)
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT string_agg(webhooks::text, '') FROM webhooks")
        assert SECRET.encode().hex() not in str(await cursor.fetchone())


@pytest.mark.parametrize(("statuses", "attempts", "made"), [((410,), 12, 1), ((500, 500, 500), 2, 2)])
async def test_it_is_given_up(pool: Pool, statuses: tuple[int, ...], attempts: int, made: int) -> None:
    clock = Clock()
    with Receiver(*statuses).running() as receiver:
        tell = deliveries(pool, clock, (receiver.host,), attempts)
        job_id = await begin(pool, receiver.url, clock.now)
        async with pool.connection() as connection:
            await jobs.cancel(connection, job_id)
        for _ in range(5):
            await tell.deliver(job_id)
            clock.now += timedelta(hours=2)
        async with pool.connection() as connection:
            stored = await webhooks.find(connection, job_id)
    assert stored is not None
    assert (stored.state, stored.attempts) == (WebhookState.FAILED, made)
    assert stored.last_reason == f"answered with status {statuses[0]}"


async def test_nobody_answers_and_nobody_may(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with Receiver().running() as receiver:
        host, url = receiver.host, receiver.url
    job_id = await begin(pool, url, clock.now)
    async with pool.connection() as connection:
        await jobs.cancel(connection, job_id)
    gone = await deliveries(pool, clock, (host,)).deliver(job_id)
    clock.now += timedelta(hours=1)
    refused = await deliveries(pool, clock, ()).deliver(job_id)
    assert gone is not None
    assert (gone.status, gone.reason) == (None, "no answer: ConnectError")
    assert refused is not None
    assert refused.is_final
    assert "dark" not in caplog.text


async def test_one_that_was_killed_in_between_is_told_again(pool: Pool) -> None:
    clock = Clock()
    with Receiver().running() as receiver:
        job_id = await begin(pool, receiver.url, clock.now)
        async with pool.connection() as connection:
            await jobs.cancel(connection, job_id)
            await connection.execute("DELETE FROM procrastinate_jobs")
            until = clock.now + timedelta(seconds=20)
            assert await webhooks.begin(connection, job_id, now=clock.now, until=until) is not None
            assert await webhooks.forgotten(connection, before=clock.now) == []
        clock.now = until + timedelta(seconds=1)
        async with pool.connection() as connection:
            found = await webhooks.forgotten(connection, before=clock.now)
            await webhooks.queue(connection, found)
            assert await webhooks.forgotten(connection, before=clock.now) == []
        assert found == [job_id]
        tell = deliveries(pool, clock, (receiver.host,))
        outcomes = await asyncio.gather(*(tell.deliver(job_id) for _ in range(4)))
    assert [one.status for one in outcomes if one is not None] == [204], "by one of many"
    assert len(receiver.got) == 1
