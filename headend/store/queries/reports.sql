-- name: due
-- Runs of schedules that have ended, or whose deadline has passed, and have no report of that yet; with the run before. Runs within an hour of the one before are no nights.
SELECT j.job_id, o.occasion,
       (SELECT max(b.run_at) FROM jobs b WHERE b.schedule_id = j.schedule_id AND b.run_at < j.run_at)
  FROM jobs j
 CROSS JOIN LATERAL (
           SELECT 'deadline' AS occasion WHERE j.deadline <= %(now)s AND coalesce(j.ended_at, 'infinity') > j.deadline
           UNION ALL SELECT 'end' WHERE j.ended_at IS NOT NULL) o
 WHERE j.kind = 'scheduled' AND j.cancelled_at IS NULL AND j.created_at > %(oldest)s
   AND NOT EXISTS (SELECT FROM jobs b WHERE b.schedule_id = j.schedule_id AND b.run_at < j.run_at
                                        AND b.run_at > j.run_at - interval '1 hour')
   AND NOT EXISTS (SELECT FROM reports r WHERE r.job_id = j.job_id AND r.occasion = o.occasion)
 ORDER BY j.job_id, o.occasion LIMIT %(limit)s;

-- name: asked
-- Whom a job asks: meters, and (negative) concentrators.
SELECT DISTINCT meter_id FROM requests WHERE job_id = %(job_id)s;

-- name: attempts
-- Attempts of a job: all, those that failed, their rows, and the time they took in milliseconds.
SELECT count(*), count(*) FILTER (WHERE stage IS NOT NULL), coalesce(sum(rows), 0), coalesce(sum(took_ms), 0)
  FROM attempts WHERE job_id = %(job_id)s;

-- name: insert
-- Keep a report; no row: it is there.
INSERT INTO reports (job_id, schedule_id, title, occasion, made_at, since, until, body)
VALUES (%(job_id)s, %(schedule_id)s, %(title)s, %(occasion)s, %(made_at)s, %(since)s, %(until)s, %(body)s)
ON CONFLICT DO NOTHING RETURNING report_id;

-- name: find
-- One report; of a run that asked none but those within areas (NULL: any).
SELECT report_id, job_id, schedule_id, title, occasion, made_at, since, until, body
  FROM reports p
 WHERE report_id = %(report_id)s
   AND (%(within)s::integer[] IS NULL OR (EXISTS (SELECT FROM requests r WHERE r.job_id = p.job_id)
        AND NOT EXISTS (SELECT FROM requests r WHERE r.job_id = p.job_id AND r.meter_id <> ALL (%(within)s)
                                                 AND -r.meter_id <> ALL (%(within_nodes)s::integer[]))));

-- name: page
-- Reports below a number, the newest first, without what is long in them; of runs that asked none but those within areas (NULL: any).
SELECT report_id, job_id, schedule_id, title, occasion, made_at, since, until, body - '{missing,stations}'::text[]
  FROM reports p
 WHERE (%(before)s::bigint IS NULL OR report_id < %(before)s)
   AND (%(schedule_id)s::integer IS NULL OR schedule_id = %(schedule_id)s)
   AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
   AND (%(within)s::integer[] IS NULL OR (EXISTS (SELECT FROM requests r WHERE r.job_id = p.job_id)
        AND NOT EXISTS (SELECT FROM requests r WHERE r.job_id = p.job_id AND r.meter_id <> ALL (%(within)s)
                                                 AND -r.meter_id <> ALL (%(within_nodes)s::integer[]))))
 ORDER BY report_id DESC LIMIT %(limit)s;
