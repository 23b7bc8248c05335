-- name: claim
-- A token's key for what it asks now. No row: it is in use, by a request of the last day or one under way, which is waited for.
INSERT INTO idempotency_keys AS k (token_id, key, digest, created_at)
VALUES (%(token)s, %(key)s, %(digest)s, %(now)s)
ON CONFLICT (token_id, key) DO UPDATE SET digest = excluded.digest, job_id = NULL, created_at = excluded.created_at
 WHERE k.created_at <= %(now)s - %(kept)s::interval
RETURNING key;

-- name: claimed
-- What a key was used for, and the job that came of it.
SELECT digest, job_id FROM idempotency_keys WHERE token_id = %(token)s AND key = %(key)s;

-- name: bind
-- The job that came of what a key was claimed for.
UPDATE idempotency_keys SET job_id = %(job_id)s WHERE token_id = %(token)s AND key = %(key)s;

-- name: forget
-- Keys that are a day old.
DELETE FROM idempotency_keys WHERE created_at <= %(now)s - %(kept)s::interval;

-- name: addressed
-- Meters by asset id, in the order given: number, address, model. Nulls where there is no such meter.
SELECT a.place - 1, m.meter_id, m.address, m.model
  FROM unnest(%(asset_ids)s::text[]) WITH ORDINALITY AS a (asset_id, place)
  LEFT JOIN meters m ON m.asset_id = a.asset_id
 ORDER BY a.place;
