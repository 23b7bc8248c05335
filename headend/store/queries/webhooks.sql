-- name: add
-- Who is told of a job's end.
INSERT INTO webhooks (job_id, url, secret, sealed_by, next_at)
VALUES (%(job_id)s, %(url)s, %(secret)s, %(sealed_by)s, %(now)s);

-- name: find
-- Who is told of a job's end, and how that went.
SELECT job_id, url, secret, sealed_by, state, attempts, next_at, last_at, last_status, last_reason
  FROM webhooks WHERE job_id = %(job_id)s;

-- name: begin
-- The webhook of an ended job if it is due: this attempt is its, and no other begins before the time given.
UPDATE webhooks w SET attempts = attempts + 1, next_at = %(until)s, last_at = %(now)s
  FROM jobs j
 WHERE w.job_id = %(job_id)s AND j.job_id = w.job_id AND j.ended_at IS NOT NULL
   AND w.state = 'waiting' AND w.next_at <= %(now)s
RETURNING w.job_id, url, secret, sealed_by, state, attempts, next_at, last_at, last_status, last_reason;

-- name: settle
-- How an attempt went.
UPDATE webhooks SET state = %(state)s, next_at = %(next_at)s, last_status = %(status)s, last_reason = %(reason)s
 WHERE job_id = %(job_id)s AND state = 'waiting' AND attempts = %(attempts)s;

-- name: queue
-- Have the webhooks of those of these jobs that have one delivered, at the times given.
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args, scheduled_at)
SELECT %(queue)s, %(task)s, 0, 'webhook ' || w.job_id, jsonb_build_object('job_id', w.job_id), w.next_at
  FROM webhooks w WHERE w.job_id = ANY (%(jobs)s::bigint[]) AND w.state = 'waiting'
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING;

-- name: forgotten
-- Jobs that have ended and whose webhook is overdue: whoever was at it is gone.
SELECT w.job_id FROM webhooks w JOIN jobs j USING (job_id)
 WHERE w.state = 'waiting' AND w.next_at < %(before)s AND j.ended_at IS NOT NULL
   AND NOT EXISTS (SELECT FROM procrastinate_jobs p WHERE p.queueing_lock = 'webhook ' || w.job_id AND p.status = 'todo')
 ORDER BY w.next_at LIMIT 1000;
