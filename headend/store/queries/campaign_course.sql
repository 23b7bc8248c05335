-- name: active
-- Campaigns of which something may be due: not those that wait for approval, nor those that are over and done with.
SELECT campaign_id FROM campaigns c
 WHERE state IN ('approved', 'running', 'paused', 'stopped')
    OR (state = 'aborted' AND EXISTS (SELECT FROM campaign_meters m WHERE m.campaign_id = c.campaign_id AND m.ended_at IS NULL))
 ORDER BY campaign_id;

-- name: of_kinds
-- Campaigns of these kinds that are approved, run or are paused.
SELECT campaign_id FROM campaigns JOIN programs USING (program_id)
 WHERE kind = ANY (%(kinds)s) AND state IN ('approved', 'running', 'paused') ORDER BY campaign_id;

-- name: standing
-- How many meters of each wave wait, are open, got it, and failed; the last two since failures are counted.
SELECT m.wave,
       count(*) FILTER (WHERE m.state = 'waiting'), count(*) FILTER (WHERE m.state = 'open'),
       count(*) FILTER (WHERE m.state IN ('done', 'unchanged') AND (c.judged_from IS NULL OR m.ended_at > c.judged_from)),
       count(*) FILTER (WHERE m.state IN ('failed', 'unsure') AND (c.judged_from IS NULL OR m.ended_at > c.judged_from)),
       max(m.ended_at) FILTER (WHERE m.state <> 'incompatible' OR m.began_at IS NOT NULL)
  FROM campaigns c JOIN campaign_meters m USING (campaign_id)
 WHERE c.campaign_id = %(campaign)s GROUP BY m.wave ORDER BY m.wave;

-- name: judge_anew
-- From now on failures are counted anew.
UPDATE campaigns SET judged_from = clock_timestamp() WHERE campaign_id = %(campaign)s;

-- name: engaged
-- Meters that another campaign of the same kind is at: one that was stopped only where a step is in the middle.
SELECT o.meter_id
  FROM campaigns oc JOIN programs op USING (program_id) JOIN campaign_meters o USING (campaign_id)
 WHERE oc.campaign_id <> %(campaign)s AND oc.state IN ('running', 'paused', 'stopped', 'aborted') AND o.state = 'open'
   AND op.kind = (SELECT kind FROM campaigns JOIN programs USING (program_id) WHERE campaign_id = %(campaign)s)
   AND (oc.state <> 'stopped' OR o.steps @? '$.* ? (@ == "intended")');

-- name: turn
-- Waiting meters of the waves that have begun whose turn it is, a limited number of them: so many of each station at once (NULL: any number), and none of those that are engaged.
WITH busy AS (
    SELECT station, count(*) AS number FROM campaign_meters
     WHERE campaign_id = %(campaign)s AND state = 'open' AND station IS NOT NULL GROUP BY station
), turn AS (
    SELECT meter_id, station, row_number() OVER (PARTITION BY station ORDER BY wave, meter_id) AS place
      FROM campaign_meters
     WHERE campaign_id = %(campaign)s AND state = 'waiting' AND wave <= %(wave)s AND meter_id <> ALL (%(engaged)s::integer[])
)
SELECT turn.meter_id FROM turn LEFT JOIN busy USING (station)
 WHERE %(per_station)s::integer IS NULL OR turn.station IS NULL OR turn.place <= %(per_station)s - coalesce(busy.number, 0)
 ORDER BY turn.meter_id LIMIT %(most)s;

-- name: open
-- These meters are open now.
UPDATE campaign_meters SET state = 'open', request_id = NULL
 WHERE campaign_id = %(campaign)s AND meter_id = ANY (%(meters)s::integer[]) AND state = 'waiting';

-- name: bereft
-- Open meters that no request works at, though none has failed: it was forgotten, or never made; their numbers.
SELECT m.meter_id FROM campaign_meters m LEFT JOIN requests r USING (request_id)
 WHERE m.campaign_id = %(campaign)s AND m.state = 'open' AND (r.request_id IS NULL OR r.state = 'done')
   AND (r.ended_at IS NULL OR r.ended_at < clock_timestamp() - make_interval(secs => %(grace_s)s))
 ORDER BY m.meter_id;

