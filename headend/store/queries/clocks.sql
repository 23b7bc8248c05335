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
-- The newest reading of each clock since a moment, and the slope of its offsets since it was changed last, in ms per second.
WITH recent AS (
    SELECT r.meter_id, r.at, r.offset_ms, r.uncertainty_ms
      FROM clock_readings r
     WHERE r.at >= %(since)s
), changed AS (
    SELECT meter_id, max(at) AS at FROM clock_changes WHERE took_effect IS DISTINCT FROM false GROUP BY meter_id
), slopes AS (
    SELECT r.meter_id, regr_slope(r.offset_ms, extract(epoch FROM r.at)) AS slope,
           max(r.at) - min(r.at) AS span, max(r.uncertainty_ms) AS uncertainty_ms
      FROM recent r
      LEFT JOIN changed c USING (meter_id)
     WHERE r.at > coalesce(c.at, '-infinity')
     GROUP BY r.meter_id
)
SELECT coalesce(m.asset_id, d.code) AS name, coalesce(m.model, d.model, '?'), n.at, n.offset_ms, n.uncertainty_ms, s.slope, s.span, s.uncertainty_ms
  FROM (SELECT DISTINCT ON (meter_id) * FROM recent ORDER BY meter_id, at DESC) n
  LEFT JOIN meters m ON m.meter_id = n.meter_id
  LEFT JOIN network_nodes d ON d.node_id = -n.meter_id
  LEFT JOIN slopes s ON s.meter_id = n.meter_id
 WHERE coalesce(m.asset_id, d.code) IS NOT NULL
 ORDER BY name;

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

-- name: note_broadcast
-- A line was told the time, at this meter's turn; the first of a day counts, meters took no other.
INSERT INTO clock_broadcasts (line, day, at, campaign_id, meter_id)
VALUES (%(line)s, %(day)s, %(at)s, %(campaign)s, %(meter)s)
ON CONFLICT DO NOTHING;

-- name: broadcast_of
-- When a line was told the time on a day, and in which campaign.
SELECT at, campaign_id, meter_id FROM clock_broadcasts WHERE line = %(line)s AND day = %(day)s;
