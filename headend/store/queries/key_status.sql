-- name: totals
-- The fleet's keys in figures. A meter is due by the age of its encryption key, or by a counter of either side.
WITH keyed AS (
    SELECT e.created_at,
           EXISTS (SELECT FROM meter_keys m WHERE m.meter_id = e.meter_id AND m.purpose = 'master') AS has_master,
           greatest((SELECT max(c.next_value - 1) FROM invocation_counters c WHERE c.key_id = e.key_id),
                    (SELECT max(p.last_value) FROM peer_counters p WHERE p.key_id = e.key_id)) AS counter
      FROM meter_keys e WHERE e.purpose = 'encryption'
)
SELECT count(*), min(created_at),
       count(*) FILTER (WHERE created_at < %(before)s),
       count(*) FILTER (WHERE counter >= %(counter)s),
       max(counter),
       count(*) FILTER (WHERE NOT has_master),
       (SELECT count(DISTINCT meter_id) FROM key_generations WHERE generation = 'pending' AND sent_at IS NOT NULL),
       (SELECT count(DISTINCT meter_id) FROM key_generations WHERE generation = 'pending' AND sent_at IS NULL),
       (SELECT count(DISTINCT meter_id) FROM key_generations WHERE generation = 'former')
  FROM keyed;

-- name: due
-- Commissioned meters whose keys are due: those in doubt first, then the highest counters, then the oldest keys.
SELECT m.meter_id, m.asset_id, m.model, k.created_at, k.counter, k.has_master, k.in_doubt_since
  FROM (SELECT e.meter_id, e.created_at,
               EXISTS (SELECT FROM meter_keys m WHERE m.meter_id = e.meter_id AND m.purpose = 'master')
                   AS has_master,
               coalesce(greatest(
                   (SELECT max(c.next_value - 1) FROM invocation_counters c WHERE c.key_id = e.key_id),
                   (SELECT max(p.last_value) FROM peer_counters p WHERE p.key_id = e.key_id)), 0) AS counter,
               (SELECT min(g.sent_at) FROM key_generations g
                 WHERE g.meter_id = e.meter_id AND g.generation = 'pending') AS in_doubt_since
          FROM meter_keys e WHERE e.purpose = 'encryption') k
  JOIN meters m USING (meter_id)
  JOIN LATERAL (SELECT state FROM meter_states
                 WHERE meter_id = m.meter_id AND since <= now() ORDER BY since DESC LIMIT 1) s ON s.state = 'commissioned'
 WHERE NOT EXISTS (SELECT FROM network_nodes n WHERE n.code = m.asset_id AND n.kind IN ('concentrator', 'gateway'))
   AND (k.created_at < %(before)s OR k.counter >= %(counter)s OR k.in_doubt_since IS NOT NULL)
 ORDER BY k.in_doubt_since IS NULL, k.counter >= %(counter)s DESC, k.created_at, m.meter_id
 LIMIT %(limit)s;

-- name: rotation_turn
-- One at a time decides whether a rotation is to be proposed.
SELECT pg_try_advisory_xact_lock(1313166427);

-- name: last_rotation
-- The newest campaign of keys: open, or when and how it ended.
SELECT c.state, c.ended_at FROM campaigns c JOIN programs p USING (program_id)
 WHERE p.kind = 'keys' ORDER BY c.ended_at IS NOT NULL, c.ended_at DESC LIMIT 1;