-- name: follow
-- Meters end as their requests did: failed with stage and reason, unsure where a step is begun of which nobody knows whether it took effect (whoever may still be at it is given some time), cancelled where somebody cancelled the request.
UPDATE campaign_meters m
   SET state = CASE WHEN m.steps @? '$.* ? (@ == "intended")' THEN 'unsure' WHEN r.state = 'cancelled' THEN 'cancelled' ELSE 'failed' END,
       stage = r.stage, ended_at = clock_timestamp(),
       reason = coalesce(r.reason, CASE r.state WHEN 'cancelled' THEN 'its request was cancelled'
                                                WHEN 'expired' THEN 'its turn did not come in time' ELSE 'its request failed' END)
                || CASE WHEN m.steps @? '$.* ? (@ == "intended")' THEN '; nobody knows whether ' || coalesce(m.step, 'its last step') || ' took effect' ELSE '' END
  FROM requests r
 WHERE m.campaign_id = %(campaign)s AND m.state = 'open' AND m.ended_at IS NULL
   AND r.request_id = m.request_id AND r.state IN ('failed', 'expired', 'cancelled')
   AND NOT (m.steps @? '$.* ? (@ == "intended")' AND r.ended_at > clock_timestamp() - make_interval(secs => %(grace_s)s));

-- name: cancel_waiting
-- Meters that were not begun with are cancelled, and open ones at which no step is in the middle, a limited number of them; the requests of those.
UPDATE campaign_meters SET state = 'cancelled', reason = %(reason)s, ended_at = clock_timestamp()
 WHERE campaign_id = %(campaign)s AND ended_at IS NULL
   AND meter_id IN (SELECT meter_id FROM campaign_meters
                     WHERE campaign_id = %(campaign)s AND ended_at IS NULL
                       AND NOT (state = 'open' AND steps @? '$.* ? (@ == "intended")')
                     ORDER BY meter_id LIMIT %(most)s FOR UPDATE)
   AND NOT (state = 'open' AND steps @? '$.* ? (@ == "intended")')
RETURNING request_id;

-- name: cancel_requests
-- Requests that are of no use any more; those that somebody is just settling see for themselves.
UPDATE requests SET state = 'cancelled', reason = %(reason)s, ended_at = clock_timestamp()
 WHERE request_id IN (SELECT request_id FROM requests WHERE request_id = ANY (%(requests)s::bigint[]) AND state = 'open'
                       ORDER BY request_id FOR UPDATE SKIP LOCKED);

-- name: put_off
-- No visit of open meters begins before a time (at most: until their requests expire), save of those at which a step is in the middle; a limited number of them.
UPDATE requests r SET next_at = least(%(until)s, r.drop_dead)
 WHERE request_id IN (SELECT r.request_id FROM campaign_meters m JOIN requests r USING (request_id)
                       WHERE m.campaign_id = %(campaign)s AND m.state = 'open' AND r.state = 'open'
                         AND r.next_at < least(%(until)s, r.drop_dead)
                         AND (%(midway)s OR NOT m.steps @? '$.* ? (@ == "intended")')
                       ORDER BY r.request_id LIMIT %(most)s FOR UPDATE OF r SKIP LOCKED);

-- name: bring_on
-- Open meters are visited from now on, all of them or those at which a step is in the middle; the lanes, to be woken.
WITH due AS (
    UPDATE requests SET next_at = clock_timestamp()
     WHERE request_id IN (SELECT r.request_id FROM campaign_meters m JOIN requests r USING (request_id)
                           WHERE m.campaign_id = %(campaign)s AND m.state = 'open' AND r.state = 'open' AND r.next_at > clock_timestamp()
                             AND (NOT %(midway)s OR m.steps @? '$.* ? (@ == "intended")')
                           ORDER BY r.request_id FOR UPDATE OF r SKIP LOCKED)
    RETURNING lane
)
SELECT DISTINCT lane FROM due ORDER BY lane;

-- name: taken
-- Which of these meters another campaign of a kind waits for or is at, with its number: those that are approved, run or are paused, and of those that were stopped what is in the middle of a step.
SELECT o.meter_id, c.campaign_id
  FROM campaigns c JOIN programs p USING (program_id) JOIN campaign_meters o USING (campaign_id)
 WHERE c.ended_at IS NULL AND p.kind = %(kind)s
   AND (c.state IN ('approved', 'running', 'paused') OR (c.state = 'stopped' AND o.steps @? '$.* ? (@ == "intended")'))
   AND o.ended_at IS NULL AND o.meter_id = ANY (%(meters)s::integer[])
 ORDER BY c.campaign_id, o.meter_id;

-- name: rival
-- Another campaign of the same kind that goes on at meters of this one, which have not ended in either.
SELECT min(oc.campaign_id)
  FROM campaigns c JOIN programs p USING (program_id) JOIN campaign_meters m USING (campaign_id)
  JOIN campaign_meters o ON o.meter_id = m.meter_id AND o.ended_at IS NULL AND o.campaign_id <> m.campaign_id
  JOIN campaigns oc ON oc.campaign_id = o.campaign_id JOIN programs op ON op.program_id = oc.program_id
 WHERE c.campaign_id = %(campaign)s AND m.ended_at IS NULL AND op.kind = p.kind AND oc.state IN ('approved', 'running', 'paused');

-- name: say
-- Whoever takes campaigns on is told that this one may go on.
SELECT pg_notify('headend_campaigns', %(campaign)s::bigint::text);
