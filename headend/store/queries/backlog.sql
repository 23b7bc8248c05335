-- name: requests
-- Open requests by urgency, and by how many seconds the one that is due first is late.
SELECT urgency, count(*), greatest(0, extract(epoch FROM clock_timestamp() - min(due_by)))::float
  FROM requests WHERE state = 'open' GROUP BY urgency;

-- name: lanes
-- Lanes that somebody holds.
SELECT count(*) FROM lanes WHERE expires_at >= clock_timestamp();

-- name: attempts
-- Attempts of the last so many seconds by the stage at which they failed.
SELECT stage, count(*) FROM attempts
 WHERE began_at > clock_timestamp() - make_interval(secs => %(seconds)s) GROUP BY stage;

-- name: workers
-- Processes by kind that were heard of lately.
SELECT kind, count(*) FROM workers WHERE seen_at > clock_timestamp() - make_interval(secs => %(silent_s)s) GROUP BY kind;
