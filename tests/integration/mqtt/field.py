"""A small field for the tests of MQTT ingest: a fleet, and messages of plugs and concentrators."""

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from headend.drivers.mqtt.message import load_decoder
from headend.drivers.mqtt.meters import Meters
from headend.mqtt.connection import Message
from headend.mqtt.ingest import Ingest
from headend.store import ingest_slots, meters
from headend.store.ingest_slots import Lease
from headend.store.pool import Pool
from schemas.meter import NewMeter

T0 = 1_772_409_600  # 2026-03-02T00:00Z
DAY = datetime(2026, 3, 2, tzinfo=UTC)
UP = "headend/batch/dc1"
_MICROSECONDS = itertools.count()


async def add_fleet(pool: Pool, *, plugs: int = 5, behind: int = 5) -> None:
    """Tasmota plugs ``plug-N`` and meters ``m-N`` behind a concentrator."""
    new = [NewMeter(f"p-{n}", "tasmota", address=f"mqtt:plug-{n}") for n in range(plugs)]
    new += [NewMeter(f"m-{n}", "headend-batch-meter") for n in range(behind)]
    async with pool.connection() as connection:
        await meters.add_many(connection, new, since=DAY)


def tasmota(plug: int, minute: int, total: str | None = None) -> tuple[str, bytes]:
    """Telemetry of a plug with one reading."""
    at = datetime.fromtimestamp(T0 + 60 * minute, UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    value = total or f"{minute / 1000 + plug:.3f}"
    return f"tele/plug-{plug}/SENSOR", f'{{"Time":"{at}","ENERGY":{{"Total":{value}}}}}'.encode()


def batch(
    sequence: int,
    *,
    meters: Sequence[str] = ("m-0", "m-1", "m-2", "m-3", "m-4"),
    concentrator: str = "dc1",
    run: str = "r1",
    rows: int = 1,
) -> tuple[str, bytes]:
    """A batch whose intervals are its own: ``rows`` quarter-hours of each meter."""
    stamps = [T0 + 900 * (sequence * rows + n + 1) for n in range(rows)]
    series = [
        {
            "meter": name,
            "period_s": 900,
            "stamps": stamps,
            "values": [[sequence * rows + n for n in range(rows)]],
        }
        for name in meters
    ]
    document = {
        "format": "headend.batch.1",
        "concentrator": concentrator,
        "run": run,
        "sequence": sequence,
        "sent": T0 + 900 * sequence,
        "layouts": [[{"obis": "1-0:1.8.0*255", "unit": "Wh"}]],
        "series": series,
    }
    return f"headend/batch/{concentrator}", json.dumps(document, separators=(",", ":")).encode()


def lost(first: int, last: int, concentrator: str = "dc1") -> tuple[str, bytes]:
    """The concentrator has no more of these."""
    document = {
        "format": "headend.batch-lost.1",
        "concentrator": concentrator,
        "run": "r1",
        "first": first,
        "last": last,
    }
    return f"headend/batch/{concentrator}", json.dumps(document).encode()


def message(told: tuple[str, bytes], *, minute: int = 1440, retained: bool = False) -> Message:
    """As the broker delivered it."""
    return Message(*told, retained, (T0 + 60 * minute) * 1_000_000 + next(_MICROSECONDS), 1, 1)


def make_ingest(pool: Pool) -> Ingest:
    return Ingest(pool.connection, load_decoder(Meters()), draw=lambda _bound: 0.0)


async def lease_of(pool: Pool, holder: str = "test") -> Lease:
    async with pool.connection() as connection:
        await ingest_slots.ensure(connection, ["0"])
        found = await ingest_slots.take(connection, ["0"], holder=holder, lease_s=60)
    assert found is not None
    return found


@asynccontextmanager
async def rows(pool: Pool) -> AsyncIterator[list[tuple[str, int, int]]]:
    """Asset id, minute of the interval's end, value: of every interval."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            b"SELECT asset_id, (extract(epoch FROM stamp)::bigint - 1772409600) / 60, active_import "
            b"FROM interval_reads JOIN meters USING (meter_id) ORDER BY 1, 2"
        )
        yield await cursor.fetchall()
