"""Databases for tests: each test that asks gets a fresh, migrated one.

``database`` runs the test twice, on the embedded PostgreSQL and on a real TimescaleDB; ``embedded_database``
runs it once, on the embedded one. Both are `Database(dsn, kind)`. The TimescaleDB is the server that
HEADEND_TEST_TIMESCALEDB_URL names (deploy/timescaledb.sh starts one); without it those tests are skipped,
loudly, and with CI=true they fail.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from headend.store.embedded import EmbeddedPostgres
from headend.store.migrate import migrate

TIMESCALEDB_URL = "HEADEND_TEST_TIMESCALEDB_URL"
_FIXTURES = {"database", "embedded_database"}
#: A folder in memory, and the bytes that must be free there: each worker of the tests has a server.
_MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by mkdtemp
_ROOM = 4 * 2**30
#: Until its time is over, a connection that was given up midway holds up the end of any database.
_SETTINGS = {
    "fsync": "off", "shared_buffers": "128MB", "max_wal_size": "256MB", "authentication_timeout": "15s",
}  # fmt: skip
_MISSING = f"no TimescaleDB: {TIMESCALEDB_URL} is not set (run `deploy/timescaledb.sh test -- pytest`)"


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of its own; ``kind`` is "embedded" or "timescaledb"."""

    dsn: str
    kind: str


@dataclass(frozen=True, slots=True)
class _Server:
    """A server on which databases are made as copies of one migrated template."""

    admin_dsn: str
    template: str
    kind: str

    def fresh(self) -> Iterator[Database]:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.admin_dsn, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(self.template)
                )
            )
        try:
            yield Database(make_conninfo(self.admin_dsn, dbname=name), self.kind)
        finally:
            _drop(self.admin_dsn, name)


def _drop(admin_dsn: str, name: str) -> None:
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _with_template(admin_dsn: str, kind: str) -> Iterator[_Server]:
    template = f"template_{uuid.uuid4().hex}"
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(template)))
        try:
            migrate(make_conninfo(admin_dsn, dbname=template))
            # A template must have no guests: TimescaleDB's scheduler would be one.
            admin.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(template))
            )
            admin.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                (template,),
            )
            yield _Server(admin_dsn, template, kind)
        finally:
            _drop(admin_dsn, template)


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder for a server's data, in memory where there is room: a database is more than a thousand files,
    and a disk takes ten times as long to make them."""
    has_room = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    folder = Path(tempfile.mkdtemp(prefix="headend-test-", dir=_MEMORY if has_room else None))
    folder.chmod(0o711)  # as root the server runs as another user, who must get to its data
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _embedded_server() -> Iterator[_Server]:
    with server_folder() as folder, EmbeddedPostgres(folder, settings=_SETTINGS) as dsn:
        yield from _with_template(dsn, "embedded")


@pytest.fixture(scope="session")
def _timescaledb_server() -> Iterator[_Server]:
    dsn = os.environ.get(TIMESCALEDB_URL)
    if not dsn:
        if os.environ.get("CI") == "true":
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    yield from _with_template(dsn, "timescaledb")


@pytest.fixture
def embedded_database(_embedded_server: _Server) -> Iterator[Database]:
    yield from _embedded_server.fresh()


@pytest.fixture(params=["embedded", "timescaledb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    server: _Server = request.getfixturevalue(f"_{request.param}_server")
    yield from server.fresh()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.storage)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = sum(_MISSING in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.section("STORAGE TESTS NOT RUN ON TIMESCALEDB", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"{skipped} tests skipped: {_MISSING}")
