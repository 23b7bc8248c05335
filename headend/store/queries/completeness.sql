-- name: contract
-- Keep what meters of the models in use deliver: as told now, and nothing else, but for models that cannot be read now.
WITH told AS (
    SELECT * FROM unnest(%(models)s::text[], %(profiles)s::smallint[], %(periods)s::integer[], %(recalls)s::text[],
                         %(zones)s::text[], %(graces)s::integer[], %(entries)s::integer[])
                  AS t (model, profile, period_s, recall, zone, grace_s, entries)
), gone AS (
    DELETE FROM model_curves c
     WHERE c.model <> ALL (%(unreadable)s::text[])
       AND NOT EXISTS (SELECT FROM told t WHERE t.model = c.model AND t.profile = c.profile)
)
INSERT INTO model_curves (model, profile, period_s, recall, zone, grace_s, entries)
SELECT model, profile, period_s, recall, zone, grace_s, entries FROM told ORDER BY model, profile
    ON CONFLICT (model, profile) DO UPDATE
   SET period_s = excluded.period_s, recall = excluded.recall, zone = excluded.zone, grace_s = excluded.grace_s,
       entries = excluded.entries
 WHERE (model_curves.period_s, model_curves.recall, model_curves.zone, model_curves.grace_s, model_curves.entries)
       IS DISTINCT FROM (excluded.period_s, excluded.recall, excluded.zone, excluded.grace_s, excluded.entries);

-- name: models
-- Models of meters that were ever commissioned.
SELECT DISTINCT m.model FROM meters m
 WHERE EXISTS (SELECT FROM meter_states s WHERE s.meter_id = m.meter_id AND s.state = 'commissioned')
 ORDER BY m.model;

-- name: mark
-- How far the change feed is folded, kept to this transaction; and how far it may be. A mark beyond all transactions is of another server, that this one was restored from: begin anew.
SELECT CASE WHEN below > pg_snapshot_xmax(pg_current_snapshot()) THEN '0'::xid8 ELSE below END,
       pg_snapshot_xmin(pg_current_snapshot())
  FROM presence_mark FOR UPDATE;

-- name: fold_until
-- Where to stop so that one step folds so many changes or a few more; no row: it may fold all that there is.
SELECT xid FROM changes
 WHERE xid > %(mark)s::text::xid8 AND xid < %(xmin)s::text::xid8
 ORDER BY xid OFFSET %(limit)s LIMIT 1;

-- name: fold
-- Add the new intervals of the change feed between two marks to what is present.
INSERT INTO presence AS p (meter_id, profile, present)
SELECT meter_id, profile, range_agg(during) FROM changes
 WHERE xid >= %(mark)s::text::xid8 AND xid < %(until)s::text::xid8 AND kind = 'new'
 GROUP BY meter_id, profile
 ORDER BY meter_id, profile
    ON CONFLICT (meter_id, profile) DO UPDATE SET present = p.present + excluded.present;

-- name: folded
-- The change feed is folded below this mark.
UPDATE presence_mark SET below = %(until)s::text::xid8;

-- name: forget
-- What was counted before in this transaction.
DROP TABLE IF EXISTS pg_temp.standing;

-- name: make
-- Where the curves of this transaction's question are counted: groups, who is missing and the forecast share it.
CREATE TEMPORARY TABLE standing (
    meter_id integer, profile smallint, recall text, expected integer, present integer, lost integer, open integer,
    first_open timestamptz
) ON COMMIT DROP;

-- name: count
-- Count the curves of all meters, or of these, in [since, until).
INSERT INTO pg_temp.standing
SELECT meter_id, profile, recall, expected, present, lost, open, first_open
  FROM completeness_of(%(since)s, %(until)s, %(now)s, %(meters)s::integer[]);

-- name: analyze
-- So that joins with it are planned for its size.
ANALYZE pg_temp.standing;

