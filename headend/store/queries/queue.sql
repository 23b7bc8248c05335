-- name: look
-- Lanes of these that nobody holds. The lock makes who gives one back wait for us, and us for him.
SELECT lane, expires_at >= clock_timestamp() FROM lanes WHERE lane = ANY (%(lanes)s) ORDER BY lane FOR KEY SHARE;

-- name: defer
-- A job of the queue for each lane that has none waiting.
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args)
SELECT %(queue)s::text, %(task)s::text, %(priority)s, %(queue)s::text || ' ' || lane, jsonb_build_object('lane', lane)
  FROM unnest(%(lanes)s::text[]) AS lane
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING;

-- name: ring
-- Tell the holders of these lanes, and whoever can work at those that are bound to a place.
SELECT pg_notify('headend_lanes', lane) FROM unnest(%(lanes)s::text[]) AS lane;

-- name: drop_stalled
-- Forget workers of the queue that have not been heard of for so long, with what they were at: their lanes are woken anew.
WITH gone AS (
    DELETE FROM procrastinate_workers WHERE last_heartbeat < now() - make_interval(secs => %(silent_s)s) RETURNING id
)
DELETE FROM procrastinate_jobs
 WHERE status = 'doing' AND task_name = ANY (%(tasks)s)
   AND (worker_id IS NULL OR worker_id IN (SELECT id FROM gone));
