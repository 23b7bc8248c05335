-- name: create
-- A job. No row: a job of this schedule and time is there already.
INSERT INTO jobs (kind, schedule_id, run_at, title, work, retry, priority, deadline, drop_dead, actor, correlation_id)
VALUES (%(kind)s, %(schedule_id)s, %(run_at)s, %(title)s, %(work)s, %(retry)s, %(priority)s, %(deadline)s, %(drop_dead)s,
        %(actor)s, %(correlation_id)s)
ON CONFLICT (schedule_id, run_at) DO NOTHING
RETURNING job_id;

-- name: add_requests
-- A request of the job for each of these meters (negative: concentrators by the number of their node), in its lane; the lanes. The way up is walked once for each parent, and no further than to a station.
WITH RECURSIVE asked AS (
    SELECT a.meter_id, a.work, m.address, l.parent
      FROM unnest(%(meters)s::integer[], %(works)s::jsonb[]) AS a (meter_id, work)
      LEFT JOIN meters m ON m.meter_id = a.meter_id
      LEFT JOIN network_nodes n ON n.meter_id = a.meter_id
      LEFT JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
), up AS (
    SELECT node_id AS start, node_id, kind FROM network_nodes WHERE node_id IN (SELECT parent FROM asked)
    UNION ALL
    SELECT up.start, p.node_id, p.kind
      FROM up
     CROSS JOIN LATERAL (SELECT parent FROM network_links WHERE child = up.node_id AND upper_inf(during) LIMIT 1) l
     CROSS JOIN LATERAL (SELECT node_id, kind FROM network_nodes WHERE node_id = l.parent LIMIT 1) p
     WHERE up.kind NOT IN ('concentrator', 'gateway')
), made AS (
    INSERT INTO requests (job_id, due_by, next_at, drop_dead, meter_id, urgency, lane, work)
    SELECT %(job_id)s, %(due_by)s, %(next_at)s, %(drop_dead)s, asked.meter_id, %(urgency)s,
           lane_of(asked.meter_id, asked.address, up.node_id), nullif(asked.work, 'null')
      FROM asked LEFT JOIN up ON up.start = asked.parent AND up.kind IN ('concentrator', 'gateway')
    RETURNING lane
), lane AS (
    SELECT DISTINCT lane FROM made
), kept AS (
    INSERT INTO lanes (lane) SELECT lane FROM lane ORDER BY lane ON CONFLICT DO NOTHING
)
SELECT lane FROM lane ORDER BY lane;

-- name: find
-- One job.
SELECT job_id, kind, schedule_id, run_at, title, work, retry, priority, deadline, drop_dead, actor, correlation_id,
       created_at, ended_at, cancelled_at
  FROM jobs WHERE job_id = %(job_id)s;

-- name: page
-- Jobs below a number, newest first; those that ask none but whom areas have (NULL: any), and one's own.
SELECT job_id, kind, schedule_id, run_at, title, work, retry, priority, deadline, drop_dead, actor, correlation_id,
       created_at, ended_at, cancelled_at
  FROM jobs j
 WHERE (%(before)s::bigint IS NULL OR job_id < %(before)s)
   AND (%(kind)s::text IS NULL OR kind = %(kind)s)
   AND (%(schedule_id)s::integer IS NULL OR schedule_id = %(schedule_id)s)
   AND (%(is_open)s::boolean IS NULL OR (ended_at IS NULL) = %(is_open)s)
   AND (%(within)s::integer[] IS NULL OR actor = %(own)s::text OR (EXISTS (SELECT FROM requests r WHERE r.job_id = j.job_id)
        AND NOT EXISTS (SELECT FROM requests r WHERE r.job_id = j.job_id AND r.meter_id <> ALL (%(within)s)
                                                 AND -r.meter_id <> ALL (%(within_nodes)s::integer[]))))
 ORDER BY job_id DESC LIMIT %(limit)s;

-- name: is_within
-- Whether a job asks somebody, and none but those within areas.
SELECT EXISTS (SELECT FROM requests r WHERE r.job_id = j.job_id)
        AND NOT EXISTS (SELECT FROM requests r WHERE r.job_id = j.job_id AND r.meter_id <> ALL (%(within)s::integer[])
                                                 AND -r.meter_id <> ALL (%(within_nodes)s::integer[]))
  FROM jobs j WHERE job_id = %(job_id)s;

-- name: counts
-- How many requests of some jobs are in which state.
SELECT job_id, state, count(*) FROM requests WHERE job_id = ANY (%(jobs)s::bigint[]) GROUP BY job_id, state;

-- name: cancel
-- Close what is open of a job; how many requests that were. What is under way at a meter ends by itself and is stored.
WITH closed AS (
    UPDATE requests SET state = 'cancelled', ended_at = now() WHERE job_id = %(job_id)s AND state = 'open' RETURNING 1
), job AS (
    UPDATE jobs SET cancelled_at = coalesce(cancelled_at, now()), ended_at = coalesce(ended_at, now())
     WHERE job_id = %(job_id)s AND ended_at IS NULL
)
SELECT count(*) FROM closed;

-- name: expire
-- Close requests whose drop-dead time has passed.
UPDATE requests SET state = 'expired', ended_at = now(), reason = coalesce(reason, 'its turn did not come in time')
 WHERE state = 'open' AND drop_dead < now() AND job_id IN (SELECT job_id FROM jobs WHERE ended_at IS NULL AND drop_dead < now());

-- name: end
-- Mark jobs as ended of which nothing is open any more; their numbers.
UPDATE jobs j SET ended_at = now()
 WHERE ended_at IS NULL AND (%(jobs)s::bigint[] IS NULL OR job_id = ANY (%(jobs)s))
   AND NOT EXISTS (SELECT FROM requests r WHERE r.job_id = j.job_id AND r.state = 'open')
RETURNING job_id;

-- name: forget_one
-- The oldest job that ended before a time, with its requests; one that somebody else is at is passed over.
DELETE FROM jobs WHERE job_id = (SELECT job_id FROM jobs WHERE ended_at < %(before)s ORDER BY job_id LIMIT 1 FOR UPDATE SKIP LOCKED);
