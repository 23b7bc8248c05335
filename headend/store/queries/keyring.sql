-- name: put_keys
-- Sealed keys of meters; a key for the same purpose is replaced.
INSERT INTO meter_keys (meter_id, purpose, sealed, sealed_by, key_id)
SELECT * FROM unnest(%(meters)s::integer[], %(purposes)s::text[], %(sealed)s::bytea[], %(sealed_by)s::text[],
                     %(key_ids)s::bytea[])
ON CONFLICT (meter_id, purpose) DO UPDATE
   SET sealed = excluded.sealed, sealed_by = excluded.sealed_by, key_id = excluded.key_id, created_at = now();

-- name: keys_of
-- All sealed keys of meters.
SELECT meter_id, purpose, sealed, sealed_by, key_id FROM meter_keys WHERE meter_id = ANY (%(meters)s::integer[]);

-- name: name_keys
-- Fingerprints of keys that were stored before they had one.
UPDATE meter_keys k SET key_id = n.key_id
  FROM unnest(%(meters)s::integer[], %(purposes)s::text[], %(key_ids)s::bytea[]) AS n (meter_id, purpose, key_id)
 WHERE k.meter_id = n.meter_id AND k.purpose = n.purpose AND k.key_id IS NULL;

-- name: sealed_by_others
-- Keys that are not yet under the current master key, kept to this transaction.
SELECT meter_id, purpose, sealed, sealed_by, key_id
  FROM meter_keys WHERE sealed_by <> %(current)s
 ORDER BY meter_id, purpose LIMIT %(limit)s FOR UPDATE;

-- name: reseal
-- The same keys under another master key; when they were made does not change.
UPDATE meter_keys k SET sealed = n.sealed, sealed_by = %(sealed_by)s
  FROM unnest(%(meters)s::integer[], %(purposes)s::text[], %(sealed)s::bytea[]) AS n (meter_id, purpose, sealed)
 WHERE k.meter_id = n.meter_id AND k.purpose = n.purpose;

-- name: fingerprint_key
-- The sealed key of the fingerprints.
SELECT sealed, sealed_by FROM fingerprint_key;

-- name: first_fingerprint_key
-- Stores the first one; whoever comes second takes the first one's.
INSERT INTO fingerprint_key (sealed, sealed_by) VALUES (%(sealed)s, %(sealed_by)s) ON CONFLICT DO NOTHING;

-- name: reseal_fingerprint_key
-- The same fingerprint key under another master key.
UPDATE fingerprint_key SET sealed = %(sealed)s, sealed_by = %(sealed_by)s;

-- name: durable
-- A counter handed out must survive a crash, however the server is set.
SET LOCAL synchronous_commit TO on;

-- name: reserve
-- Moves counters on by a block each where it still fits; next_value is the end of the block.
INSERT INTO invocation_counters (key_id, system_title, next_value)
SELECT key_id, %(title)s, %(first)s + %(block)s
  FROM unnest(%(keys)s::bytea[]) AS key_id
ON CONFLICT (key_id, system_title) DO UPDATE
   SET next_value = invocation_counters.next_value + %(block)s
 WHERE invocation_counters.next_value + %(block)s <= 4294967296
RETURNING key_id, next_value;

-- name: next_values
-- The ends of all blocks that are reserved of these keys.
SELECT key_id, next_value FROM invocation_counters WHERE key_id = ANY (%(keys)s::bytea[]) AND system_title = %(title)s;

-- name: counter_row
-- Makes sure that there is a row to lock.
INSERT INTO invocation_counters (key_id, system_title, next_value)
VALUES (%(key)s, %(title)s, %(first)s) ON CONFLICT DO NOTHING;

-- name: lock_counter
-- The first counter never handed out, kept to this transaction.
SELECT next_value FROM invocation_counters WHERE key_id = %(key)s AND system_title = %(title)s FOR UPDATE;

-- name: raise_counter
-- Moves a locked counter on.
UPDATE invocation_counters SET next_value = %(value)s WHERE key_id = %(key)s AND system_title = %(title)s;

-- name: jump_all
-- After a restore or a promoted standby: every counter leaves behind what could have been handed out since.
UPDATE invocation_counters SET next_value = least(next_value + %(by)s, 4294967296);

-- name: peer_counters
-- The last counter accepted of each peer.
SELECT p.key_id, p.system_title, p.last_value
  FROM peer_counters p
  JOIN unnest(%(keys)s::bytea[], %(titles)s::bytea[]) AS w (key_id, system_title) USING (key_id, system_title);

-- name: advance_peers
-- Keeps the last proven counters of many peers; a lower one changes nothing.
INSERT INTO peer_counters (key_id, system_title, last_value)
SELECT * FROM unnest(%(keys)s::bytea[], %(titles)s::bytea[], %(values)s::bigint[])
ON CONFLICT (key_id, system_title) DO UPDATE SET last_value = excluded.last_value
 WHERE peer_counters.last_value < excluded.last_value;
