"""The schema on both databases: applied once, and with hypertables where they can be."""

import re
import traceback
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from headend.store.migrate import DatabaseError, Timescale, migrate, redacted, status
from headend.store.pool import open_pool


def test_a_second_migration_does_nothing(database):
    again = migrate(database.dsn)
    assert again.applied == ()
    assert (again.timescale is Timescale.ABSENT) == (database.kind == "embedded")
    assert all(migration.applied_at is not None for migration in status(database.dsn))


def test_what_comes_with_time_is_a_hypertable_load_curves_in_chunks_of_a_day(database):
    if database.kind == "embedded":
        return
    with psycopg.connect(database.dsn) as connection:
        rows = connection.execute(
            "SELECT hypertable_name, time_interval::text FROM timescaledb_information.dimensions ORDER BY 1"
        ).fetchall()
    assert {("events", "30 days"), ("interval_reads", "1 day"), ("register_reads", "7 days")} <= set(rows)


def test_two_migrations_at_once_apply_each_file_once(database):
    name = f"{psycopg.conninfo.conninfo_to_dict(database.dsn)['dbname']}_bare"
    dsn = make_conninfo(database.dsn, dbname=name)
    with psycopg.connect(database.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        assert [migration.applied_at for migration in status(dsn)] == [None] * len(status(dsn))
        with ThreadPoolExecutor(3) as threads:
            applied = list(threads.map(migrate, [dsn] * 3))
        names = [migration.name for migration in status(dsn)]
        assert sorted(name for each in applied for name in each.applied) == names
        assert all(migration.applied_at is not None for migration in status(dsn))
    finally:
        with psycopg.connect(database.dsn, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_what_is_wrong_is_said_without_the_password(embedded_database):
    dsn = embedded_database.dsn
    for wrong in (make_conninfo(dsn, password="sesame"), make_conninfo(dsn, port="1", password="sesame")):
        with pytest.raises(DatabaseError, match=r"127\.0\.0\.1") as error:
            migrate(wrong)
        assert "sesame" not in str(error.value)
    assert "sesame" not in redacted("postgresql://me:sesame@host/db?sslpassword=sesame")
    assert redacted("postgresql://me:se same@@host") == "(unreadable database URL)"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres:/me:sesame@127.0.0.1/db",
        "postgresql://me:ses/ame@127.0.0.1/db",
        "postgresql://me:1/sesame@127.0.0.1/db",
        "postgresql://me:sesame%zz@127.0.0.1/db",
        "postgresql://me:ses@ame@127.0.0.1/db",
        "postgresql://me:x@127.0.0.1:sesame/db",
        "host=127.0.0.1 password='sesame",
        "sesame",
    ],
)
async def test_a_database_url_that_cannot_be_read_is_not_repeated(dsn):
    assert redacted(dsn) == "(unreadable database URL)"
    for use in (migrate, status):
        with pytest.raises(DatabaseError, match="cannot be read") as refused:
            use(dsn)
        told = "".join(traceback.format_exception_only(refused.value))
        assert not {"sesame", "ses", "ame"} & set(re.split(r"[^a-z]+", told)), told
        assert refused.value.__context__ is None or refused.value.__suppress_context__
    with pytest.raises(DatabaseError, match="cannot be read"):
        async with open_pool(dsn):
            pass


def test_a_missing_right_is_named(embedded_database):
    with psycopg.connect(embedded_database.dsn, autocommit=True) as admin:
        name = psycopg.conninfo.conninfo_to_dict(embedded_database.dsn)["dbname"]
        admin.execute(
            f"DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE ROLE r_{name} LOGIN PASSWORD 'x'"
        )
        try:
            with pytest.raises(DatabaseError, match="a right is missing"):
                migrate(make_conninfo(embedded_database.dsn, user=f"r_{name}", password="x"))
        finally:
            admin.execute(f"DROP ROLE r_{name}")
