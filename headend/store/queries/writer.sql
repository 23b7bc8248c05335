-- name: insert_batch
-- One row for what brought the readings.
INSERT INTO batches (source, rows) VALUES (%(source)s, %(rows)s) RETURNING batch_id;

-- name: lock_coverage
-- Lock the coverage of some meters and profiles in that order, made where it is new. DO UPDATE takes the row lock, WHERE false writes nothing.
INSERT INTO coverage (meter_id, profile, covered)
SELECT meter_id, profile, '{}'
FROM unnest(%(meters)s::integer[], %(profiles)s::smallint[]) AS asked (meter_id, profile)
ORDER BY meter_id, profile
ON CONFLICT (meter_id, profile) DO UPDATE SET covered = '{}' WHERE false;

-- name: covered_already
-- Which of some ranges, by place from 1, meet what was read before.
SELECT place
FROM unnest(%(meters)s::integer[], %(profiles)s::smallint[], %(froms)s::timestamptz[], %(tos)s::timestamptz[])
     WITH ORDINALITY AS asked (meter_id, profile, since, until, place)
JOIN coverage USING (meter_id, profile)
WHERE covered && tstzrange(since, until);

-- name: add_coverage
-- Add ranges to the coverage; what is covered already is left alone.
WITH added AS (
    SELECT meter_id, profile, range_agg(tstzrange(since, until)) AS ranges
    FROM unnest(%(meters)s::integer[], %(profiles)s::smallint[], %(froms)s::timestamptz[], %(tos)s::timestamptz[])
         AS asked (meter_id, profile, since, until)
    GROUP BY meter_id, profile
)
UPDATE coverage SET covered = covered + added.ranges
FROM added
WHERE coverage.meter_id = added.meter_id AND coverage.profile = added.profile AND NOT covered @> added.ranges;

-- name: copy_direct
-- New rows straight into the table.
COPY interval_reads (start, stamp, batch_id, active_import, active_export, reactive_import, reactive_export,
                     meter_id, period_s, layout_id, amr_status, profile, clock_status, quality)
FROM STDIN (FORMAT BINARY);

-- name: create_staged
-- Where rows wait that may meet stored ones.
CREATE TEMPORARY TABLE staged (LIKE interval_reads) ON COMMIT DROP;

-- name: copy_staged
-- Rows that may meet stored ones.
COPY pg_temp.staged (start, stamp, batch_id, active_import, active_export, reactive_import, reactive_export,
                     meter_id, period_s, layout_id, amr_status, profile, clock_status, quality)
FROM STDIN (FORMAT BINARY);

-- name: insert_staged
-- Put in what is new of the staged rows, with a change row for each run of intervals; how many they were.
WITH made AS (
    INSERT INTO interval_reads (start, stamp, batch_id, active_import, active_export, reactive_import, reactive_export,
                                meter_id, period_s, layout_id, amr_status, profile, clock_status, quality)
    SELECT start, stamp, batch_id, active_import, active_export, reactive_import, reactive_export,
           meter_id, period_s, layout_id, amr_status, profile, clock_status, quality
    FROM pg_temp.staged
    ON CONFLICT DO NOTHING
    RETURNING meter_id, profile, start, period_s
), runs AS (
    SELECT meter_id, profile, range_agg(tstzrange(start, start + make_interval(secs => period_s))) AS ranges
    FROM made GROUP BY meter_id, profile
), told AS (
    INSERT INTO changes (meter_id, profile, during, kind, batch_id)
    SELECT meter_id, profile, unnest(ranges), 'new', %(batch_id)s FROM runs
)
SELECT count(*) FROM made;

-- name: differing
-- Staged rows beside the stored rows of the same interval, where the staged one says something else or more, or from a better source (only above quality 1 there is one). The bounds on start spare the chunks that cannot matter, and LIMIT 1 keeps to the index: nobody has counted the staged rows, and a plan that reads whole chunks takes a hundred times as long.
SELECT s.meter_id, s.profile, s.start,
       r.stamp, r.active_import, r.active_export, r.reactive_import, r.reactive_export,
       r.period_s, r.layout_id, r.amr_status, r.clock_status, r.quality, r.batch_id,
       s.stamp, s.active_import, s.active_export, s.reactive_import, s.reactive_export,
       s.period_s, s.layout_id, s.amr_status, s.clock_status, s.quality
