-- name: put
-- Keeps a payload unless its source has too many unresolved ones already.
INSERT INTO inbox (source, identity, payload, reason)
SELECT %(source)s, %(identity)s, %(payload)s, %(reason)s
 WHERE (SELECT count(*) FROM (SELECT 1 FROM inbox WHERE source = %(source)s AND resolved_at IS NULL
                               LIMIT %(most)s) AS few) < %(most)s
RETURNING inbox_id;

-- name: unresolved
-- What waits for an engineer, oldest first.
SELECT inbox_id, received_at, source, identity, payload, reason
  FROM inbox WHERE resolved_at IS NULL AND inbox_id > %(after)s ORDER BY inbox_id LIMIT %(limit)s;

-- name: resolve
-- Somebody dealt with it.
UPDATE inbox SET resolved_at = coalesce(resolved_at, now()) WHERE inbox_id = %(entry)s RETURNING inbox_id;
