-- name: take
-- Those of these lanes whose lease has ended, for this holder. A lane that somebody is just writing under is passed over; one that somebody is just waking is not.
UPDATE lanes
   SET holder = %(holder)s, fence = fence + 1, expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE lane IN (SELECT lane FROM lanes WHERE lane = ANY (%(lanes)s) AND expires_at < clock_timestamp()
                   AND pg_try_advisory_xact_lock(%(space)s, hashtext(lane))
                 ORDER BY lane FOR NO KEY UPDATE SKIP LOCKED)
RETURNING lane, fence;

-- name: hold
-- Renew leases, and lock them in order until the transaction ends. A lane that is missing has been taken by somebody else; a lease that ended without that is still ours.
UPDATE lanes
   SET expires_at = greatest(expires_at, clock_timestamp() + make_interval(secs => %(lease_s)s))
 WHERE lane IN (SELECT l.lane FROM lanes l JOIN unnest(%(lanes)s::text[], %(fences)s::bigint[]) AS t (lane, fence)
                       ON l.lane = t.lane AND l.fence = t.fence
                 ORDER BY l.lane FOR NO KEY UPDATE OF l)
RETURNING lane;

-- name: share
-- Keep others from taking these lanes until the transaction ends, beside whoever holds them for writing.
SELECT pg_advisory_xact_lock_shared(%(space)s, lock) FROM (SELECT DISTINCT hashtext(lane) AS lock FROM unnest(%(lanes)s::text[]) AS lane ORDER BY 1) AS locks;

-- name: renew
-- Renew leases; those under which somebody is just writing are renewed by that.
UPDATE lanes
   SET expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE lane IN (SELECT l.lane FROM lanes l JOIN unnest(%(lanes)s::text[], %(fences)s::bigint[]) AS t (lane, fence)
                       ON l.lane = t.lane AND l.fence = t.fence
                 ORDER BY l.lane FOR NO KEY UPDATE OF l SKIP LOCKED);

-- name: lost
-- Those of these leases whose lane has been taken by somebody else since.
SELECT t.lane FROM unnest(%(lanes)s::text[], %(fences)s::bigint[]) AS t (lane, fence)
 WHERE NOT EXISTS (SELECT FROM lanes l WHERE l.lane = t.lane AND l.fence = t.fence);

-- name: give_back_lock
-- Wait for everybody who is just waking one of these lanes.
SELECT FROM lanes WHERE lane = ANY (%(lanes)s) ORDER BY lane FOR UPDATE;

-- name: give_back
-- End leases now.
UPDATE lanes l SET expires_at = '-infinity', holder = NULL
  FROM unnest(%(lanes)s::text[], %(fences)s::bigint[]) AS t (lane, fence)
 WHERE l.lane = t.lane AND l.fence = t.fence;

-- name: due
-- Those of these lanes in which requests are due, with the urgency of the most urgent.
SELECT l.lane, r.urgency
  FROM unnest(%(lanes)s::text[]) AS l (lane)
 CROSS JOIN LATERAL (SELECT urgency FROM requests
                      WHERE lane = l.lane AND state = 'open' AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp()
                      ORDER BY urgency LIMIT 1) r
 ORDER BY l.lane;

-- name: unserved
-- Lanes in which requests are due and that nobody holds, with the urgency of the most urgent request.
SELECT l.lane, r.urgency
  FROM lanes l
 CROSS JOIN LATERAL (SELECT urgency FROM requests
                      WHERE lane = l.lane AND state = 'open' AND next_at <= clock_timestamp() AND drop_dead > clock_timestamp()
                      ORDER BY urgency LIMIT 1) r
 WHERE l.expires_at < clock_timestamp()
 ORDER BY r.urgency, l.lane
 LIMIT %(limit)s;

-- name: find
-- Lanes for people, with what is open in each.
SELECT l.lane, CASE WHEN l.expires_at >= clock_timestamp() THEN l.holder END, l.fence,
       CASE WHEN l.expires_at >= clock_timestamp() THEN l.expires_at END,
       (SELECT count(*) FROM requests r WHERE r.lane = l.lane AND r.state = 'open')
  FROM lanes l
 WHERE (%(after)s::text IS NULL OR l.lane > %(after)s) AND (%(lanes)s::text[] IS NULL OR l.lane = ANY (%(lanes)s))
 ORDER BY l.lane LIMIT %(limit)s;

-- name: of_meters
-- The lanes of meters, each with the node of the station that it is behind.
SELECT m.meter_id, lane_of(m.meter_id, m.address, t.station)
  FROM unnest(%(meters)s::integer[], %(stations)s::integer[]) AS t (meter_id, station)
  JOIN meters m USING (meter_id);

-- name: ensure
-- A row for each of these lanes.
INSERT INTO lanes (lane) SELECT unnest(%(lanes)s::text[]) ON CONFLICT DO NOTHING;
