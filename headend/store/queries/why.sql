-- name: meter
-- What belongs to one meter: its lane, its keys, whether it is connected by itself, and when the schedule that asked it last runs next.
SELECT lane_of(m.meter_id, m.address, %(station)s::integer),
       (SELECT coalesce(array_agg(k.purpose ORDER BY k.purpose), '{}') FROM meter_keys k WHERE k.meter_id = m.meter_id),
       i.worker, i.since, n.name, n.next_at
  FROM meters m
  LEFT JOIN inbound_connections i ON i.meter_id = m.meter_id
  LEFT JOIN LATERAL (
       SELECT s.name, s.next_at
         FROM requests r JOIN jobs j USING (job_id) JOIN schedules s ON s.schedule_id = j.schedule_id
        WHERE r.meter_id IN (m.meter_id, -%(station)s::integer) AND s.enabled AND s.next_at IS NOT NULL
        ORDER BY r.request_id DESC LIMIT 1) n ON true
 WHERE m.meter_id = %(meter)s;

-- name: curves
-- Each curve of the meter in [since, now): what is expected, present, lost and open, the first open interval, and until when rows are stored.
SELECT c.profile, m.recall, m.period_s, c.expected, c.present, c.lost, c.open, c.first_open,
       (SELECT upper(r.present) FROM curve_ranges(%(since)s, %(now)s, %(now)s, ARRAY[%(meter)s::integer]) r
         WHERE r.profile = c.profile)
  FROM completeness_of(%(since)s, %(now)s, %(now)s, ARRAY[%(meter)s::integer]) c
  JOIN meters USING (meter_id)
  JOIN model_curves m ON m.model = meters.model AND m.profile = c.profile
 ORDER BY c.profile;

-- name: requests
-- The meter's open requests, the most urgent first, with how many stand before each in its lane, and who holds that.
SELECT r.request_id, r.job_id, j.kind, j.title, r.lane, r.urgency, r.attempts, (j.retry ->> 'attempts')::integer,
       r.next_at, r.due_by, r.drop_dead, r.stage, r.reason,
       (SELECT count(*) FROM requests b
         WHERE b.lane = r.lane AND b.state = 'open' AND b.next_at <= %(now)s
           AND (b.urgency, b.due_by, b.request_id) < (r.urgency, r.due_by, r.request_id)),
       CASE WHEN l.expires_at > now() THEN l.holder END
  FROM requests r JOIN jobs j USING (job_id) LEFT JOIN lanes l ON l.lane = r.lane
 WHERE r.meter_id = %(meter)s AND r.state = 'open'
 ORDER BY r.urgency, r.due_by LIMIT %(limit)s;

-- name: ended
-- The newest request of the meter that is not open any more.
SELECT j.kind, j.title, r.state, r.ended_at, r.attempts, r.stage, r.reason
  FROM requests r JOIN jobs j USING (job_id)
 WHERE r.meter_id = %(meter)s AND r.state <> 'open' ORDER BY r.request_id DESC LIMIT 1;

-- name: attempts
-- The newest attempts at the meter.
SELECT began_at, took_ms, rows, number, stage, fault, reason, worker
  FROM attempts WHERE meter_id = %(meter)s ORDER BY began_at DESC LIMIT %(limit)s;

-- name: breakers
-- What is silent of the meter, its station and its line.
SELECT kind, id, since, until, failures, probes, stage, reason FROM link_states
 WHERE (kind = 'meter' AND id = %(meter)s::text) OR (kind = 'station' AND id = %(station)s::text)
    OR (kind = 'line' AND id = %(line)s)
 ORDER BY kind DESC;

-- name: gap
-- The oldest open gap of the meter, and how many there are.
SELECT lower(missing), tries, nullif(next_try_at, 'infinity'), wraps_at, cause, reason, count(*) OVER ()
  FROM gaps WHERE meter_id = %(meter)s AND state = 'open' ORDER BY lower(missing) LIMIT 1;
