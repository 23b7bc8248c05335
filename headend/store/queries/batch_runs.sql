-- name: lock
-- The count of each run, made where it is new, locked until the transaction ends.
INSERT INTO batch_runs AS r (concentrator, run, topic, slot)
SELECT * FROM unnest(%(concentrators)s::text[], %(runs)s::text[], %(topics)s::text[], %(slots)s::text[]) AS c (concentrator, run, topic, slot)
 ORDER BY 1, 2
ON CONFLICT (concentrator, run) DO UPDATE SET last_at = now(), topic = excluded.topic, slot = excluded.slot
RETURNING concentrator, run, next_sequence;

-- name: open_gaps
-- What is still missing of some runs, and what of that which came now was believed lost.
SELECT gap_id, g.concentrator, g.run, gap, missing, lost
  FROM batch_gaps g
  JOIN unnest(%(concentrators)s::text[], %(runs)s::text[]) AS c (concentrator, run) USING (concentrator, run)
 WHERE closed_at IS NULL OR lost && %(came)s::int8range
 ORDER BY gap_id;

-- name: advance
-- The next sequence number that each run should have.
UPDATE batch_runs r SET next_sequence = a.next
  FROM unnest(%(concentrators)s::text[], %(runs)s::text[], %(nexts)s::bigint[]) AS a (concentrator, run, next)
 WHERE r.concentrator = a.concentrator AND r.run = a.run;

-- name: add_gap
-- Batches that did not come in their turn.
INSERT INTO batch_gaps (concentrator, run, gap, missing, lost, next_request_at, closed_at)
VALUES (%(concentrator)s, %(run)s, %(gap)s, %(missing)s, %(lost)s,
        CASE WHEN isempty(%(missing)s) THEN NULL ELSE now() END, CASE WHEN isempty(%(missing)s) THEN now() END);

-- name: shrink_gap
-- Some of a gap came, or is lost; it closes when nothing is missing any more.
UPDATE batch_gaps
   SET missing = %(missing)s, lost = %(lost)s,
       next_request_at = CASE WHEN isempty(%(missing)s) THEN NULL ELSE next_request_at END,
       closed_at = CASE WHEN isempty(%(missing)s) THEN coalesce(closed_at, now()) END
 WHERE gap_id = %(gap)s;

-- name: due
-- Gaps of a slot's concentrators that should be asked for now, taken on: asked for again after a pause that doubles, drawn at random from its upper half. After so many requests a gap is given up.
UPDATE batch_gaps g
   SET requests = requests + 1,
       next_request_at = CASE WHEN requests + 1 < %(attempts)s
           THEN now() + make_interval(secs => least(%(longest_s)s, %(first_s)s * 2 ^ least(requests, 30)) * (0.5 + random() / 2)) END
  FROM batch_runs r
 WHERE r.concentrator = g.concentrator AND r.run = g.run AND r.slot = %(slot)s
   AND g.closed_at IS NULL AND g.next_request_at <= now()
RETURNING g.concentrator, g.run, g.missing, r.topic, g.requests;

-- name: gaps
-- Gaps for people: what is open first, newest first.
SELECT gap_id, concentrator, run, gap, missing, lost, noticed_at, requests, next_request_at, closed_at
  FROM batch_gaps
 WHERE %(all)s OR closed_at IS NULL
 ORDER BY closed_at IS NOT NULL, gap_id DESC LIMIT %(limit)s;
