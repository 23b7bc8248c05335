-- name: bounds
-- How far open gaps reach, and whose they are; of very many meters the list is of no use, and NULL.
SELECT min(lower(during)), max(upper(during)),
       CASE WHEN count(DISTINCT meter_id) <= %(most)s THEN array_agg(DISTINCT meter_id) END
  FROM gaps WHERE state = 'open';

-- name: settle
-- Take off open gaps what has come, what turned out to be lost, and what nobody expects any more; close those of which nothing is left. What a memory has lost is told to the coverage: nobody asks for it again. How many were closed. What of an interval is there in part is no gap.
WITH known AS MATERIALIZED (
    SELECT c.*, CASE WHEN c.recall <> 'stored' THEN tstzmultirange(tstzrange(NULL, %(horizon)s))
                     WHEN c.entries IS NULL THEN '{}'
                     ELSE tstzmultirange(tstzrange(NULL, %(now)s - make_interval(secs => c.entries::bigint * c.period_s)))
                END AS gone
      FROM curve_ranges(%(since)s, %(until)s, %(now)s, %(meters)s::integer[]) c
), sets AS (
    SELECT g.gap_id, g.meter_id, g.profile, g.during, g.missing, g.lost, k.present, k.period_s, k.zone, k.entries,
           g.missing * coalesce(k.expected, '{}') - coalesce(k.present, '{}') AS absent,
           coalesce(k.gone, '{}') AS gone, coalesce(k.covered + k.gone, '{}') AS had
      FROM gaps g LEFT JOIN known k ON k.meter_id = g.meter_id AND k.profile = g.profile
     WHERE g.state = 'open'
), told AS (
    INSERT INTO coverage AS c (meter_id, profile, covered)
    SELECT meter_id, profile, range_agg(absent * gone) FROM sets WHERE NOT isempty(absent * gone)
     GROUP BY meter_id, profile ORDER BY meter_id, profile
        ON CONFLICT (meter_id, profile) DO UPDATE SET covered = c.covered + excluded.covered
), verdict AS (
    SELECT gap_id, during, missing, present, period_s, entries,
           CASE WHEN intervals_within(absent - had, period_s, zone) > 0 THEN absent - had ELSE '{}' END AS rest,
           CASE WHEN intervals_within(absent * had, period_s, zone) > 0 THEN lost + absent * had ELSE lost END AS lost
      FROM sets
), changed AS (
    UPDATE gaps g
       SET missing = v.rest, lost = v.lost,
           wraps_at = lower(v.rest) + make_interval(secs => v.entries::bigint * v.period_s),
           closed_at = CASE WHEN isempty(v.rest) THEN %(now)s::timestamptz END,
           state = CASE WHEN NOT isempty(v.rest) THEN 'open'
                        WHEN NOT isempty(v.lost) THEN 'lost'
                        WHEN v.present && v.during THEN 'filled'
                        ELSE 'excused' END
      FROM verdict v WHERE v.gap_id = g.gap_id AND v.rest <> g.missing
    RETURNING g.state
)
SELECT count(*) FROM changed WHERE state <> 'open';

-- name: open
-- Gaps for what of [since, until) is expected, is not there, was not had, and stands in no open gap yet: one that ends where it begins grows, else there is a new one. How many.
WITH standing AS (
    SELECT meter_id, profile, range_agg(one) AS missing
      FROM gaps CROSS JOIN LATERAL unnest(missing) AS one
     WHERE state = 'open' GROUP BY meter_id, profile
), found AS (
    SELECT c.meter_id, c.profile, c.recall, whole_intervals(lower(one), upper(one), c.period_s, c.zone) AS one,
           lower(one) + make_interval(secs => c.entries::bigint * c.period_s) AS wraps_at
      FROM curve_ranges(%(since)s, %(until)s, %(now)s, %(meters)s::integer[]) c
      LEFT JOIN standing s ON s.meter_id = c.meter_id AND s.profile = c.profile
     CROSS JOIN LATERAL unnest(c.expected - c.present - c.covered - coalesce(s.missing, '{}')) AS one
     WHERE NOT c.present @> c.expected AND intervals_within(lower(one), upper(one), c.period_s, c.zone) > 0
), grown AS (
    UPDATE gaps g SET during = tstzrange(lower(g.during), upper(f.one)), missing = g.missing + tstzmultirange(f.one)
      FROM found f
     WHERE g.state = 'open' AND g.meter_id = f.meter_id AND g.profile = f.profile AND upper(g.during) = lower(f.one)
    RETURNING g.meter_id, g.profile, f.one
), made AS (
    INSERT INTO gaps (meter_id, profile, during, missing, found_at, wraps_at, next_try_at, cause, reason)
    SELECT f.meter_id, f.profile, f.one, tstzmultirange(f.one), %(now)s, f.wraps_at,
           CASE f.recall WHEN 'stored' THEN %(now)s::timestamptz ELSE 'infinity' END, cause_of(f.meter_id, f.recall),
           (SELECT r.reason FROM requests r WHERE r.meter_id = f.meter_id ORDER BY r.request_id DESC LIMIT 1)
      FROM found f
     WHERE NOT EXISTS (SELECT FROM grown g WHERE g.meter_id = f.meter_id AND g.profile = f.profile AND g.one = f.one)
     ORDER BY f.meter_id, f.profile, f.one
    RETURNING 1
)
SELECT (SELECT count(*) FROM made) + (SELECT count(*) FROM grown);

