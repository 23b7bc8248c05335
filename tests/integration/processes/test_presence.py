"""Processes are seen while they live, silent when they were killed, gone when they were asked to go."""

import json
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from headend.processes.presence import Presence, this_process
from headend.store import workers
from headend.store.pool import open_pool
from headend.store.workers import Kind


async def test_a_process_is_seen_inside_and_forgotten_behind(embedded_database: Any) -> None:
    me, other = this_process(Kind.WORKER, 32), this_process(Kind.API)
    assert me.worker.count(":") == 2
    async with open_pool(embedded_database.dsn) as pool:
        async with Presence(pool.connection, me), Presence(pool.connection, other):
            async with pool.connection() as connection:
                await connection.execute(
                    "INSERT INTO lanes VALUES ('lot:1', %(w)s, 1, now() + interval '1 h'),"
                    " ('lot:2', %(w)s, 1, now())",
                    {"w": me.worker},
                )
                found = {one.worker: one for one in await workers.page(connection, limit=10)}
                (only,) = await workers.page(connection, limit=10, kind=Kind.API)
            assert only.worker == other.worker
            assert (found[me.worker].lanes, found[me.worker].is_silent) == (1, False)
            assert (found[me.worker].kind, found[me.worker].concurrency) == (Kind.WORKER, 32)
        async with pool.connection() as connection:
            assert await workers.page(connection, limit=10) == []


async def test_who_says_nothing_is_silent_and_after_a_day_forgotten(embedded_database: Any) -> None:
    me, lost = this_process(Kind.WORKER), this_process(Kind.RUN)
    async with open_pool(embedded_database.dsn) as pool:
        async with pool.connection() as connection:
            await workers.seen(connection, lost)
            await connection.execute("UPDATE workers SET seen_at = now() - interval '1 min'")
            (seen,) = await workers.page(connection, limit=10)
            assert seen.is_silent
            await connection.execute("UPDATE workers SET seen_at = now() - interval '25 h'")
        async with Presence(pool.connection, me), pool.connection() as connection:
            assert [one.worker for one in await workers.page(connection, limit=10)] == [me.worker]


def test_people_see_them(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    assert "headend run starts one" in CliRunner().invoke(app, ["workers"]).stdout
    with psycopg.connect(embedded_database.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO workers (worker, host, kind, version, concurrency, seen_at)"
            " VALUES ('a:1:f', 'a', 'api', '0.1.0', 0, now()),"
            " ('b:2:e', 'b', 'worker', '0.1.0', 8, 'yesterday')"
        )
    told = CliRunner().invoke(app, ["workers"], env={"COLUMNS": "200"}).stdout
    assert [("silent" in line) for line in told.splitlines() if "0.1.0" in line] == [False, True]
    done = CliRunner().invoke(app, ["workers", "--kind", "api", "--json"])
    (one,) = json.loads(done.stdout)
    assert (one["worker"], one["kind"], one["is_silent"]) == ("a:1:f", "api", False)
