"""The parts of the service as processes of their own."""

import asyncio
import socket
from datetime import UTC, datetime

import httpx

from headend.foundation import open_base
from headend.store import meters, tokens
from headend.store.tokens import Scope
from protocols.dlms.security import Key
from schemas.config import load_settings
from schemas.meter import KeyPurpose, NewMeter

from .conftest import MASTER_KEY, Processes


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
