-- name: course
-- How a job goes: its requests by what became of them, those that wait for a meter's call apart: nobody has its connection.
WITH waiting AS (
    SELECT state, stage, next_at > clock_timestamp() + make_interval(secs => %(soon_s)s) AS is_later,
           lane LIKE 'inbound:%%' AND NOT EXISTS (SELECT FROM inbound_connections c WHERE c.meter_id = r.meter_id) AS is_away
      FROM requests r WHERE job_id = %(job_id)s
)
SELECT count(*),
       count(*) FILTER (WHERE state = 'done'),
       count(*) FILTER (WHERE state IN ('failed', 'expired')),
       count(*) FILTER (WHERE state = 'cancelled'),
       count(*) FILTER (WHERE state = 'open' AND (is_away OR is_later AND stage IS NULL)),
       count(*) FILTER (WHERE state = 'open' AND NOT is_away AND is_later AND stage IS NOT NULL)
  FROM waiting;

-- name: effort
-- Attempts of a job beyond the first of each request, and intervals that came.
SELECT count(*) FILTER (WHERE number > 1), coalesce(sum(rows), 0) FROM attempts WHERE job_id = %(job_id)s;

-- name: failures
-- Requests of a job that did not get what they asked for, in order.
SELECT coalesce(m.asset_id, n.code, r.meter_id::text), r.stage, r.reason, r.attempts
  FROM requests r
  LEFT JOIN meters m ON m.meter_id = r.meter_id
  LEFT JOIN network_nodes n ON n.node_id = -r.meter_id
 WHERE r.job_id = %(job_id)s AND (r.state IN ('failed', 'expired') OR r.state = 'open' AND r.stage IS NOT NULL)
 ORDER BY r.request_id LIMIT %(limit)s;

-- name: by_stage
-- How many of those there are, by stage.
SELECT r.stage, count(*) FROM requests r
 WHERE r.job_id = %(job_id)s AND (r.state IN ('failed', 'expired') OR r.state = 'open' AND r.stage IS NOT NULL)
 GROUP BY r.stage ORDER BY count(*) DESC;

-- name: lanes
-- Lanes in which a job has open requests.
SELECT DISTINCT lane FROM requests WHERE job_id = %(job_id)s AND state = 'open' ORDER BY lane;

-- name: took
-- Milliseconds that attempts at each meter of a job took.
SELECT meter_id, sum(took_ms)::bigint FROM attempts WHERE job_id = %(job_id)s GROUP BY meter_id;
