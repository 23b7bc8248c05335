"""How the database goes about the queries that must stay cheap while the history grows, on both databases."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from headend.store import meters, network, registers, sql
from headend.store.sql import Connection
from schemas.meter import NewMeter

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 100


@pytest.fixture
async def connection(database: Any) -> Any:
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        yield connection


async def plan(connection: Connection, noun: str, name: str, **values: Any) -> dict[str, Any]:
    explained = b"EXPLAIN (ANALYZE, FORMAT JSON) " + sql.load(noun)[name]
    row = await (await connection.execute(explained, values)).fetchone()
    assert row is not None
    told = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    return dict(told[0]["Plan"])


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from nodes(below)


async def test_the_latest_registers_do_not_read_their_history(connection: Connection) -> None:
    meter = await meters.add(connection, NewMeter("M", "headend-sim"), since=T0)
    await connection.execute(
        """INSERT INTO register_reads (read_at, batch_id, meter_id, attribute, quality, obis, unit, value)
           SELECT %(start)s::timestamptz + n * interval '1 minute', 1, %(meter)s, a, 1,
                  '1-0:' || o || '.8.0*255', 'Wh', n
             FROM generate_series(1, 20000) n, generate_series(1, 3) o, generate_series(2, 3) a""",
        {"start": T0, "meter": meter.meter_id},
    )
    await connection.execute("ANALYZE register_reads")
    found = await registers.latest(connection, meter.meter_id)
    assert [(one.obis, one.attribute, one.value) for one in found] == [
        (f"1-0:{o}.8.0*255", a, 20000) for o in (1, 2, 3) for a in (2, 3)
    ]
    told = await plan(connection, "registers", "latest", meter=meter.meter_id)
    read = sum(
        node["Actual Rows"] * node["Actual Loops"] for node in nodes(told) if "Scan" in node["Node Type"]
    )
    assert read < 300, "of 120,000"
    assert await registers.latest(connection, meter.meter_id + 1) == []


async def test_a_load_curve_leaves_older_chunks_alone(connection: Connection, database: Any) -> None:
    if database.kind == "embedded":
        return
    meter = await meters.add(connection, NewMeter("M", "headend-sim"), since=T0)
    await connection.execute(
        """INSERT INTO interval_reads
                  (start, stamp, batch_id, meter_id, period_s, layout_id, profile, quality)
           SELECT s, s + interval '1 hour', 1, %(meter)s, 3600, 1, 1, 1
             FROM generate_series(%(start)s::timestamptz, %(end)s, interval '1 hour') s""",
        {"start": T0, "end": T0 + DAYS * DAY, "meter": meter.meter_id},
    )
    asked = {"meter": meter.meter_id, "profile": 1, "start": T0 + (DAYS - 1) * DAY, "end": T0 + DAYS * DAY}
    told = await plan(connection, "curves", "meter_state", **asked)
    chunks = {node["Relation Name"] for node in nodes(told) if "Relation Name" in node}
    assert 1 <= len(chunks) <= 35, "the day and the 32 before it"
    state = sql.load("curves")["meter_state"]
    row = await (await connection.execute(state, asked)).fetchone()
    assert row is not None
    assert (row[0], row[3]) == (24, asked["start"] - timedelta(hours=1))


async def test_events_of_a_meter_and_the_newest_of_all_are_found_by_index(connection: Connection) -> None:
    await connection.execute(
        """INSERT INTO events (at, received_at, identity, batch_id, code, meter_id, log, meaning, source)
           SELECT t, t, gen_random_uuid(), 1, 1, mod(n, 500), 'standard', 'power_down', 's'
             FROM generate_series(1, 50000) n,
                  LATERAL (SELECT %(start)s::timestamptz + n * interval '2 minutes') x (t)""",
        {"start": T0},
    )
    await connection.execute("ANALYZE events")
    nothing = dict.fromkeys(
        ("since", "until", "before_at", "before_identity", "meter", "node", "below_meters", "below_nodes",
         "meanings", "logs", "within", "within_nodes")
    )  # fmt: skip
    for asked in ({"meter": 77}, {}, {"before_at": T0 + 30 * DAY, "before_identity": str(UUID(int=0))}):
        told = await plan(connection, "events", "page", **nothing | asked, limit=100)
        read = sum(
            node["Actual Rows"] * node["Actual Loops"] for node in nodes(told) if "Scan" in node["Node Type"]
        )
        assert told["Actual Rows"] == 100
        assert read < 2000, f"of 50,000 for {asked}"


async def test_the_place_of_a_few_meters_does_not_read_the_network(connection: Connection) -> None:
    await connection.execute(
        """INSERT INTO meters (asset_id, model, address)
           SELECT 'M' || n, 'headend-sim', 'via:?gateway=0:0A' FROM generate_series(1, 20000) n;
           INSERT INTO network_nodes (code, kind)
           SELECT left(kind, 1) || n, lower(kind)
             FROM unnest(ARRAY['Transformer', 'Concentrator']) kind, generate_series(1, 100) n
            ORDER BY kind DESC, n;
           INSERT INTO network_nodes (code, kind, meter_id) SELECT asset_id, 'meter', meter_id FROM meters;
           INSERT INTO network_links (child, parent, hops, during)
           SELECT node_id, CASE kind WHEN 'meter' THEN 101 + node_id % 100 ELSE node_id - 100 END, 1,
                  tstzrange('2026-01-01', NULL)
             FROM network_nodes WHERE kind <> 'transformer';
           ANALYZE meters; ANALYZE network_nodes; ANALYZE network_links"""
    )
    ids = list(range(1, 6))
    found = await network.places(connection, ids)
    assert [(found[n].station, found[n].transformer, found[n].hops) for n in (1, 5)] == [
        ("C2", "T2", 1), ("C6", "T6", 1),
    ]  # fmt: skip
    for name, values in (
        ("places", {"meters": ids}),
        ("meters_below", {"nodes": [101]}),
        ("lineage", {"nodes": [201, 202]}),
        ("find", {"nodes": [], "codes": ["M1", "M2"], "meters": [3]}),
    ):
        told = await plan(connection, "network", name, **values)
        read = sum(
            node["Actual Rows"] * node["Actual Loops"] for node in nodes(told) if "Scan" in node["Node Type"]
        )
        assert read < 2_000, f"{name} reads {read} of 20,200"
