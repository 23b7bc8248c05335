-- name: put
-- Keep a payload, or count it where it waits already. Of one topic only so many wait.
INSERT INTO quarantine AS q (digest, topic, payload, bytes, retained, identity, reason, first_at, last_at)
SELECT %(digest)s, %(topic)s, %(payload)s, %(bytes)s, %(retained)s, %(identity)s, %(reason)s, %(at)s, %(at)s
 WHERE %(most)s > (SELECT count(*) FROM (SELECT 1 FROM quarantine WHERE topic = %(topic)s AND state = 'waiting'
                                         LIMIT %(most)s) AS few)
    OR EXISTS (SELECT FROM quarantine WHERE digest = %(digest)s AND state = 'waiting')
ON CONFLICT (digest) WHERE state = 'waiting'
   DO UPDATE SET times = q.times + 1, last_at = greatest(q.last_at, excluded.last_at), reason = excluded.reason,
                 identity = excluded.identity
RETURNING quarantine_id;

-- name: overflow
-- Count a payload of which nothing is kept, since too many of its topic wait.
UPDATE quarantine SET times = times + 1, last_at = greatest(last_at, %(at)s)
 WHERE quarantine_id = (SELECT max(quarantine_id) FROM quarantine WHERE topic = %(topic)s AND state = 'waiting');

-- name: page
-- What waits (or all) with numbers above one, oldest first, of one topic or identity where asked.
SELECT quarantine_id, topic, payload, bytes, retained, identity, reason, first_at, last_at, times, state
  FROM quarantine
 WHERE quarantine_id > %(after)s AND (%(all)s OR state = 'waiting')
   AND (%(topic)s::text IS NULL OR topic = %(topic)s) AND (%(identity)s::text IS NULL OR identity = %(identity)s)
 ORDER BY quarantine_id LIMIT %(limit)s;

-- name: get
-- One payload, kept from others until the transaction ends.
SELECT quarantine_id, topic, payload, bytes, retained, identity, reason, first_at, last_at, times, state
  FROM quarantine WHERE quarantine_id = %(number)s FOR UPDATE;

-- name: counts
-- How many payloads wait, and how often they came, by reason.
SELECT reason, count(*), sum(times)::bigint FROM quarantine WHERE state = 'waiting'
 GROUP BY reason ORDER BY 3 DESC, 1 LIMIT %(limit)s;

-- name: settle
-- What became of a payload.
UPDATE quarantine SET state = %(state)s, settled_at = now() WHERE quarantine_id = %(number)s AND state = 'waiting';

-- name: explain
-- A replay found another reason.
UPDATE quarantine SET reason = %(reason)s WHERE quarantine_id = %(number)s AND state = 'waiting';
