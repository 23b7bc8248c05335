"""A version survives the migrations of the next: they only add, and a process that runs goes on meanwhile."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from yoyo.migrations import MigrationList

from headend.store import migrate as migrating
from headend.store.migrate import migrate
from headend.store.pool import open_pool
from headend.store.writer import write
from tests.integration.test_store_writer import batch

#: The newest migration of the version before jobs. Rolling upgrades are promised from there on.
PREVIOUS = "0010_meter_address"
GUARD_S = 60.0

_COLUMNS = """
SELECT table_name || '.' || column_name, data_type || ' ' || udt_name, is_nullable,
       column_default IS NOT NULL OR is_identity = 'YES' OR is_generated = 'ALWAYS'
  FROM information_schema.columns WHERE table_schema = 'public'
"""
_CONSTRAINTS = """
SELECT conrelid::regclass || ': ' || pg_get_constraintdef(oid)
  FROM pg_constraint
 WHERE conrelid <> 0 AND connamespace = 'public'::regnamespace AND contype IN ('c', 'u', 'p', 'f', 'x')
UNION ALL
SELECT indrelid::regclass || ': ' || pg_get_indexdef(indexrelid)
  FROM pg_index JOIN pg_class c ON c.oid = indexrelid
 WHERE indisunique AND relnamespace = 'public'::regnamespace
"""
_FUNCTIONS = """
SELECT oid::regprocedure::text || ' ' || pg_get_function_result(oid) FROM pg_proc
 WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
"""


class Column(NamedTuple):
    kind: str
    is_nullable: bool
    has_default: bool


class Schema(NamedTuple):
    """What statements of a version can stumble over."""

    columns: dict[str, Column]
    rules: set[str]
    functions: set[str]

    @classmethod
    def of(cls, dsn: str) -> "Schema":
        with psycopg.connect(dsn) as connection:
            columns = {
                name: Column(kind, nullable == "YES", default)
                for name, kind, nullable, default in connection.execute(_COLUMNS)
            }
            rules = {rule for (rule,) in connection.execute(_CONSTRAINTS)}
            return cls(columns, rules, {name for (name,) in connection.execute(_FUNCTIONS)})

    def broken_by(self, newer: "Schema") -> list[str]:
        """What of the newer schema a statement for this one may stumble over."""
        tables = {name.partition(".")[0] for name in self.columns}
        found = [
            f"{name}: {column.kind} became {newer.columns.get(name)}"
            for name, column in self.columns.items()
            if newer.columns.get(name) != column
            and not (name in newer.columns and newer.columns[name] == column._replace(is_nullable=True))
        ]
        found += [
            f"{name}: new, and old statements do not tell it"
            for name, column in newer.columns.items()
            if name not in self.columns and name.partition(".")[0] in tables
            and not (column.is_nullable or column.has_default)
        ]  # fmt: skip
        found += [rule for rule in newer.rules - self.rules if rule.partition(":")[0] in tables]
        found += [f"{name}: is gone" for name in self.functions - newer.functions]
        return found


def names() -> list[str]:
    with migrating._migrations() as all_of_them:
        return [one.id for one in all_of_them]


@contextmanager
def only_up_to(newest: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`migrate` as the version had it whose newest migration that is."""
    read = migrating.read_migrations

    def some(*sources: str) -> MigrationList:
        return read(*sources).filter(lambda one: one.id <= newest)

    with monkeypatch.context() as patch:
        patch.setattr(migrating, "read_migrations", some)
        if newest <= PREVIOUS:
            patch.setattr(migrating, "_create_queue", lambda dsn: None)
        yield


@pytest.fixture
def bare(database: Any) -> Iterator[str]:
    """An empty database beside the test's own."""
    name = f"{conninfo_to_dict(database.dsn)['dbname']}_old"
    with psycopg.connect(database.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(database.dsn, dbname=name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_each_migration_only_adds(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with only_up_to(PREVIOUS, monkeypatch):
        migrate(bare)
    before = Schema.of(bare)
    for name in [one for one in names() if one > PREVIOUS]:
        with only_up_to(name, monkeypatch):
            assert migrate(bare).applied == (name,)
        after = Schema.of(bare)
        assert before.broken_by(after) == [], name
        before = after


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE meters DROP COLUMN feeder",
        "ALTER TABLE meters RENAME COLUMN feeder TO line",
        "ALTER TABLE meters ALTER COLUMN feeder TYPE varchar(5)",
        "ALTER TABLE meters ADD COLUMN owner text NOT NULL",
        "ALTER TABLE meters ADD CHECK (asset_id <> 'M-0')",
        "CREATE UNIQUE INDEX ON meters (feeder)",
        "DROP FUNCTION lane_of",
        "DROP TABLE inbox",
    ],
)
def test_what_does_more_than_add_is_found(embedded_database: Any, change: str) -> None:
    before = Schema.of(embedded_database.dsn)
    with psycopg.connect(embedded_database.dsn, autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE meters ADD COLUMN colour text, ADD COLUMN size integer NOT NULL DEFAULT 1"
        )
        assert before.broken_by(Schema.of(embedded_database.dsn)) == []
        connection.execute(change)
    assert before.broken_by(Schema.of(embedded_database.dsn)) != []


async def test_who_writes_goes_on_while_migrations_are_applied(
    bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with only_up_to(PREVIOUS, monkeypatch):
        await asyncio.to_thread(migrate, bare)
    with psycopg.connect(bare, autocommit=True) as connection:
        meters = [
            connection.execute(
                "INSERT INTO meters (asset_id, model) VALUES (%s, 'headend-sim') RETURNING meter_id",
                (f"M-{n}",),
            ).fetchone()[0]  # type: ignore[index]
            for n in range(20)
        ]
    written: asyncio.Queue[int] = asyncio.Queue()
    rounds, enough = count(), asyncio.Event()
    async with open_pool(bare) as pool, asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:

        async def writing() -> None:
            while not enough.is_set():
                number = next(rounds)
                await write(pool, batch(meters, rows=4, first=4 * number))
                written.put_nowait(number)

        tasks.create_task(writing())
        before = [await written.get() for _ in range(5)]
        done = await asyncio.to_thread(migrate, bare)
        during = written.qsize()
        after = [await written.get() for _ in range(during + 5)]
        enough.set()
    total = next(rounds)
    assert done.applied == tuple(one for one in names() if one > PREVIOUS)
    assert during > 0
    assert [*before, *after] == list(range(len(before) + len(after)))
    with psycopg.connect(bare) as connection:
        found = connection.execute(
            "SELECT meter_id, count(*) FROM interval_reads GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert found == [(meter, 4 * total) for meter in sorted(meters)]