FROM pg_temp.staged s
CROSS JOIN LATERAL (SELECT * FROM interval_reads
                     WHERE meter_id = s.meter_id AND profile = s.profile AND start = s.start
                       AND start BETWEEN %(since)s AND %(until)s LIMIT 1) r
WHERE (s.period_s <> r.period_s OR s.layout_id <> r.layout_id
       OR (s.active_import IS NOT NULL AND s.active_import IS DISTINCT FROM r.active_import)
       OR (s.active_export IS NOT NULL AND s.active_export IS DISTINCT FROM r.active_export)
       OR (s.reactive_import IS NOT NULL AND s.reactive_import IS DISTINCT FROM r.reactive_import)
       OR (s.reactive_export IS NOT NULL AND s.reactive_export IS DISTINCT FROM r.reactive_export)
       OR (s.amr_status IS NOT NULL AND s.amr_status IS DISTINCT FROM r.amr_status)
       OR (r.quality > 1 AND s.quality <> r.quality))
ORDER BY s.meter_id, s.profile, s.start;

-- name: drop_staged
-- So that one transaction can write more than one batch.
DROP TABLE pg_temp.staged;

-- name: layouts
-- What the value columns of some layouts mean.
SELECT layout_id, channels FROM channel_layouts WHERE layout_id = ANY(%(layouts)s::integer[]);

-- name: keep_revision
-- Keep what a correction is about to replace.
INSERT INTO interval_revisions (meter_id, profile, start, revision, stamp, batch_id, active_import, active_export,
                                reactive_import, reactive_export, period_s, layout_id, amr_status, clock_status,
                                quality, replaced_by)
SELECT meter_id, profile, start,
       1 + coalesce((SELECT max(revision) FROM interval_revisions v
                     WHERE v.meter_id = r.meter_id AND v.profile = r.profile AND v.start = r.start), 0),
       stamp, batch_id, active_import, active_export, reactive_import, reactive_export, period_s, layout_id,
       amr_status, clock_status, quality, %(batch_id)s
FROM interval_reads r
WHERE meter_id = %(meter_id)s AND profile = %(profile)s AND start = %(start)s;

-- name: replace_row
-- Put the merged row in place of the stored one.
UPDATE interval_reads
SET stamp = %(stamp)s, batch_id = %(batch_id)s, active_import = %(active_import)s, active_export = %(active_export)s,
    reactive_import = %(reactive_import)s, reactive_export = %(reactive_export)s, period_s = %(period_s)s,
    layout_id = %(layout_id)s, amr_status = %(amr_status)s, clock_status = %(clock_status)s, quality = %(quality)s
WHERE meter_id = %(meter_id)s AND profile = %(profile)s AND start = %(start)s;

-- name: insert_changes
-- Tell the change feed of ranges that are of one kind.
INSERT INTO changes (meter_id, profile, during, kind, batch_id)
SELECT meter_id, profile, unnest(range_agg(tstzrange(since, until))), %(kind)s, %(batch_id)s
FROM unnest(%(meters)s::integer[], %(profiles)s::smallint[], %(froms)s::timestamptz[], %(tos)s::timestamptz[])
     AS changed (meter_id, profile, since, until)
GROUP BY meter_id, profile;

-- name: insert_fragments
-- Keep rows that cannot stand at an interval of their own, once each; the ranges that are new are told.
WITH made AS (
    INSERT INTO interval_fragments (reason, start, stamp, batch_id, active_import, active_export, reactive_import,
                                    reactive_export, meter_id, period_s, layout_id, amr_status, profile, clock_status,
                                    quality)
    SELECT reason, start, stamp, %(batch_id)s, active_import, active_export, reactive_import, reactive_export,
           meter_id, period_s, layout_id, amr_status, profile, clock_status, quality
    FROM unnest(%(reasons)s::smallint[], %(starts)s::timestamptz[], %(stamps)s::timestamptz[],
                %(active_import)s::bigint[], %(active_export)s::bigint[], %(reactive_import)s::bigint[],
                %(reactive_export)s::bigint[], %(meters)s::integer[], %(periods)s::integer[],
                %(layouts)s::integer[], %(amr_status)s::bigint[], %(profiles)s::smallint[],
                %(clock_status)s::smallint[], %(qualities)s::smallint[])
         AS f (reason, start, stamp, active_import, active_export, reactive_import, reactive_export,
               meter_id, period_s, layout_id, amr_status, profile, clock_status, quality)
    ORDER BY meter_id, profile, stamp, reason
    ON CONFLICT DO NOTHING
    RETURNING meter_id, profile, start, period_s
), told AS (
    INSERT INTO changes (meter_id, profile, during, kind, batch_id)
    SELECT meter_id, profile, unnest(range_agg(tstzrange(start, start + make_interval(secs => period_s)))),
           'fragment', %(batch_id)s
    FROM made GROUP BY meter_id, profile
)
SELECT count(*) FROM made;

