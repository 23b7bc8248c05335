-- name: put
-- Breakers that are open, anew or still; not where somebody has told later of it.
INSERT INTO link_states AS s (kind, id, since, until, failures, probes, stage, reason, changed_at)
SELECT * FROM unnest(%(kinds)s::text[], %(ids)s::text[], %(sinces)s::timestamptz[], %(untils)s::timestamptz[],
                     %(failures)s::integer[], %(probes)s::integer[], %(stages)s::text[], %(reasons)s::text[],
                     %(ats)s::timestamptz[])
    ON CONFLICT (kind, id) DO UPDATE
   SET since = excluded.since, until = excluded.until, failures = excluded.failures, probes = excluded.probes,
       stage = excluded.stage, reason = excluded.reason, changed_at = excluded.changed_at
 WHERE s.changed_at <= excluded.changed_at;

-- name: forget
-- Breakers that closed; not where somebody has told later that they are open.
DELETE FROM link_states s USING unnest(%(kinds)s::text[], %(ids)s::text[], %(ats)s::timestamptz[]) AS gone (kind, id, at)
 WHERE s.kind = gone.kind AND s.id = gone.id AND s.changed_at <= gone.at;

-- name: of
-- Those of these that are open, and when that was told.
SELECT s.kind, s.id, since, until, failures, probes, stage, reason, changed_at
  FROM unnest(%(kinds)s::text[], %(ids)s::text[]) AS wanted (kind, id)
  JOIN link_states s ON s.kind = wanted.kind AND s.id = wanted.id;

-- name: all
-- All that are open, those that changed last at the end, at most so many.
SELECT * FROM (SELECT kind, id, since, until, failures, probes, stage, reason, changed_at
                 FROM link_states ORDER BY changed_at DESC, kind, id LIMIT %(limit)s) AS newest
 ORDER BY changed_at, kind, id;

-- name: page
-- Open ones behind a position in order of kind and name, with their names; within areas (NULL: all) those of meters and stations there.
SELECT kind, id, name, since, until, failures, probes, stage, reason
  FROM (SELECT s.*, CASE s.kind WHEN 'meter' THEN m.asset_id WHEN 'station' THEN n.code ELSE s.id END AS name
          FROM link_states s
          LEFT JOIN meters m ON m.meter_id = CASE s.kind WHEN 'meter' THEN s.id::integer END
          LEFT JOIN network_nodes n ON n.node_id = CASE s.kind WHEN 'station' THEN s.id::integer END) AS named
 WHERE name IS NOT NULL
   AND (%(kind)s::text IS NULL OR kind = %(kind)s)
   AND (%(name)s::text IS NULL OR name = %(name)s)
   AND (%(after_kind)s::text IS NULL OR (kind, name) > (%(after_kind)s, %(after_name)s))
   AND CASE WHEN %(within)s::integer[] IS NULL THEN true
            WHEN kind = 'meter' THEN id::integer = ANY (%(within)s)
            WHEN kind = 'station' THEN id::integer = ANY (%(within_nodes)s::integer[])
            ELSE false END
 ORDER BY kind, name
 LIMIT %(limit)s;

-- name: ask_reset
-- Asks the service to close a breaker.
INSERT INTO link_resets (kind, id) VALUES (%(kind)s, %(id)s);

-- name: forget_resets
-- What is older than a day was read or never will be.
DELETE FROM link_resets WHERE at < now() - interval '1 day';

-- name: resets
-- What was asked for since.
SELECT reset_id, kind, id FROM link_resets WHERE reset_id > %(after)s ORDER BY reset_id;

-- name: last_reset
-- Where to begin.
SELECT coalesce(max(reset_id), 0) FROM link_resets;
