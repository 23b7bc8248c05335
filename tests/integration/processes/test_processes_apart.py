"""The parts of the service as processes of their own."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg

from headend.foundation import open_base
from headend.store import meters, tokens
from headend.store.tokens import Scope
from protocols.dlms.security import Key
from schemas.config import load_settings
from schemas.meter import KeyPurpose, NewMeter

from .conftest import DEADLINE_S, MASTER_KEY, Processes


def keep_a_key(dsn: str) -> str:
    """A meter with a key, and a token to ask for it."""

    async def keep() -> str:
        async with open_base(load_settings(database_url=dsn, master_key=MASTER_KEY)) as base:
            vault = await base.vault()
            async with base.pool.connection() as connection:
                new = NewMeter(asset_id="M-1", model="headend-sim", address="tcp://127.0.0.1:1")
                meter = await meters.add(connection, new, since=datetime(2026, 1, 1, tzinfo=UTC))
                await vault.put(connection, {meter.meter_id: {KeyPurpose.ENCRYPTION: Key(bytes(16))}})
                return (await tokens.create(connection, name="t", scopes=[Scope.OPERATE])).secret

    return asyncio.run(keep())


def test_an_api_by_itself_serves_without_the_master_key(processes: Processes) -> None:
    secret = keep_a_key(processes.dsn)
    api = processes.start("api", "--port", "0")
    url = api.until("API").split()[-1]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/api/v1/meters/M-1").json()["asset_id"] == "M-1"
    assert api.stop() == 0


def test_what_takes_in_needs_the_master_key_and_listens(processes: Processes) -> None:
    keep_a_key(processes.dsn)
    refused = processes.start("ingest", listen_push_tcp="127.0.0.1:0")
    assert refused.end() == 1
    assert "master key" in "".join(refused.said)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ingest = processes.start("ingest", listen_push_tcp=f"127.0.0.1:{port}", master_key=MASTER_KEY)
    ingest.until("pushes over TCP")
    socket.create_connection(("127.0.0.1", port)).close()
    assert ingest.stop() == 0


def test_an_ingest_with_nothing_to_take_in_says_so(processes: Processes) -> None:
    nothing = processes.start("ingest")
    assert nothing.end() == 1
    assert "HEADEND_MQTT_URL" in "".join(nothing.said)


def test_workers_have_a_parent_and_end_with_it(processes: Processes) -> None:
    with psycopg.connect(processes.dsn, autocommit=True) as connection:

        def there() -> list[Any]:
            query = "SELECT worker, concurrency FROM workers WHERE kind = 'worker'"
            return connection.execute(query).fetchall()

        parent = processes.start("worker", "--processes", "2", collector_concurrency=9)
        for number in (1, 2):
            parent.until(f"{number} of 2")
        before = there()
        assert [concurrency for _, concurrency in before] == [4, 4]
        os.kill(int(before[0][0].split(":")[1]), signal.SIGKILL)
        parent.until("ended with exit status")
        until(lambda: len(there()) == 3)  # the killed one is silent, not forgotten
        parent.send(signal.SIGKILL)
        # the children hear of it, give back what they hold, and sign off
        until(lambda: [name for name, _ in there()] == [before[0][0]])


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
