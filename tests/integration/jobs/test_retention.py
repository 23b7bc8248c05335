"""What ended long ago is forgotten with all that hangs on it; what goes on, or ended lately, stays."""

from datetime import UTC, datetime, timedelta
from typing import Any

from headend.jobs.retention import prune
from headend.store.pool import open_pool

_FILL = """
INSERT INTO jobs (kind, title, work, retry, priority, deadline, drop_dead, actor, correlation_id, ended_at)
SELECT 'scheduled', t, '[]', '{}', 5, now(), now(), 'test', 'c', e
  FROM (VALUES ('old', now() - interval '15 d'), ('older', now() - interval '20 d'),
               ('late', now() - interval '13 d'), ('open', NULL)) AS v (t, e);
INSERT INTO requests (job_id, due_by, next_at, drop_dead, meter_id, urgency, state, lane)
SELECT job_id, now(), now(), now(), 1, 20, CASE WHEN title = 'open' THEN 'open' ELSE 'done' END, 'lot:0'
  FROM jobs;
INSERT INTO attempts (began_at, meter_id, took_ms, bytes_out, bytes_in, rows, number, worker)
SELECT now() - n * interval '5 d', 1, 1, 1, 1, 1, 1, 'a' FROM generate_series(0, 5) n
"""


async def test_what_ended_before_is_forgotten(embedded_database: Any) -> None:
    before = datetime.now(UTC) - timedelta(days=14)
    async with open_pool(embedded_database.dsn) as pool:
        async with pool.connection() as connection:
            for statement in _FILL.split(";\n"):
                await connection.execute(statement.encode())
        assert await prune(pool.connection, before=before, portion_s=0) == (1, 3)
        assert await prune(pool.connection, before=before) == (1, 0)
        async with pool.connection() as connection:
            jobs = await (await connection.execute("SELECT title FROM jobs ORDER BY job_id")).fetchall()
            left = await (await connection.execute("SELECT count(*) FROM requests")).fetchall()
            tries = await (await connection.execute("SELECT count(*) FROM attempts")).fetchall()
    assert jobs == [("late",), ("open",)]
    assert (left, tries) == ([(2,)], [(3,)])
