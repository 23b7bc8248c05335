-- name: turn
-- One after the other: whoever is about to switch, and whoever stops all switching. Until the transaction ends.
SELECT pg_advisory_xact_lock(0x73776974);

-- name: halt
-- The emergency stop that holds, if one does.
SELECT halt_id, reason, actor, account, at FROM switching_halts WHERE allowed_at IS NULL;

-- name: stop
-- An emergency stop; the one that holds already is left as it is.
INSERT INTO switching_halts (reason, actor, account) VALUES (%(reason)s, %(actor)s, %(account)s)
ON CONFLICT DO NOTHING RETURNING halt_id;

-- name: allow
-- The end of an emergency stop.
UPDATE switching_halts SET allowed_by = %(actor)s, allowed_at = clock_timestamp()
 WHERE halt_id = %(halt)s AND allowed_at IS NULL;

-- name: sent
-- A switching is about to be sent.
INSERT INTO switchings (campaign_id, meter_id, action, reason, note, actor, sent_at)
VALUES (%(campaign)s, %(meter)s, %(action)s, %(reason)s, %(note)s, %(actor)s, %(at)s)
ON CONFLICT (campaign_id, meter_id) DO UPDATE SET sent_at = excluded.sent_at;

-- name: disconnected
-- Disconnections sent since a moment: how many, and when the first of them was. Not that of this campaign and meter.
SELECT count(*), min(sent_at) FROM switchings
 WHERE action = 'disconnect' AND sent_at > %(since)s
   AND (campaign_id, meter_id) IS DISTINCT FROM (%(campaign)s::bigint, %(meter)s::integer);

-- name: disconnecting
-- Meters that open campaigns are still to disconnect.
SELECT count(*)
  FROM campaigns c
  JOIN programs p USING (program_id)
  JOIN campaign_meters m USING (campaign_id)
  LEFT JOIN switchings s ON s.campaign_id = m.campaign_id AND s.meter_id = m.meter_id
 WHERE c.ended_at IS NULL AND p.kind = 'switch' AND p.content ->> 'action' = 'disconnect'
   AND m.ended_at IS NULL AND s.switching_id IS NULL;

-- name: read
-- Where a breaker stands, as just read.
INSERT INTO switch_states (meter_id, read_at, output, control, mode)
VALUES (%(meter)s, %(at)s, %(output)s, %(control)s, %(mode)s)
ON CONFLICT (meter_id) DO UPDATE
   SET read_at = excluded.read_at, output = excluded.output, control = excluded.control, mode = excluded.mode
 WHERE switch_states.read_at <= excluded.read_at;

-- name: state
-- Where a breaker stood when it was last read.
SELECT read_at, output, control, mode FROM switch_states WHERE meter_id = %(meter)s;

-- name: history
-- Switchings and limits of a meter, newest first, with what became of them.
SELECT s.switching_id, s.campaign_id, s.action, s.reason, s.note, s.actor, s.sent_at,
       (SELECT a.decided_by FROM approvals a WHERE a.subject = 'campaign:' || s.campaign_id AND a.state = 'approved'
         ORDER BY a.approval_id DESC LIMIT 1),
       m.state, m.reason, m.proof, m.ended_at
  FROM switchings s LEFT JOIN campaign_meters m USING (campaign_id, meter_id)
 WHERE s.meter_id = %(meter)s AND (%(before)s::bigint IS NULL OR s.switching_id < %(before)s)
 ORDER BY s.switching_id DESC LIMIT %(limit)s;

-- name: critical
-- Which of these meters are a critical customer's at a moment, and why.
SELECT DISTINCT ON (a.meter_id) a.meter_id, c.why
  FROM unnest(%(meters)s::integer[]) AS a (meter_id)
  LEFT JOIN installations i ON i.meter_id = a.meter_id AND i.during @> %(at)s::timestamptz
  JOIN critical_customers c ON c.meter_id = a.meter_id OR c.point_id = i.point_id
 WHERE c.removed_at IS NULL AND (c.until IS NULL OR c.until > %(at)s)
 ORDER BY a.meter_id, c.critical_id;

-- name: add_critical
-- A critical customer.
INSERT INTO critical_customers (meter_id, point_id, why, until, actor)
VALUES (%(meter)s, %(point)s, %(why)s, %(until)s, %(actor)s)
RETURNING critical_id;

-- name: remove_critical
-- No longer one; nothing where it was none.
UPDATE critical_customers SET removed_at = clock_timestamp(), removed_by = %(actor)s
 WHERE critical_id = %(critical)s AND removed_at IS NULL
RETURNING critical_id;

-- name: list_critical
-- Critical customers that are not removed, by number.
SELECT c.critical_id, m.asset_id, p.code, c.why, c.until, c.actor, c.created_at
  FROM critical_customers c
  LEFT JOIN meters m ON m.meter_id = c.meter_id
  LEFT JOIN metering_points p ON p.point_id = c.point_id
 WHERE c.removed_at IS NULL AND c.critical_id > %(after)s
   AND (%(meter)s::integer IS NULL OR c.meter_id = %(meter)s
        OR c.point_id IN (SELECT point_id FROM installations WHERE meter_id = %(meter)s AND during @> now()))
 ORDER BY c.critical_id LIMIT %(limit)s;
