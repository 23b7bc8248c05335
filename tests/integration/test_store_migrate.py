"""The schema on both databases: applied once, and with hypertables where they can be."""

import psycopg

from headend.store.migrate import Timescale, migrate, status


def test_a_second_migration_does_nothing(database):
    again = migrate(database.dsn)
    assert again.applied == ()
    assert (again.timescale is Timescale.ABSENT) == (database.kind == "embedded")
    assert all(migration.applied_at is not None for migration in status(database.dsn))


def test_load_curves_are_a_hypertable_of_one_day_chunks(database):
    if database.kind == "embedded":
        return
    with psycopg.connect(database.dsn) as connection:
        rows = connection.execute(
            "SELECT hypertable_name, time_interval::text FROM timescaledb_information.dimensions ORDER BY 1"
        ).fetchall()
    assert rows == [("interval_reads", "1 day"), ("register_reads", "7 days")]