-- name: insert_registers
-- Keep register values, once each, and tell one range for each meter; how many were new. A push (quality 1) is the same again where the meter's time, value and unit are those of a push since then.
WITH made AS (
    INSERT INTO register_reads (read_at, meter_time, batch_id, meter_id, attribute, quality, obis, unit, value, text,
                                from_float)
    SELECT read_at, meter_time, %(batch_id)s, meter_id, attribute, quality, obis, unit, value, text, from_float
    FROM unnest(%(read_at)s::timestamptz[], %(meter_time)s::timestamptz[], %(meters)s::integer[],
                %(attributes)s::smallint[], %(qualities)s::smallint[], %(obis)s::text[], %(units)s::text[],
                %(values)s::numeric[], %(texts)s::text[], %(floats)s::boolean[])
         AS r (read_at, meter_time, meter_id, attribute, quality, obis, unit, value, text, from_float)
    WHERE NOT (r.quality = 1 AND r.meter_time IS NOT NULL AND EXISTS (
        SELECT FROM register_reads s
        WHERE s.meter_id = r.meter_id AND s.obis = r.obis AND s.attribute = r.attribute
          AND s.meter_time = r.meter_time AND s.quality = 1 AND s.read_at BETWEEN %(since)s AND %(until)s
          AND (s.value, s.text, s.unit) IS NOT DISTINCT FROM (r.value, r.text, r.unit)))
    ORDER BY meter_id, obis, attribute, read_at
    ON CONFLICT DO NOTHING
    RETURNING meter_id, read_at
), told AS (
    INSERT INTO changes (meter_id, profile, during, kind, batch_id)
    SELECT meter_id, NULL, tstzrange(min(read_at), max(read_at), '[]'), 'registers', %(batch_id)s
    FROM made GROUP BY meter_id
)
SELECT count(*) FROM made;

-- name: registers_in_conflict
-- Which register values, by place from 1, found another value stored for the same register and moment.
SELECT place
FROM unnest(%(read_at)s::timestamptz[], %(meters)s::integer[], %(attributes)s::smallint[], %(obis)s::text[],
            %(units)s::text[], %(values)s::numeric[], %(texts)s::text[])
     WITH ORDINALITY AS r (read_at, meter_id, attribute, obis, unit, value, text, place)
JOIN register_reads s USING (meter_id, obis, attribute, read_at)
WHERE (s.value, s.text, s.unit) IS DISTINCT FROM (r.value, r.text, r.unit)
ORDER BY place;

-- name: unknown_meters
-- Which of some meters are not there.
SELECT asked.meter_id FROM unnest(%(meters)s::integer[]) AS asked (meter_id)
WHERE NOT EXISTS (SELECT FROM meters WHERE meters.meter_id = asked.meter_id)
ORDER BY asked.meter_id;

-- name: quarantine
-- Keep in the inbox what fits no table, once each; how many were new.
WITH made AS (
    INSERT INTO inbox (source, identity, payload, reason)
    SELECT DISTINCT %(source)s::text, 'meter ' || q.meter_id, q.payload, q.reason
    FROM unnest(%(meters)s::integer[], %(payloads)s::bytea[], %(reasons)s::text[]) AS q (meter_id, payload, reason)
    WHERE NOT EXISTS (SELECT FROM inbox i WHERE i.source = %(source)s AND i.payload = q.payload AND i.reason = q.reason)
    RETURNING 1
)
SELECT count(*) FROM made;
