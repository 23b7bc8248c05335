-- name: seen
-- A process is there: for the first time, or still.
INSERT INTO workers (worker, host, kind, version, concurrency)
VALUES (%(worker)s, %(host)s, %(kind)s, %(version)s, %(concurrency)s)
ON CONFLICT (worker) DO UPDATE SET seen_at = clock_timestamp();

-- name: left
-- A process has ended as it was asked to.
DELETE FROM workers WHERE worker = %(worker)s;

-- name: forget
-- Processes that nothing was heard of for so long.
DELETE FROM workers WHERE seen_at < clock_timestamp() - make_interval(secs => %(silent_s)s) RETURNING worker;

-- name: page
-- Processes by their names, and how many lanes each holds.
SELECT w.worker, w.host, w.kind, w.version, w.concurrency, w.started_at, w.seen_at,
       w.seen_at < clock_timestamp() - make_interval(secs => %(silent_s)s),
       (SELECT count(*) FROM lanes l WHERE l.holder = w.worker AND l.expires_at >= clock_timestamp()),
       (SELECT count(*) FROM inbound_connections c WHERE c.worker = w.worker)
  FROM workers w
 WHERE (%(after)s::text IS NULL OR w.worker > %(after)s) AND (%(kind)s::text IS NULL OR w.kind = %(kind)s)
 ORDER BY w.worker LIMIT %(limit)s;

-- name: read_meters
-- Whether a process that reads meters is there.
SELECT 1 FROM workers
 WHERE kind IN ('run', 'worker') AND seen_at >= clock_timestamp() - make_interval(secs => %(silent_s)s) LIMIT 1;
