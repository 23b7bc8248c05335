-- name: came
-- These meters are connected to this process now, whoever had them before; locked in order.
INSERT INTO inbound_connections (meter_id, worker)
SELECT meter_id, %(worker)s FROM unnest(%(meters)s::integer[]) AS meter_id ORDER BY meter_id
ON CONFLICT (meter_id) DO UPDATE SET worker = EXCLUDED.worker, since = clock_timestamp();

-- name: fence
-- Whoever else holds a lane of these meters writes nothing more under it: their lines are elsewhere now.
UPDATE lanes SET holder = NULL, fence = fence + 1, expires_at = '-infinity'
 WHERE lane IN (SELECT lane FROM lanes WHERE lane = ANY (%(lanes)s) AND holder <> %(worker)s AND expires_at >= clock_timestamp()
                 ORDER BY lane FOR NO KEY UPDATE);

-- name: hurry
-- What failed while they were away, or hung up, need not wait any longer.
UPDATE requests SET next_at = clock_timestamp()
 WHERE lane = ANY (%(lanes)s) AND state = 'open' AND attempts > 0 AND next_at > clock_timestamp();

-- name: due
-- Those of these lanes in which requests are due.
SELECT DISTINCT lane FROM requests
 WHERE lane = ANY (%(lanes)s) AND state = 'open' AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp();

-- name: tell
-- Tell all processes where the meters are.
SELECT pg_notify('headend_inbound', meter_id || ' ' || %(worker)s::text) FROM unnest(%(meters)s::integer[]) AS meter_id;

-- name: gone
-- These meters are connected to this process no more.
DELETE FROM inbound_connections WHERE worker = %(worker)s AND meter_id = ANY (%(meters)s::integer[]);

-- name: elsewhere
-- Those of these meters that another process has.
SELECT meter_id FROM inbound_connections WHERE meter_id = ANY (%(meters)s::integer[]) AND worker <> %(worker)s;
