-- name: note
-- Remember messages; which of them, by place from 1, did not come within the last 24 hours. The generation before may still hold such.
INSERT INTO mqtt_receipts AS r (generation, digest)
SELECT (extract(epoch FROM now())::bigint / 86400) %% 3, digest
  FROM unnest(%(digests)s::bytea[]) AS came (digest)
 WHERE NOT EXISTS (SELECT FROM mqtt_receipts y
                    WHERE y.generation = (extract(epoch FROM now())::bigint / 86400 + 2) %% 3
                      AND y.digest = came.digest AND y.received_at > now() - interval '24 hours')
ON CONFLICT DO NOTHING
RETURNING digest;

-- name: known
-- Which messages came within the last 24 hours.
SELECT digest FROM mqtt_receipts
 WHERE digest = ANY (%(digests)s::bytea[]) AND received_at > now() - interval '24 hours';

-- name: prune
-- Empty the generation that comes next: what it holds is older than 24 hours.
SELECT (extract(epoch FROM now())::bigint / 86400 + 1) % 3;

-- name: truncate_0
-- Empty a generation.
TRUNCATE mqtt_receipts_0;

-- name: truncate_1
-- Empty a generation.
TRUNCATE mqtt_receipts_1;

-- name: truncate_2
-- Empty a generation.
TRUNCATE mqtt_receipts_2;

-- name: presence
-- Topics whose state is another than the one known, by place from 1: a last will is repeated at each subscription.
INSERT INTO mqtt_presence AS p (topic, state) VALUES (%(topic)s, %(state)s)
ON CONFLICT (topic) DO UPDATE SET state = excluded.state, since = now() WHERE p.state <> excluded.state
RETURNING topic;
