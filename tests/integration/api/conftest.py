"""A house for the API's tests: an embedded database, a token of each scope, a fixed clock, lanes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from api.services import Services
from headend.clock import utc_now
from headend.keys.seal import load_sealer
from headend.moment.moment import Moment
from headend.store import jobs, meters, requests, tokens
from headend.store.errors import UnknownError
from headend.store.pool import Pool, open_pool
from headend.store.requests import Settled
from headend.store.sql import Connection
from headend.store.tokens import Scope
from headend.store.writer import write
from schemas.config import Settings
from schemas.job import Work
from schemas.meter import NewMeter
from schemas.reading import Channel, ChannelLayout, Quality, ReadingBatch

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
T0 = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
LAYOUT = ChannelLayout(
    (
        Channel("active_import", "1-0:1.8.0*255", -3, "Wh", modulus=10**9),
        Channel("active_export", "1-0:2.8.0*255", 0, "Wh"),
        None,
        None,
    )
)


async def ended(task: "asyncio.Task[None]") -> None:
    """Asked again: a pool may lose a cancellation (before Python 3.12)."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)


class Lanes:
    """What works at requests, as a test sets it: what each becomes (None: nobody works), what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Work, ...]]] = []
        self.answer: Callable[[str], Settled] | None = lambda _: Settled(0, result={})

    async def run(self, pool: Pool) -> None:
        while True:
            await asyncio.sleep(0.01)
            async with pool.connection() as connection:
                await self._work(connection)

    async def _work(self, connection: Connection) -> None:
        if self.answer is None:
            return
        query = """SELECT request_id, asset_id, job_id FROM requests JOIN meters USING (meter_id)
                    WHERE state = 'open' ORDER BY request_id"""
        for request_id, meter, job_id in await (await connection.execute(query)).fetchall():
            job = await jobs.find(connection, job_id)
            assert job is not None
            self.asked.append((meter, job.work))
            settled = replace(self.answer(meter), request_id=request_id)
            if settled.stage is not None:
                query = """INSERT INTO attempts (began_at, request_id, job_id, meter_id, took_ms, bytes_out,
                                                 bytes_in, rows, number, stage, fault, worker)
                           SELECT now(), request_id, job_id, meter_id, 5, 0, 0, 0, 1, %s, 'peer', 'test'
                             FROM requests WHERE request_id = %s"""
                await connection.execute(query, (settled.stage.value, request_id))
            await requests.settle(connection, [settled])


@dataclass
class House:
    """The application with all it stands on."""

    pool: Pool
    app: FastAPI
    dsn: str
    lanes: Lanes
    moment: Moment
    secrets: dict[Scope, str]
    ids: dict[str, int] = field(default_factory=dict)

    def client(self, scope: Scope | None = Scope.READ, **options: Any) -> httpx.AsyncClient:
        headers = {} if scope is None else {"Authorization": f"Bearer {self.secrets[scope]}"}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=options.pop("raises", True))
        return httpx.AsyncClient(transport=transport, base_url="http://headend", headers=headers, **options)

    async def add_meter(self, asset_id: str, **known: Any) -> int:
        new = NewMeter(asset_id=asset_id, model=known.pop("model", "headend-sim"), **known)
        async with self.pool.connection() as connection:
            meter = await meters.add(connection, new, since=T0)
        self.ids[asset_id] = meter.meter_id
        return meter.meter_id

    async def store(
        self,
        asset_id: str,
        readings: list[tuple[int | None, int | None]],
        *,
        first: datetime = T0,
        layout: ChannelLayout = LAYOUT,
        amr_status: int = 0,
    ) -> None:
        """Store consecutive quarter-hours from ``first`` on, through the product's own writer."""
        n = len(readings)
        start = round(first.timestamp()) * 1_000_000 + np.arange(n, dtype=np.int64) * 900_000_000
        values = np.array([[a or 0, b or 0, 0, 0] for a, b in readings], dtype=np.int64)
        valid = np.array([[a is not None, b is not None, False, False] for a, b in readings])
        number = self.ids[asset_id]
        batch = ReadingBatch(
            meter_id=np.full(n, number, np.int32),
            profile=np.ones(n, np.int16),
            start_us=start,
            period_s=np.full(n, 900, np.int32),
            stamp_us=start + 900_000_000,
            amr_status=np.full(n, amr_status, np.int64),
            clock_status=np.zeros(n, np.int16),
            quality=np.full(n, Quality.MEASURED, np.int16),
            fragment=np.zeros(n, np.int8),
            layout=np.zeros(n, np.int16),
            values=values,
            valid=valid,
            layouts=(layout,),
            covered_us=((number, 1, int(start[0]), int(start[-1]) + 900_000_000),),
            source="test",
        )
        await write(self.pool, batch)

    def audit(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        with psycopg.connect(self.dsn) as connection:
            query = "SELECT actor, action, object, detail FROM audit_log ORDER BY audit_id"
            return list(connection.execute(query).fetchall())


@cache
def _application() -> FastAPI:
    return create_app(Services(pool=None, moment=None))  # type: ignore[arg-type]  # put in below


def app_over(services: Services) -> FastAPI:
    """The application over other services: there is one, for it holds nothing of them, and its hundred routes
    take half a second."""
    app = _application()
    app.state.services = services
    return app


async def _no_payload(number: int, *, actor: str) -> Any:
    """A quarantine without any; with some: tests/integration/mqtt/test_mqtt_quarantine.py."""
    raise UnknownError(f"no payload {number}")


@asynccontextmanager
async def _house(dsn: str) -> AsyncIterator[House]:
    async with open_pool(dsn, max_size=4) as pool:
        secrets = {}
        async with pool.connection() as connection:
            for scope in Scope:
                secrets[scope] = (await tokens.create(connection, name=scope.value, scopes=[scope])).secret
        settings = Settings(webhook_hosts=("127.0.0.1",), master_key=SecretStr("5e" * 32))
        moment = Moment.of(pool, settings, load_sealer(settings), clock=utc_now)
        app = app_over(Services(pool, moment, _no_payload, clock=lambda: NOW))
        lanes = Lanes()
        tasks = [asyncio.create_task(moment.watch.run()), asyncio.create_task(lanes.run(pool))]
        try:
            yield House(pool, app, dsn, lanes, moment, secrets)
        finally:
            for task in tasks:
                await ended(task)


@pytest.fixture
async def house(embedded_database: Any) -> AsyncIterator[House]:
    async with _house(embedded_database.dsn) as house:
        yield house


@pytest.fixture
async def house_on_both(database: Any) -> AsyncIterator[House]:
    """For what reads hypertables: on the embedded PostgreSQL and on TimescaleDB."""
    async with _house(database.dsn) as house:
        yield house