-- name: learn
-- What came of the last back-fill of open gaps: why they are still open.
UPDATE gaps g SET cause = r.stage, reason = r.reason
  FROM requests r
 WHERE g.state = 'open' AND r.job_id = g.job_id AND r.meter_id = g.meter_id AND r.stage IS NOT NULL
   AND (g.cause, g.reason) IS DISTINCT FROM (r.stage, r.reason);

-- name: asked
-- How many requests of back-fills are open.
SELECT count(*) FROM jobs j JOIN requests r ON r.job_id = j.job_id AND r.state = 'open'
 WHERE j.kind = 'backfill' AND j.ended_at IS NULL;

-- name: due
-- Open gaps whose turn it is, the first to be lost first: of commissioned meters that can be dialled and are not about to be read anyway.
SELECT g.gap_id, g.meter_id, g.profile, g.missing, g.wraps_at, g.tries
  FROM gaps g
  JOIN meters m ON m.meter_id = g.meter_id AND m.address IS NOT NULL
 CROSS JOIN LATERAL (SELECT state FROM meter_states WHERE meter_id = g.meter_id ORDER BY since DESC LIMIT 1) s
 WHERE g.state = 'open' AND g.next_try_at <= %(now)s AND s.state = 'commissioned'
   AND NOT EXISTS (SELECT FROM requests r JOIN jobs j USING (job_id)
                    WHERE r.meter_id = g.meter_id AND r.state = 'open' AND j.kind <> 'on_demand')
 ORDER BY g.wraps_at, lower(g.during), g.gap_id
 LIMIT %(limit)s;

-- name: planned
-- These gaps are asked for by a job, and again after a while where that is of no use.
UPDATE gaps g SET tries = g.tries + 1, job_id = %(job_id)s, next_try_at = p.next_try_at
  FROM unnest(%(gaps)s::bigint[], %(nexts)s::timestamptz[]) AS p (gap_id, next_try_at)
 WHERE g.gap_id = p.gap_id;

-- name: postponed
-- These gaps are not asked for before.
UPDATE gaps g SET next_try_at = p.next_try_at
  FROM unnest(%(gaps)s::bigint[], %(nexts)s::timestamptz[]) AS p (gap_id, next_try_at)
 WHERE g.gap_id = p.gap_id;

-- name: page
-- Gaps below a number, the newest first, filtered; of meters within areas (NULL: all).
SELECT g.gap_id, m.asset_id, g.profile, lower(g.during), upper(g.during), g.missing, g.lost, g.state, g.cause, g.reason,
       g.tries, nullif(g.next_try_at, 'infinity'), g.wraps_at, g.found_at, g.closed_at, g.job_id
  FROM gaps g JOIN meters m USING (meter_id)
 WHERE (%(before)s::bigint IS NULL OR g.gap_id < %(before)s)
   AND (%(state)s::text IS NULL OR g.state = %(state)s)
   AND (%(cause)s::text IS NULL OR g.cause = %(cause)s)
   AND (%(meter)s::integer IS NULL OR g.meter_id = %(meter)s)
   AND (%(within)s::integer[] IS NULL OR g.meter_id = ANY (%(within)s))
 ORDER BY g.gap_id DESC LIMIT %(limit)s;
