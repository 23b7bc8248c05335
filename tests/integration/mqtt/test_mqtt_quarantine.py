"""The quarantine as people use it: listed, replayed when there is a fix, dropped; by command and by API."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from typer.testing import CliRunner, Result

from api.app import create_app
from api.services import Services
from headend.cli.main import app
from headend.ingest.pipeline import Pipeline
from headend.listen.directory import Directory
from headend.listen.handler import PushHandler
from headend.listen.recognise import Recogniser
from headend.mqtt.frames import FrameDoor
from headend.mqtt.ingest import Ingest
from headend.mqtt.replay import Replay
from headend.store import announcements, inbox, meters, network, quarantine, tokens
from headend.store.pool import Pool, open_pool
from headend.store.tokens import Scope
from headend.store.writer import write
from schemas.meter import NewMeter
from schemas.network import NodeKind
from tests.conftest import Database

from .field import DAY, add_fleet, batch, lease_of, make_ingest, message, tasmota

STRANGER = ("tele/plug-99/SENSOR", tasmota(0, 15)[1])
BROKEN = ("tele/plug-0/SENSOR", b"{")


@pytest.fixture
async def pool(embedded_database: Database) -> AsyncIterator[Pool]:
    async with open_pool(embedded_database.dsn, max_size=4) as opened:
        await add_fleet(opened)
        yield opened


async def keep(pool: Pool, *told: tuple[str, bytes]) -> list[quarantine.Kept]:
    ingest = make_ingest(pool)
    await ingest.store(await lease_of(pool), await ingest.decode([message(one) for one in told]))
    async with pool.connection() as connection:
        return await quarantine.page(connection, limit=99)


async def one(pool: Pool, query: str) -> Any:
    async with pool.connection() as connection:
        return (await (await connection.execute(query.encode())).fetchone() or (None,))[0]


async def test_what_a_stranger_sent_is_stored_once_he_is_known(pool: Pool) -> None:
    (kept, mixed) = await keep(pool, STRANGER, batch(0, meters=("m-0", "m-77")))
    replay = Replay(pool.connection, make_ingest(pool))
    assert (await replay(kept.number, actor="cli")).reason == "nobody knows plug-99"
    async with pool.connection() as connection:
        new = [NewMeter("p-99", "tasmota", address="mqtt:plug-99"), NewMeter("m-77", "headend-batch-meter")]
        await meters.add_many(connection, new, since=DAY)
    assert (await replay(kept.number, actor="cli")).reason is None
    assert (await replay(mixed.number, actor="cli")).reason is None
    assert await one(pool, "SELECT count(*) FROM interval_reads") == 3
    assert await one(pool, "SELECT string_agg(state, ' ') FROM quarantine") == "replayed replayed"
    assert await one(pool, "SELECT count(*) FROM audit_log WHERE action = 'quarantine.replay'") == 3
    # the bytes came then: a reading without a time of its own is not of now
    assert await one(pool, "SELECT max(stamp) FROM interval_reads") == datetime(2026, 3, 2, 0, 15, tzinfo=UTC)


async def test_strangers_are_announced_by_themselves_or_below_their_station(pool: Pool) -> None:
    async with pool.connection() as connection:
        await network.add_nodes(connection, [network.NewNode("dc1", NodeKind.CONCENTRATOR)])
    await keep(pool, STRANGER, batch(0, meters=("m-0", "m-77")))
    async with pool.connection() as connection:
        found = await announcements.page(connection, limit=9)
    assert {(d.station, d.announced.identity, d.announced.address) for d in found} == {
        (None, "plug-99", "mqtt:plug-99"),
        ("dc1", "m-77", None),
    }


async def test_an_announcement_waits_for_its_station(pool: Pool) -> None:
    told = {"format": "headend.batch-announce.1", "concentrator": "dc1", "sent": 1_772_409_600}
    listed = {**told, "meters": [{"meter": "m-0", "hops": 2, "quality": 70}, {"meter": "new-1"}]}
    (kept,) = await keep(pool, ("headend/batch/dc1", json.dumps(listed).encode()))
    assert kept.reason == "the network has no concentrator dc1"
    async with pool.connection() as connection:
        await network.add_nodes(connection, [network.NewNode("dc1", NodeKind.CONCENTRATOR)])
    assert (await Replay(pool.connection, make_ingest(pool))(kept.number, actor="cli")).reason is None
    async with pool.connection() as connection:
        found = await announcements.page(connection, limit=9)
    assert [device.announced.identity for device in found] == ["new-1"]


async def test_frames_of_a_gateway_go_the_way_of_pushes_once(pool: Pool) -> None:
    frame = ("dlms/gw1", bytes.fromhex("0001000100100008") + bytes.fromhex("0F00000001000200"))
    async with Pipeline(partial(write, pool)) as pipeline:
        directory = Directory(pool.connection, None)
        handler = PushHandler(pool.connection, pipeline, Recogniser(directory, bytes(8)))
        ingest = make_ingest(pool)
        ingest = Ingest(pool.connection, ingest._decoder, FrameDoor(handler))
        lease = await lease_of(pool)
        for _ in range(2):
            await ingest.store(lease, await ingest.decode([message(frame), message(frame)]))
    async with pool.connection() as connection:
        found = await inbox.unresolved(connection, limit=9)
        assert await quarantine.page(connection, limit=9) == []
    assert [(kept.source, kept.payload.hex()) for kept in found] == [("mqtt dlms/gw1", "0f00000001000200")]
    assert ingest.totals.repeated == 3


# ---- the API ----


async def test_the_api_lists_and_replays(pool: Pool) -> None:
    await keep(pool, STRANGER, BROKEN, batch(0, meters=("m-77",)))
    services = Services(pool, None, Replay(pool.connection, make_ingest(pool)))  # type: ignore[arg-type]
    async with pool.connection() as connection:
        reader = await tokens.create(connection, name="r", scopes=[Scope.READ])
        operator = await tokens.create(connection, name="o", scopes=[Scope.OPERATE])
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://headend") as client:
        client.headers["Authorization"] = f"Bearer {reader.secret}"
        page = await client.get("/api/v1/quarantine", params={"limit": 2})
        assert [p["topic"] for p in page.json()["payloads"]] == [STRANGER[0], BROKEN[0]]
        assert bytes.fromhex(page.json()["payloads"][1]["payload"]) == BROKEN[1]
        rest = await client.get(page.links["next"]["url"])
        assert [p["identity"] for p in rest.json()["payloads"]] == ["m-77"]
        number = page.json()["payloads"][0]["number"]
        assert (await client.post(f"/api/v1/quarantine/{number}/replay")).status_code == 403
        client.headers["Authorization"] = f"Bearer {operator.secret}"
        answer = await client.post(f"/api/v1/quarantine/{number}/replay")
        assert answer.json() == {"number": number, "reason": "nobody knows plug-99"}
        assert (await client.post("/api/v1/quarantine/4711/replay")).status_code == 404
        async with pool.connection() as connection:
            await quarantine.settle(connection, number, quarantine.State.DROPPED)
        assert (await client.post(f"/api/v1/quarantine/{number}/replay")).status_code == 409


# ---- the commands ----


@pytest.fixture
def headend(embedded_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done

    return run


def test_the_commands(headend: Any, embedded_database: Database) -> None:
    with psycopg.connect(embedded_database.dsn, autocommit=True) as database:
        for number, topic in enumerate(("tele/plug-0/SENSOR", "tele/plug-1/SENSOR", "tele/plug-2/SENSOR")):
            database.execute(
                "INSERT INTO quarantine (digest, topic, payload, bytes, retained, reason, first_at, last_at,"
                " identity) VALUES (%s, %s, '{', 1, false, 'no JSON', now(), now(), %s)",
                (b"%d" % number, topic, topic.split("/")[1]),
            )
        listed = json.loads(headend("quarantine", "list", "--json").stdout)
        assert [one["payload"] for one in listed] == ["7b"] * 3
        assert json.loads(headend("quarantine", "count", "--json").stdout) == [
            {"reason": "no JSON", "payloads": 3, "times": 3}
        ]
        headend("quarantine", "drop", str(listed[0]["number"]))
        headend("quarantine", "drop", str(listed[0]["number"]), status=1)
        assert (
            json.loads(headend("quarantine", "show", str(listed[0]["number"])).stdout)["state"] == "dropped"
        )
        replayed = headend("quarantine", "replay", "--identity", "plug-1", status=1)
        assert f"{listed[1]['number']} waits: nobody knows plug-1" in replayed.stdout
        headend("quarantine", "replay", status=1)
        assert "no JSON" in headend("quarantine", "list", "--topic", "tele/plug-2/SENSOR").stdout
        database.execute(
            "INSERT INTO batch_runs (concentrator, run, topic, slot)"
            " VALUES ('dc1', 'r', 'headend/batch/dc1', '0')"
        )
        database.execute(
            "INSERT INTO batch_gaps (concentrator, run, gap, missing, lost)"
            " VALUES ('dc1', 'r', '[3,9]', '{[3,4],[6,6]}', '{[5,5]}')"
        )
        (gap,) = json.loads(headend("quarantine", "gaps", "--json").stdout)
        assert (gap["gap"], gap["missing"], gap["lost"]) == ([3, 9], [[3, 4], [6, 6]], [[5, 5]])
        assert "3-4, 6" in headend("quarantine", "gaps").stdout


def test_ingest_needs_a_broker(headend: Any) -> None:
    assert "HEADEND_MQTT_URL" in headend("ingest", status=1).stderr
