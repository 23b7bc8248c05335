-- name: insert
-- Readings of clocks; one of the same moment is there already.
INSERT INTO clock_readings (meter_id, at, offset_ms, uncertainty_ms, deviation_min, status, source)
SELECT * FROM unnest(%(meters)s::integer[], %(at)s::timestamptz[], %(offset_ms)s::bigint[], %(uncertainty_ms)s::integer[],
                     %(deviation_min)s::smallint[], %(status)s::smallint[], %(sources)s::text[])
ON CONFLICT DO NOTHING;

-- name: series
-- Readings of one clock in a range, newest first.
SELECT at, offset_ms, uncertainty_ms, deviation_min, status, source
  FROM clock_readings
 WHERE meter_id = %(meter)s AND at >= %(since)s AND at < %(until)s
 ORDER BY at DESC
 LIMIT %(limit)s;

-- name: fleet
-- The newest reading of each clock since a moment, and the oldest since then that lies behind its last change.
WITH clocks (meter_id, name, model) AS (
    SELECT meter_id, asset_id, model FROM meters
    UNION ALL
    SELECT -node_id, code, coalesce(model, '?') FROM network_nodes WHERE address IS NOT NULL
), changed AS MATERIALIZED (
    SELECT meter_id, max(at) AS at FROM clock_changes WHERE took_effect IS DISTINCT FROM false GROUP BY meter_id
)
SELECT c.name, c.model, n.at, n.offset_ms, n.uncertainty_ms, o.at, o.offset_ms, o.uncertainty_ms
  FROM clocks c
 CROSS JOIN LATERAL (SELECT * FROM clock_readings r
                      WHERE r.meter_id = c.meter_id AND r.at >= %(since)s ORDER BY r.at DESC LIMIT 1) n
  LEFT JOIN changed ON changed.meter_id = c.meter_id
 CROSS JOIN LATERAL (SELECT * FROM clock_readings r
                      WHERE r.meter_id = c.meter_id AND r.at >= greatest(%(since)s, changed.at)
                      UNION ALL SELECT n.*
                      ORDER BY at LIMIT 1) o
 ORDER BY c.name;

-- name: forget
-- Readings from before a moment, a portion of them.
DELETE FROM clock_readings
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM clock_readings WHERE at < %(before)s LIMIT %(limit)s));

-- name: intend
-- A change that will be made now. The same step again: it was not begun before.
INSERT INTO clock_changes (meter_id, campaign_id, step, at, change, affected)
VALUES (%(meter)s, %(campaign)s, %(step)s, %(at)s, %(change)s, tstzrange(%(since)s, %(until)s, '[]'))
ON CONFLICT (campaign_id, meter_id, step) DO UPDATE
   SET at = EXCLUDED.at, change = EXCLUDED.change, took_effect = NULL, affected = EXCLUDED.affected;

-- name: settle
-- What came of a change.
UPDATE clock_changes SET took_effect = %(took_effect)s
 WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s AND step = %(step)s;

-- name: newest
-- The newest reading of one clock from a source; none where the clock was changed since.
SELECT at, offset_ms, uncertainty_ms, deviation_min, status
  FROM clock_readings r
 WHERE meter_id = %(meter)s AND source = %(source)s
   AND NOT EXISTS (SELECT FROM clock_changes c
                    WHERE c.meter_id = r.meter_id AND c.at >= r.at AND c.took_effect IS DISTINCT FROM false)
 ORDER BY at DESC LIMIT 1;

-- name: told_since
-- When one of these meters took the time with its line last, since a moment: as far as that is known.
SELECT max(at) FROM clock_changes
 WHERE meter_id = ANY (%(meters)s::integer[]) AND change = 'broadcast' AND at >= %(since)s AND took_effect;

-- name: pending
-- Changes of other meters that were made at the turn of this one, and of which nobody knows whether they took effect.
SELECT meter_id, step, at, took_effect FROM clock_changes
 WHERE campaign_id = %(campaign)s AND step LIKE '%% of ' || %(meter)s::text AND took_effect IS NULL
 ORDER BY meter_id, change_id;

-- name: told_by_others
-- Changes of this meter that were made at the turn of another one of its line.
SELECT meter_id, step, at, took_effect FROM clock_changes
 WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s AND step LIKE '%% of %%'
 ORDER BY change_id;

-- name: changes
-- Changes of one clock in a range, newest first.
SELECT at, change, lower(affected), upper(affected), took_effect, campaign_id
  FROM clock_changes
 WHERE meter_id = %(meter)s AND at >= %(since)s AND at < %(until)s
 ORDER BY at DESC, change_id DESC LIMIT %(limit)s;
