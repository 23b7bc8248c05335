"""A ledger over a real database: meters with a life, rows through the product's own writer."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from headend.completeness.rounds import GapPolicy, Round, Rounds
from headend.drivers.contract import Curve, Recall
from headend.store import completeness, meters
from headend.store.completeness import ModelCurve
from headend.store.pool import Pool, open_pool
from headend.store.sql import Connection
from headend.store.writer import write
from schemas.meter import MeterState, NewMeter
from schemas.reading import Channel, ChannelLayout, Quality, ReadingBatch

T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
QUARTER = timedelta(minutes=15)
LAYOUT = ChannelLayout((Channel("active_import", "1-0:1.8.0*255", 0, "Wh"), None, None, None))


@dataclass
class Fleet:
    """Meters of model ``m`` (quarter-hours, stored), and what is done to them."""

    pool: Pool
    dsn: str
    now: datetime = T0 + 3 * DAY
    ids: dict[str, int] = field(default_factory=dict)
    woken: list[str] = field(default_factory=list)
    curves: dict[str, Sequence[Curve]] = field(default_factory=lambda: {"m": (Curve(1, 900, Recall.STORED),)})

    def rounds(self, **policy: Any) -> Rounds:
        return Rounds(
            self.pool.connection,
            lambda model: self.curves[model],
            lambda model: model == "keeps",
            self._wake,
            forwarded=DAY,
            policy=GapPolicy(**policy),
            now=lambda: self.now,
        )

    async def round(self, **policy: Any) -> Round:
        return await self.rounds(**policy).once()

    async def _wake(self, connection: Connection, lanes: Sequence[str]) -> None:
        self.woken += lanes

    async def contract(self, **changed: Any) -> None:
        curve = {"model": "m", "profile": 1, "period_s": 900, "recall": "stored"} | changed
        async with self.pool.connection() as connection:
            await completeness.keep_contract(connection, [ModelCurve(**curve)])

    async def add(
        self,
        *names: str,
        since: datetime = T0,
        address: str | None = "tcp://192.0.2.1:4059",
        model: str = "m",
    ) -> None:
        async with self.pool.connection() as connection:
            self.ids |= await meters.add_many(
                connection,
                [NewMeter(name, model, address=address) for name in names],
                since=since,
                state=MeterState.COMMISSIONED,
            )

    async def store(self, name: str, since: datetime, until: datetime, *, covered: bool = True) -> None:
        await write(self.pool, quarters(self.ids[name], since, until, covered=covered))

    async def cover(self, name: str, since: datetime, until: datetime) -> None:
        """The meter was asked, and has none."""
        await write(self.pool, quarters(self.ids[name], since, since, until=until))

    async def total(self, since: datetime, until: datetime) -> completeness.Group:
        async with self.pool.connection() as connection:
            await completeness.count(connection, since, until, now=self.now)
            return (await completeness.groups(connection))[0]

    async def sql(self, query: str, *values: Any) -> list[Any]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []


def quarters(
    meter_id: int, since: datetime, last: datetime, *, covered: bool = True, until: datetime | None = None
) -> ReadingBatch:
    """Quarter-hours of [since, last); [since, until) is covered."""
    n = (last - since) // QUARTER
    first_us = round(since.timestamp()) * 1_000_000
    start = first_us + np.arange(n, dtype=np.int64) * 900_000_000
    end = last if until is None else until
    return ReadingBatch(
        meter_id=np.full(n, meter_id, np.int32),
        profile=np.ones(n, np.int16),
        start_us=start,
        period_s=np.full(n, 900, np.int32),
        stamp_us=start + 900_000_000,
        amr_status=np.zeros(n, np.int64),
        clock_status=np.zeros(n, np.int16),
        quality=np.full(n, Quality.MEASURED, np.int16),
        fragment=np.zeros(n, np.int8),
        layout=np.zeros(n, np.int16),
        values=np.ones((n, 4), np.int64),
        valid=np.array([[True, False, False, False]] * n, np.bool_).reshape(n, 4),
        layouts=(LAYOUT,),
        covered_us=((meter_id, 1, first_us, round(end.timestamp()) * 1_000_000),) if covered else (),
        source="test",
    )


@pytest.fixture
async def fleet(database: Any) -> AsyncIterator[Fleet]:
    async with open_pool(database.dsn, max_size=4) as pool:
        made = Fleet(pool, database.dsn)
        await made.contract()
        yield made
