-- name: tally
-- How many requests of a job are in which state, by the stage of their last failure; how many of them ended of late.
SELECT state, stage, count(*), count(*) FILTER (WHERE ended_at > %(since)s)
  FROM requests WHERE job_id = %(job_id)s GROUP BY state, stage;

-- name: page
-- Requests of a job after a number, in their order, with the name of the meter (of the station, where it is one).
SELECT r.request_id, coalesce(m.asset_id, n.code, r.meter_id::text), r.state, r.attempts, r.stage, r.reason, r.next_at,
       r.ended_at, r.lane, r.result
  FROM requests r
  LEFT JOIN meters m ON m.meter_id = r.meter_id
  LEFT JOIN network_nodes n ON n.node_id = -r.meter_id
 WHERE r.job_id = %(job_id)s AND r.request_id > %(after)s
   AND (%(state)s::text IS NULL OR r.state = %(state)s)
   AND (%(stage)s::text IS NULL OR r.stage = %(stage)s)
   AND NOT (r.state = 'open' AND %(only_ended)s)
   AND r.request_id <> ALL (%(known)s::bigint[])
 ORDER BY r.request_id LIMIT %(limit)s;

-- name: fault
-- Whose fault the last failed attempt at a job's meter was.
SELECT a.fault
  FROM requests r JOIN attempts a ON a.meter_id = r.meter_id AND a.began_at >= %(since)s AND a.stage IS NOT NULL
 WHERE r.request_id = %(request_id)s
 ORDER BY a.began_at DESC LIMIT 1;

-- name: due_lanes
-- Lanes in which something of a job is due.
SELECT DISTINCT lane FROM requests
 WHERE job_id = %(job_id)s AND state = 'open' AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp();
