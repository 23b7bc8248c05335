"""Commands act as whoever is logged in, with what he may, as the API does; else as the host."""

import os
import pwd
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from headend import cli as commands
from headend.cli.main import app
from headend.clock import utc_now
from headend.people.identity import host_actor
from headend.store import groups, jobs, meters, tokens
from headend.store.jobs import NewJob
from headend.store.pool import open_pool
from headend.store.tokens import Scope
from schemas.job import JobKind, Registers
from schemas.meter import NewMeter
from tests.integration.people import account, people

Headend = Callable[..., Result]
HOST = f"host:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture
async def secrets(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """N-1 in the group north, X-1 elsewhere; tokens of a viewer, of an operator of north, of an operator."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    made = {}
    async with open_pool(embedded_database.dsn, max_size=2) as pool:
        async with pool.connection() as connection:
            numbers = [
                (
                    await meters.add(
                        connection, NewMeter(asset_id=name, model="headend-sim"), since=utc_now()
                    )
                ).meter_id
                for name in ("N-1", "X-1")
            ]
            await groups.add(connection, "north", meters=["N-1"], actor="test")
            for n in (*numbers, numbers[1]):
                job = await jobs.create(
                    connection,
                    NewJob(JobKind.ON_DEMAND, "t", (Registers(),), 5, utc_now(), utc_now(), "test", "c"),
                )
                assert job is not None
                await jobs.add_requests(
                    connection, job, [n], urgency=0, due_by=utc_now(), next_at=utc_now(), drop_dead=utc_now()
                )
        for login, role in (("vera", "viewer"), ("nora", "operator:north"), ("otto", "operator")):
            owner = await account(pool, people(), login, role, password=None)
            async with pool.connection() as connection:
                issued = await tokens.create(
                    connection, name="t", scopes=[Scope.OPERATE], account_id=owner.account_id
                )
            made[login] = issued.secret
    return made


@pytest.fixture
def headend(secrets: dict[str, str]) -> Headend:
    def run(who: str | None, *arguments: str, status: int = 0) -> str:
        given = {"COLUMNS": "200"} | ({} if who is None else {"HEADEND_TOKEN": secrets.get(who, who)})
        done = CliRunner().invoke(app, list(arguments), env=given)
        assert done.exit_code == status, done.output
        return " ".join(done.output.split())

    return run


def trail(database: Any) -> list[tuple[str, str, str]]:
    with psycopg.connect(database.dsn) as connection:
        query = "SELECT actor, action, object FROM audit_log WHERE actor <> 'test' ORDER BY audit_id"
        return list(connection.execute(query).fetchall())


def test_who_may_not_is_refused_and_audited(headend: Headend, embedded_database: Any) -> None:
    for who, arguments, why in (
        ("vera", ("meters", "state", "N-1", "installed"), "needs the permission operate"),
        ("vera", ("schedules", "pause", "nightly"), "needs the permission operate"),
        ("otto", ("points", "ratio", "P-1", "--ct", "2"), "needs the permission administer"),
        ("nora", ("meters", "state", "X-1", "installed"), "you are limited to north, and of"),
        ("nora", ("groups", "put", "north", "X-1"), "you are limited to north, and this goes beyond"),
        ("nora", ("groups", "tag", "N-1", "X-1", "--set", "vip"), "you are limited to north, and of"),
        ("nora", ("jobs", "cancel", "2"), "and this goes beyond"),
        ("nora", ("switch", "stop", "--reason", "fire"), "you are limited to north"),
        ("nora", ("switch", "critical", "add", "--meter", "X-1", "--why", "x"), "and this goes beyond"),
    ):
        told = headend(who, *arguments, status=1)
        assert why in told, told
        assert f"you are token:{1 + ['vera', 'nora', 'otto'].index(who)} t of {who}" in told
    refused = trail(embedded_database)
    assert [action for _, action, _ in refused] == [
        "meter.state.refused", "schedule.paused.refused", "point.ratio.refused", "meter.state.refused",
        "group.members.refused", "tags.changed.refused", "job.cancelled.refused", "switching.refused",
        "critical.add.refused",
    ]  # fmt: skip


def test_who_may_is_who_the_trail_names(headend: Headend, embedded_database: Any) -> None:
    headend("nora", "meters", "state", "N-1", "installed")
    headend("nora", "groups", "tag", "N-1", "--set", "vip")
    headend("nora", "jobs", "cancel", "1")
    headend("otto", "jobs", "cancel", "2")
    headend(None, "jobs", "cancel", "3")
    headend(None, "groups", "add", "south")
    assert host_actor() == HOST
    assert [(actor.rpartition(" ")[2], action) for actor, action, _ in trail(embedded_database)] == [
        ("nora", "meter.state"), ("nora", "meter.tags"), ("nora", "job.cancelled"), ("otto", "job.cancelled"),
        (HOST, "job.cancelled"), (HOST, "group.added"),
    ]  # fmt: skip


def test_what_is_not_good_any_more_never_acts_as_the_host(headend: Headend, embedded_database: Any) -> None:
    told = headend("hdnd_" + "x" * 43, "groups", "add", "south", status=1)
    assert "unknown, expired or revoked" in told
    assert "unset HEADEND_TOKEN" in told
    assert trail(embedded_database) == []


def test_no_command_acts_as_nobody_in_particular() -> None:
    folder = Path(commands.__file__).parent
    named = [path.name for path in folder.glob("*.py") if re.search(r'"cli"', path.read_text("utf-8"))]
    assert named == []
