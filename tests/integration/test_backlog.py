"""Figures of all processes, as the API tells them to Prometheus."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from headend.observe.backlog import Watch
from headend.observe.metrics import Metrics
from headend.store.pool import open_pool

_FILL = """
INSERT INTO jobs (kind, title, work, retry, priority, deadline, drop_dead, actor, correlation_id)
VALUES ('scheduled', 't', '[]', '{}', 5, now(), now(), 'test', 'c');
INSERT INTO requests (job_id, due_by, next_at, drop_dead, meter_id, urgency, state, lane)
SELECT 1, now() - n * interval '1 min', now(), now(), n, CASE WHEN n = 1 THEN 0 ELSE 20 END,
       CASE WHEN n = 5 THEN 'done' ELSE 'open' END, 'lot:0' FROM generate_series(1, 5) n;
INSERT INTO lanes VALUES ('lot:0', 'a:1:f', 1, now() + interval '1 min'), ('lot:1', NULL, 1, now());
INSERT INTO attempts (began_at, meter_id, took_ms, bytes_out, bytes_in, rows, number, stage, worker)
SELECT now() - n * interval '6 min', n, 1, 1, 1, 1, 1, CASE WHEN n = 1 THEN 'timeout' END, 'a:1:f'
  FROM generate_series(0, 3) n;
INSERT INTO workers (worker, host, kind, version, concurrency, seen_at)
VALUES ('a:1:f', 'a', 'worker', '0', 1, now()), ('b:1:f', 'b', 'worker', '0', 1, now() - interval '1 min');
"""


async def test_what_waits_who_works_and_what_came_of_it(embedded_database: Any) -> None:
    metrics = Metrics()
    async with open_pool(embedded_database.dsn) as pool:
        watch = Watch(pool.connection, metrics)
        async with pool.connection() as connection:
            for statement in _FILL.split(";\n"):
                if statement.strip():
                    await connection.execute(statement.encode())
        await watch.look()
    found = {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for one in family.samples
    }
    assert found["headend_requests_waiting", "on_demand"] == 1
    assert found["headend_requests_waiting", "scheduled"] == 3
    assert found["headend_requests_waiting", "probe"] == 0
    assert found["headend_requests_late_seconds", "on_demand"] >= 60
    assert found["headend_requests_late_seconds", "scheduled"] >= 240
    assert found["headend_lanes_held",] == 1
    assert found["headend_attempts_lately", "timeout"] == 1
    assert found["headend_attempts_lately", "answered"] == 2
    assert found["headend_workers", "worker"] == 1
