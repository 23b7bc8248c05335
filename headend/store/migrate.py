"""The schema: numbered SQL migrations of schemas/sql, then hypertables where TimescaleDB is there.

One dialect for PostgreSQL 15 to 18. yoyo keeps the record of what was applied; its own lock table outlives a
killed process, so two migrations at once are kept apart by an advisory lock instead.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib.resources import as_file, files
from typing import Final

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from yoyo import read_migrations
from yoyo.backends import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import MigrationList, default_migration_table

log = logging.getLogger(__name__)

OLDEST_POSTGRES: Final = 15
#: Any constant will do, as long as nothing else of ours locks on it.
_LOCK: Final = 0x4845_4144_454E_44
_CONNECT_TIMEOUT_S: Final = 10
#: table -> (time column, length of a chunk)
HYPERTABLES: Final = {
    "interval_reads": ("start", "1 day"),
    "register_reads": ("read_at", "7 days"),
    "events": ("at", "30 days"),
}


class DatabaseError(Exception):
    """The database cannot be used; the message says what is wrong and what to change, and has no password."""


class Timescale(StrEnum):
    """What of TimescaleDB this database has."""

    ABSENT = "absent"  # plain tables
    APACHE = "apache"  # hypertables
    COMMUNITY = "timescale"  # hypertables, compression, continuous aggregates


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration and when it was applied (None: not yet)."""

    name: str
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class Migrated:
    """What `migrate` did: names of the migrations it applied, and what of TimescaleDB is in use."""

    applied: tuple[str, ...]
    timescale: Timescale


def migrate(dsn: str) -> Migrated:
    """Bring the database up to date. Safe to repeat, and safe when several processes do it at once.

    Raises DatabaseError: unreachable, too old, or a right is missing.
    """
    with _explained(dsn), _connect(dsn) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))  # released with the connection
        timescale = _create_extension(connection, dsn)
        _create_queue(dsn)
        applied = _apply(dsn)
        if timescale is not Timescale.ABSENT:
            _make_hypertables(dsn)
        return Migrated(applied, timescale)


def status(dsn: str) -> tuple[Migration, ...]:
    """All migrations in order, with the time each was applied. Changes nothing. Raises DatabaseError."""
    with _explained(dsn), _connect(dsn) as connection, _migrations() as migrations:
        applied: dict[str, datetime] = {}
        if connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL", (default_migration_table,)
        ).fetchone() == (True,):
            # yoyo writes naive UTC
            query = sql.SQL("SELECT migration_id, applied_at_utc AT TIME ZONE 'UTC' FROM {}")
            rows = connection.execute(query.format(sql.Identifier(default_migration_table)))
            applied = dict(rows.fetchall())
        return tuple(Migration(migration.id, applied.get(migration.id)) for migration in migrations)


def check_dsn(dsn: str) -> None:
    """Raises DatabaseError for a DSN that cannot be read, without a word of it.

    libpq's own words repeat what it stumbled over, and that may be the password: an unescaped / or @ in one
    makes its rest a port, a host or a database's name.
    """
    if _who_and_where(dsn) is None:
        # from None: nor may the traceback of the cause hold it
        raise DatabaseError(
            "the database URL cannot be read: write it as postgresql://user:password@host:port/name, and "
            "what is no letter or digit of the password as % and two hexadecimal digits (@ as %40, / as %2F)"
        ) from None


def redacted(dsn: str) -> str:
    """Who and where of a DSN, for logs and errors: no password, none of the other parameters."""
    return _who_and_where(dsn) or "(unreadable database URL)"