-- name: groups
-- What was counted, by a group of meters, the least complete first; all together stand at place 0. The way up is walked once for each parent, and no further than to a station.
WITH RECURSIVE counted AS MATERIALIZED (
    SELECT s.*, m.model, m.feeder, l.parent
      FROM pg_temp.standing s
      JOIN meters m ON m.meter_id = s.meter_id
      LEFT JOIN network_nodes n ON n.meter_id = s.meter_id AND %(by)s = 'concentrator'
      LEFT JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
), up AS (
    SELECT node_id AS start, node_id, kind, code FROM network_nodes WHERE node_id IN (SELECT parent FROM counted)
    UNION ALL
    SELECT up.start, p.node_id, p.kind, p.code
      FROM up
     CROSS JOIN LATERAL (SELECT parent FROM network_links WHERE child = up.node_id AND upper_inf(during) LIMIT 1) l
     CROSS JOIN LATERAL (SELECT node_id, kind, code FROM network_nodes WHERE node_id = l.parent LIMIT 1) p
     WHERE up.kind NOT IN ('concentrator', 'gateway')
), named AS (
    SELECT c.*, CASE %(by)s
                     WHEN 'feeder' THEN c.feeder
                     WHEN 'concentrator' THEN up.code
                     WHEN 'model' THEN c.model
                     WHEN 'profile' THEN c.profile::text
                     WHEN 'cause' THEN CASE WHEN c.open > 0 THEN cause_of(c.meter_id, c.recall)
                                            WHEN c.lost > 0 THEN 'no_value' END
                END AS name
      FROM counted c
      LEFT JOIN up ON up.start = c.parent AND up.kind IN ('concentrator', 'gateway')
), grouped AS (
    SELECT name, grouping(name) AS all_of_them, count(DISTINCT meter_id) AS meters,
           count(DISTINCT meter_id) FILTER (WHERE present < expected) AS incomplete,
           sum(expected)::bigint AS expected, sum(present)::bigint AS present, sum(lost)::bigint AS lost,
           sum(open)::bigint AS open
      FROM named GROUP BY GROUPING SETS ((name), ()) HAVING count(*) > 0
), placed AS (
    SELECT *, CASE WHEN all_of_them = 1 THEN 0
                   ELSE row_number() OVER (PARTITION BY all_of_them ORDER BY present::numeric / expected, name NULLS LAST)
              END AS place
      FROM grouped
)
SELECT place, name, meters, incomplete, expected, present, lost, open FROM placed
 WHERE place = 0 OR place > %(skip)s ORDER BY place LIMIT %(limit)s + 1;

-- name: missing
-- Counted curves of which intervals are missing, in order of asset ids and profiles, with what holds them.
WITH RECURSIVE missing AS (
    SELECT s.*, m.asset_id, m.model, m.feeder, l.parent
      FROM pg_temp.standing s
      JOIN meters m ON m.meter_id = s.meter_id
      LEFT JOIN network_nodes n ON n.meter_id = s.meter_id
      LEFT JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
     WHERE s.present < s.expected
       AND (%(feeder)s::text IS NULL OR m.feeder = %(feeder)s)
       AND (%(model)s::text IS NULL OR m.model = %(model)s)
       AND (%(after)s::text IS NULL OR (m.asset_id, s.profile::integer) > (%(after)s, %(after_profile)s::integer))
), up AS (
    SELECT node_id AS start, node_id, kind, code FROM network_nodes WHERE node_id IN (SELECT parent FROM missing)
    UNION ALL
    SELECT up.start, p.node_id, p.kind, p.code
      FROM up
     CROSS JOIN LATERAL (SELECT parent FROM network_links WHERE child = up.node_id AND upper_inf(during) LIMIT 1) l
     CROSS JOIN LATERAL (SELECT node_id, kind, code FROM network_nodes WHERE node_id = l.parent LIMIT 1) p
     WHERE up.kind NOT IN ('concentrator', 'gateway')
), told AS (
    SELECT m.asset_id, m.profile, m.model, m.feeder, up.code AS station,
           CASE WHEN m.open > 0 THEN cause_of(m.meter_id, m.recall) ELSE 'no_value' END AS cause,
           m.expected, m.present, m.lost, m.open, m.first_open
      FROM missing m LEFT JOIN up ON up.start = m.parent AND up.kind IN ('concentrator', 'gateway')
)
SELECT * FROM told
 WHERE (%(cause)s::text IS NULL OR cause = %(cause)s) AND (%(station)s::text IS NULL OR station = %(station)s)
 ORDER BY asset_id, profile LIMIT %(limit)s;

