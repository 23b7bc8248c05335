-- name: waiting
-- What is due in a lane, in the order in which it is worked at: so many first attempts and so many further ones, of readings and of programs (urgency 30) each, so that none of them hides the others.
(SELECT request_id, job_id, meter_id, urgency, due_by, drop_dead, attempts, work
   FROM requests
  WHERE lane = %(lane)s AND state = 'open' AND attempts = 0 AND urgency <= least(%(urgency)s, 29)
    AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp()
  ORDER BY urgency, due_by, request_id LIMIT %(limit)s)
UNION ALL
(SELECT request_id, job_id, meter_id, urgency, due_by, drop_dead, attempts, work
   FROM requests
  WHERE lane = %(lane)s AND state = 'open' AND attempts > 0 AND urgency <= least(%(urgency)s, 29)
    AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp()
  ORDER BY urgency, due_by, request_id LIMIT %(limit)s)
UNION ALL
(SELECT request_id, job_id, meter_id, urgency, due_by, drop_dead, attempts, work
   FROM requests
  WHERE lane = %(lane)s AND state = 'open' AND attempts = 0 AND urgency BETWEEN 30 AND %(urgency)s
    AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp()
  ORDER BY urgency, due_by, request_id LIMIT %(limit)s)
UNION ALL
(SELECT request_id, job_id, meter_id, urgency, due_by, drop_dead, attempts, work
   FROM requests
  WHERE lane = %(lane)s AND state = 'open' AND attempts > 0 AND urgency BETWEEN 30 AND %(urgency)s
    AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp()
  ORDER BY urgency, due_by, request_id LIMIT %(limit)s);

-- name: due_in
-- How long until a request of a lane is due; NULL: none is open.
SELECT min(greatest(next_at, clock_timestamp())) - clock_timestamp() FROM requests
 WHERE lane = %(lane)s AND state = 'open' AND urgency <= %(urgency)s AND drop_dead > clock_timestamp();

-- name: done
-- Requests that got what they asked for.
WITH settled AS (
    UPDATE requests SET state = 'done', attempts = attempts + 1, ended_at = clock_timestamp(), stage = NULL, reason = NULL
     WHERE request_id = ANY (%(requests)s::bigint[]) AND state = 'open'
    RETURNING job_id, urgency
)
SELECT job_id, pg_notify('headend_jobs', job_id::text) FROM settled GROUP BY job_id HAVING min(urgency) = 0;

-- name: settle
-- What became of requests: closed, or left open for a later attempt.
WITH settled AS (
    UPDATE requests r
       SET state = t.state, attempts = CASE WHEN t.anew THEN 0 ELSE r.attempts + t.counts END, next_at = coalesce(t.next_at, r.next_at),
           ended_at = CASE WHEN t.state <> 'open' THEN clock_timestamp() END,
           stage = t.stage, reason = t.reason, result = coalesce(t.result, r.result)
      FROM unnest(%(requests)s::bigint[], %(states)s::text[], %(counts)s::integer[], %(anew)s::boolean[],
                  %(next_at)s::timestamptz[], %(stages)s::text[], %(reasons)s::text[], %(results)s::jsonb[])
           AS t (request_id, state, counts, anew, next_at, stage, reason, result)
     WHERE r.request_id = t.request_id AND r.state = 'open'
    RETURNING r.job_id, r.urgency
)
SELECT job_id, pg_notify('headend_jobs', job_id::text) FROM settled GROUP BY job_id HAVING min(urgency) = 0;

-- name: tell
-- Wake who waits for these jobs.
SELECT pg_notify('headend_jobs', job::text) FROM unnest(%(jobs)s::bigint[]) AS job;

-- name: find
-- Requests of a job or of a meter, filtered, by number.
SELECT request_id, job_id, meter_id, lane, urgency, due_by, next_at, drop_dead, ended_at, attempts, state, work, stage,
       reason, result
  FROM requests
 WHERE (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
   AND (%(meter_id)s::integer IS NULL OR meter_id = %(meter_id)s)
   AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
   AND (%(stage)s::text IS NULL OR stage = %(stage)s)
   AND (%(after)s::bigint IS NULL OR request_id > %(after)s)
   AND (%(before)s::bigint IS NULL OR request_id < %(before)s)
 ORDER BY CASE WHEN %(newest)s THEN -request_id ELSE request_id END LIMIT %(limit)s;
