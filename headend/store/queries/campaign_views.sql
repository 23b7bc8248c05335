-- name: placed
-- Each meter of a campaign with its wave, and why it is not fit: as they were when it was proposed.
SELECT meter_id, wave, CASE WHEN state = 'incompatible' THEN reason END
  FROM campaign_meters WHERE campaign_id = %(campaign)s ORDER BY meter_id;

-- name: models
-- How many meters of each model a campaign is for, those that are not fit left out.
SELECT coalesce(m.model, n.model, '?'), count(*)
  FROM campaign_meters c
  LEFT JOIN meters m ON m.meter_id = c.meter_id
  LEFT JOIN network_nodes n ON n.node_id = -c.meter_id
 WHERE c.campaign_id = %(campaign)s AND c.state <> 'incompatible'
 GROUP BY 1 ORDER BY 1;

-- name: why_unfit
-- Why meters of a campaign are not fit for it, and how many of each reason, the most first.
SELECT reason, count(*) FROM campaign_meters
 WHERE campaign_id = %(campaign)s AND state = 'incompatible'
 GROUP BY reason ORDER BY count(*) DESC, reason LIMIT %(most)s;

-- name: behind
-- Behind how many stations of each model how many meters of a campaign are, those that are not fit left out; no model: none, or not known.
SELECT n.model, count(DISTINCT c.station), count(*)
  FROM campaign_meters c LEFT JOIN network_nodes n ON n.node_id = c.station
 WHERE c.campaign_id = %(campaign)s AND c.state <> 'incompatible'
 GROUP BY 1 ORDER BY 1;

-- name: ends
-- The first and the last meters of a campaign by name, those that are not fit left out.
WITH named AS MATERIALIZED (
    SELECT coalesce(m.asset_id, n.code, c.meter_id::text) AS name
      FROM campaign_meters c
      LEFT JOIN meters m ON m.meter_id = c.meter_id
      LEFT JOIN network_nodes n ON n.node_id = -c.meter_id
     WHERE c.campaign_id = %(campaign)s AND c.state <> 'incompatible'
)
SELECT (SELECT array_agg(name ORDER BY name) FROM (SELECT name FROM named ORDER BY name LIMIT %(most)s) f),
       (SELECT array_agg(name ORDER BY name) FROM (SELECT name FROM named ORDER BY name DESC LIMIT %(most)s) l);

-- name: named
-- Meters of a campaign behind a name, in order of names: of one wave, in some states, or all.
SELECT x.name, x.campaign_id, x.meter_id, x.wave, x.state, x.step, x.facts, x.steps, x.proof, x.stage, x.reason,
       x.request_id, x.began_at, x.ended_at
  FROM (SELECT coalesce(m.asset_id, n.code, c.meter_id::text) AS name, c.*
          FROM campaign_meters c
          LEFT JOIN meters m ON m.meter_id = c.meter_id
          LEFT JOIN network_nodes n ON n.node_id = -c.meter_id
         WHERE c.campaign_id = %(campaign)s AND (%(wave)s::smallint IS NULL OR c.wave = %(wave)s)
           AND (%(states)s::text[] IS NULL OR c.state = ANY (%(states)s))) x
 WHERE %(after)s::text IS NULL OR x.name > %(after)s
 ORDER BY x.name LIMIT %(limit)s;

-- name: ended
-- Meters of a campaign that have ended and are not among those known, in the order of their ends.
SELECT coalesce(m.asset_id, n.code, c.meter_id::text), c.campaign_id, c.meter_id, c.wave, c.state, c.step, c.facts,
       c.steps, c.proof, c.stage, c.reason, c.request_id, c.began_at, c.ended_at
  FROM campaign_meters c
  LEFT JOIN meters m ON m.meter_id = c.meter_id
  LEFT JOIN network_nodes n ON n.node_id = -c.meter_id
 WHERE c.campaign_id = %(campaign)s AND c.ended_at IS NOT NULL AND c.meter_id <> ALL (%(known)s::integer[])
 ORDER BY c.ended_at, c.meter_id LIMIT %(limit)s;

-- name: number
-- A meter or a concentrator by its name, as campaigns number them.
SELECT coalesce((SELECT meter_id FROM meters WHERE asset_id = %(name)s),
                (SELECT -node_id FROM network_nodes WHERE code = %(name)s AND meter_id IS NULL));

-- name: lanes
-- Lanes in which a request of a campaign is due.
SELECT DISTINCT r.lane
  FROM campaign_meters c JOIN requests r USING (request_id)
 WHERE c.campaign_id = %(campaign)s AND c.ended_at IS NULL
   AND r.state = 'open' AND r.next_at <= clock_timestamp() AND r.drop_dead > clock_timestamp();

-- name: claim
-- A key for what is proposed now. No row: it is in use, by a proposal of the last day or one under way, which is waited for.
INSERT INTO campaign_keys AS k (actor, key, digest, created_at)
VALUES (%(actor)s, %(key)s, %(digest)s, %(now)s)
ON CONFLICT (actor, key) DO UPDATE SET digest = excluded.digest, campaign_id = NULL, created_at = excluded.created_at
 WHERE k.created_at <= %(now)s - %(kept)s::interval
RETURNING key;

-- name: claimed
-- What a key was used for, and the campaign that came of it.
SELECT digest, campaign_id FROM campaign_keys WHERE actor = %(actor)s AND key = %(key)s;

-- name: bind
-- The campaign that came of what a key was claimed for.
UPDATE campaign_keys SET campaign_id = %(campaign)s WHERE actor = %(actor)s AND key = %(key)s;

-- name: forget
-- Keys that are a day old.
DELETE FROM campaign_keys WHERE created_at <= %(now)s - %(kept)s::interval;
