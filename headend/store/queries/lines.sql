-- name: meters
-- Meters that hang on lines, as lanes name them, with their newest state: not those in store, or removed.
SELECT split_part(m.address, '?', 1), m.meter_id, m.asset_id, s.state
  FROM meters m
 CROSS JOIN LATERAL (SELECT state FROM meter_states
                      WHERE meter_id = m.meter_id ORDER BY since DESC LIMIT 1) s
 WHERE split_part(m.address, '?', 1) = ANY (%(lines)s::text[]) AND s.state IN ('installed', 'commissioned', 'suspended')
 ORDER BY m.asset_id;

-- name: parts
-- In which wave of a campaign these meters are; those that are not fit for it wait for none.
SELECT meter_id, CASE WHEN state = 'incompatible' THEN 0 ELSE wave END FROM campaign_meters WHERE campaign_id = %(campaign)s AND meter_id = ANY (%(meters)s::integer[]);