-- name: channels
-- By quantity: of the rows that there are in [since, until), of meters within areas (NULL: all), how many have a place for it, and how many a value.
SELECT q.place, count(*), count(*) FILTER (WHERE q.has)
  FROM interval_reads r
  JOIN channel_layouts l USING (layout_id)
 CROSS JOIN LATERAL (VALUES (0, r.active_import IS NOT NULL), (1, r.active_export IS NOT NULL),
                            (2, r.reactive_import IS NOT NULL), (3, r.reactive_export IS NOT NULL)) q (place, has)
 WHERE r.start >= %(since)s AND r.start < %(until)s AND l.channels -> q.place <> 'null'
   AND (%(within)s::integer[] IS NULL OR r.meter_id = ANY (%(within)s))
 GROUP BY q.place ORDER BY q.place;

-- name: ahead
-- What open requests of running jobs may yet bring of what was counted, by lane and number of the next attempt: their number, the attempts that their policy allows, and the intervals that lack.
SELECT r.lane, r.attempts + 1, coalesce((j.retry ->> 'attempts')::integer, 1), count(DISTINCT r.request_id),
       coalesce(sum(c.open), 0)::bigint
  FROM (SELECT DISTINCT ON (r.meter_id) r.* FROM requests r JOIN jobs j USING (job_id)
         WHERE r.state = 'open' AND j.ended_at IS NULL AND j.kind <> 'on_demand'
           AND (%(within)s::integer[] IS NULL OR r.meter_id = ANY (%(within)s) OR -r.meter_id = ANY (%(within_nodes)s::integer[]))
         ORDER BY r.meter_id, r.due_by) r
  JOIN jobs j USING (job_id)
  LEFT JOIN pg_temp.standing c ON c.meter_id = r.meter_id
 GROUP BY 1, 2, 3;

-- name: pace
-- By lane: requests that were settled since a time, and for how many seconds of it there was work.
SELECT r.lane, count(*) FILTER (WHERE r.state IN ('done', 'failed') AND r.ended_at >= %(since)s),
       extract(epoch FROM %(now)s - greatest(%(since)s, min(j.created_at)))::float8
  FROM requests r JOIN jobs j USING (job_id)
 WHERE (j.ended_at IS NULL OR j.ended_at >= %(since)s) AND j.kind <> 'on_demand' AND r.meter_id > 0
 GROUP BY r.lane;

-- name: successes
-- By number of the attempt: how many there were in jobs that run or ended since a time, and how many gave all.
SELECT a.number, count(*), count(*) FILTER (WHERE a.stage IS NULL)
  FROM attempts a
 WHERE a.job_id IN (SELECT job_id FROM jobs WHERE ended_at IS NULL OR ended_at >= %(since)s)
 GROUP BY a.number;

-- name: deadline
-- When the next of the running jobs of schedules, that ask somebody within areas (NULL: all), shall be done; NULL: none runs.
SELECT min(deadline) FROM jobs j
 WHERE ended_at IS NULL AND kind = 'scheduled' AND deadline > %(now)s
   AND (%(within)s::integer[] IS NULL OR EXISTS (
        SELECT FROM requests r WHERE r.job_id = j.job_id
           AND (r.meter_id = ANY (%(within)s) OR -r.meter_id = ANY (%(within_nodes)s::integer[]))));

-- name: alone
-- Whether nobody else keeps the ledger while this transaction lasts.
SELECT pg_try_advisory_xact_lock(1313166421);
