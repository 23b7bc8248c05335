-- name: durable
-- A key that a meter may be told must survive a crash, however the server is set.
SET LOCAL synchronous_commit TO on;

-- name: add_pending
-- New keys that a meter may be told; those that are pending already stay.
INSERT INTO key_generations (meter_id, purpose, generation, sealed, sealed_by, key_id, created_at, campaign_id)
SELECT %(meter)s, purpose, 'pending', sealed, sealed_by, key_id, now(), %(campaign)s
  FROM unnest(%(purposes)s::text[], %(sealed)s::bytea[], %(sealed_by)s::text[], %(key_ids)s::bytea[])
       AS n (purpose, sealed, sealed_by, key_id)
ON CONFLICT DO NOTHING;

-- name: pending_of
-- All pending keys of meters.
SELECT meter_id, purpose, sealed, sealed_by, key_id, campaign_id, sent_at
  FROM key_generations
 WHERE generation = 'pending' AND meter_id = ANY (%(meters)s::integer[]);

-- name: sent
-- From here on the meter may use them.
UPDATE key_generations SET sent_at = now()
 WHERE meter_id = %(meter)s AND generation = 'pending' AND sent_at IS NULL;

-- name: lock_promoted
-- Those of the keys named that are pending, kept to this transaction.
SELECT purpose FROM key_generations g
  JOIN unnest(%(purposes)s::text[], %(key_ids)s::bytea[]) AS n (purpose, key_id) USING (purpose, key_id)
 WHERE g.meter_id = %(meter)s AND g.generation = 'pending' AND g.sent_at IS NOT NULL
   FOR UPDATE OF g;

-- name: keep_former
-- The current keys become the former ones.
INSERT INTO key_generations (meter_id, purpose, generation, sealed, sealed_by, key_id, created_at, replaced_at)
SELECT k.meter_id, k.purpose, 'former', k.sealed, k.sealed_by, coalesce(k.key_id, ''::bytea), k.created_at, now()
  FROM meter_keys k WHERE k.meter_id = %(meter)s AND k.purpose = ANY (%(purposes)s::text[])
ON CONFLICT (meter_id, purpose, generation) DO UPDATE
   SET sealed = excluded.sealed, sealed_by = excluded.sealed_by, key_id = excluded.key_id,
       created_at = excluded.created_at, replaced_at = excluded.replaced_at;

-- name: promote
-- The pending keys become the current ones.
UPDATE meter_keys k
   SET sealed = g.sealed, sealed_by = g.sealed_by, key_id = g.key_id, created_at = g.created_at
  FROM key_generations g
 WHERE g.meter_id = k.meter_id AND g.purpose = k.purpose AND g.generation = 'pending'
   AND k.meter_id = %(meter)s AND k.purpose = ANY (%(purposes)s::text[]);

-- name: drop_pending
-- They are not the meter's.
DELETE FROM key_generations
 WHERE meter_id = %(meter)s AND generation = 'pending' AND purpose = ANY (%(purposes)s::text[]);

-- name: drop_unsent
-- Keys that no meter was ever told, of campaigns that are over.
DELETE FROM key_generations g USING campaigns c
 WHERE g.generation = 'pending' AND g.sent_at IS NULL AND c.campaign_id = g.campaign_id AND c.ended_at IS NOT NULL;

-- name: forget_former
-- Former keys that have been kept long enough.
DELETE FROM key_generations WHERE generation = 'former' AND replaced_at < %(before)s;

-- name: sealed_by_others
-- Keys that are not yet under the current master key, kept to this transaction.
SELECT meter_id, purpose, generation, sealed, sealed_by, key_id
  FROM key_generations WHERE sealed_by <> %(current)s
 ORDER BY meter_id, purpose, generation LIMIT %(limit)s FOR UPDATE;

-- name: reseal
-- The same keys under another master key.
UPDATE key_generations g SET sealed = n.sealed, sealed_by = %(sealed_by)s
  FROM unnest(%(meters)s::integer[], %(purposes)s::text[], %(generations)s::text[], %(sealed)s::bytea[])
       AS n (meter_id, purpose, generation, sealed)
 WHERE g.meter_id = n.meter_id AND g.purpose = n.purpose AND g.generation = n.generation;
