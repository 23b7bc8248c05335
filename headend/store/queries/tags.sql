-- name: set
-- Tags of meters: another value of a key takes the place of the one that was there; one row for each that changed.
INSERT INTO meter_tags (meter_id, key, value)
SELECT meter_id, t.key, t.value
  FROM meters, unnest(%(keys)s::text[], %(values)s::text[]) AS t (key, value)
 WHERE asset_id = ANY (%(meters)s::text[])
 ORDER BY meter_id, t.key
ON CONFLICT (meter_id, key) DO UPDATE SET value = excluded.value WHERE meter_tags.value <> excluded.value;

-- name: unset
-- Tags off meters, by key; one row for each that was there.
DELETE FROM meter_tags USING meters
 WHERE meter_tags.meter_id = meters.meter_id AND asset_id = ANY (%(meters)s::text[]) AND key = ANY (%(keys)s::text[]);

-- name: clear
-- All tags off a meter.
DELETE FROM meter_tags WHERE meter_id = %(meter)s;

-- name: of_meter
-- The tags of a meter.
SELECT key, value FROM meter_tags WHERE meter_id = %(meter)s ORDER BY key;

-- name: all
-- Every tag that some meter has, and how many have it.
SELECT key, value, count(*) FROM meter_tags GROUP BY key, value ORDER BY key, value LIMIT %(limit)s;