def _who_and_where(dsn: str) -> str | None:
    """``user@host:port/name``; None where one of them cannot be what it says."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return None
    user, host, name = (str(parts.get(key) or "") for key in ("user", "host", "dbname"))
    port = str(parts.get("port") or 5432)
    ports_are_numbers = all(one.isascii() and one.isdigit() for one in port.split(",") if one)
    if not ports_are_numbers or "@" in host or "@" in name:
        return None
    return f"{user}@{host or 'local socket'}:{port}/{name}"


@contextmanager
def _explained(dsn: str) -> Iterator[None]:
    """Say what is wrong in words that tell what to change."""
    check_dsn(dsn)
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(f"{redacted(dsn)}: a right is missing: {_first_line(error)}") from error
    except psycopg.OperationalError as error:
        raise DatabaseError(
            f"{redacted(dsn)} cannot be reached or does not let us in: {_first_line(error)}"
        ) from error
    except psycopg.ProgrammingError as error:
        raise DatabaseError(f"{redacted(dsn)}: {_first_line(error)}") from error


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().split("\n", 1)[0]


def _connect(dsn: str) -> psycopg.Connection[TupleRow]:
    connection = psycopg.connect(
        make_conninfo(dsn, application_name="headend migrate"),
        autocommit=True,
        connect_timeout=_CONNECT_TIMEOUT_S,
    )
    if connection.info.server_version < OLDEST_POSTGRES * 10_000:
        version = connection.info.server_version // 10_000
        connection.close()
        raise DatabaseError(f"{redacted(dsn)} is PostgreSQL {version}: {OLDEST_POSTGRES} or newer is needed")
    return connection


@contextmanager
def _migrations() -> Iterator[MigrationList]:
    with as_file(files("schemas") / "sql") as folder:
        yield read_migrations(str(folder))


def _apply(dsn: str) -> tuple[str, ...]:
    with _migrations() as migrations:
        arguments = {**conninfo_to_dict(dsn), "application_name": "headend migrate"}
        arguments.setdefault("connect_timeout", _CONNECT_TIMEOUT_S)
        # Built from psycopg's own reading of the DSN: yoyo's knows neither key=value form nor several hosts.
        uri = DatabaseURI(
            "postgresql+psycopg", None, None, None, None, arguments.pop("dbname", None), arguments
        )
        backend = PostgresqlPsycopgBackend(uri, default_migration_table)
        try:
            backend.init_database()
            pending = backend.to_apply(migrations)
            backend.apply_migrations(pending)
            return tuple(migration.id for migration in pending)
        finally:
            backend.connection.close()


def _create_queue(dsn: str) -> None:
    """The tables of procrastinate as the pinned version has them: a newer one brings a migration of ours."""
    with _connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('procrastinate_jobs') IS NULL").fetchone() == (True,):
            connection.execute(SchemaManager.get_schema())


def _create_extension(connection: psycopg.Connection[TupleRow], dsn: str) -> Timescale:
    """CREATE EXTENSION where the server can; must come before the session touched anything of TimescaleDB."""
    known = connection.execute(
        """SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),
                  EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'),
                  current_setting('shared_preload_libraries', true)"""
    ).fetchone()
    assert known is not None  # noqa: S101 - a SELECT without FROM has one row
    available, created, preloaded = known
    if not available:
        return Timescale.ABSENT
    if not created:
        if preloaded is not None and "timescaledb" not in str(preloaded):
            log.warning("TimescaleDB is installed but not in shared_preload_libraries: using plain tables")
            return Timescale.ABSENT
        with _connect(dsn) as fresh:
            fresh.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    with _connect(dsn) as fresh:
        licence = fresh.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    return Timescale.COMMUNITY if licence == ("timescale",) else Timescale.APACHE


def _make_hypertables(dsn: str) -> None:
    with _connect(dsn) as connection:
        for table, (column, chunk) in HYPERTABLES.items():
            # No default index on time: the primary key serves every query, and each index costs its share.
            connection.execute(
                """SELECT create_hypertable(%s::regclass, by_range(%s, %s::interval), if_not_exists => true,
                                            migrate_data => true, create_default_indexes => false)""",
                (table, column, chunk),
            )
