-- name: insert
-- Keep events, once each; how many were new. What has no time of its own is the same again where a standing state was met within a day, or where the last that its source told within a minute was the same.
WITH made AS (
    INSERT INTO events (at, received_at, occurred_at, identity, batch_id, code, meter_id, duration_s, log, meaning,
                        source, node, text, standing)
    SELECT at, received_at, occurred_at, identity, %(batch_id)s, code, meter_id, duration_s, log, meaning,
           source, node, text, standing
    FROM unnest(%(at)s::timestamptz[], %(received_at)s::timestamptz[], %(occurred_at)s::timestamptz[],
                %(identities)s::uuid[], %(codes)s::bigint[], %(meters)s::integer[], %(durations)s::bigint[],
                %(logs)s::text[], %(meanings)s::text[], %(sources)s::text[], %(nodes)s::text[], %(texts)s::text[],
                %(standing)s::boolean[])
         AS g (at, received_at, occurred_at, identity, code, meter_id, duration_s, log, meaning, source, node, text,
               standing)
    WHERE g.occurred_at IS NOT NULL OR NOT EXISTS (
        SELECT FROM events s
        WHERE s.identity = g.identity AND s.at BETWEEN %(since)s AND %(until)s
          AND CASE WHEN g.standing THEN s.at BETWEEN g.at - interval '1 day' AND g.at + interval '1 day'
                   ELSE s.at BETWEEN g.at - interval '1 minute' AND g.at
                        AND NOT EXISTS (
                            SELECT FROM events b
                            WHERE b.meter_id IS NOT DISTINCT FROM g.meter_id AND b.node IS NOT DISTINCT FROM g.node
                              AND b.log = g.log AND b.source = g.source AND b.identity <> g.identity
                              AND b.occurred_at IS NULL AND b.at > s.at AND b.at <= g.at) END)
    ORDER BY identity, at
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM made;

-- name: page
-- Events of a half-open range by their time, filtered (NULL: all), newest first, from a cursor (time, identity) down.
SELECT e.at, e.identity, e.received_at, e.occurred_at, m.asset_id, e.node, e.log, e.meaning, e.code, e.duration_s,
       e.text, e.source, e.standing
  FROM events e
  LEFT JOIN meters m USING (meter_id)
 WHERE (%(since)s::timestamptz IS NULL OR e.at >= %(since)s) AND (%(until)s::timestamptz IS NULL OR e.at < %(until)s)
   AND (%(before_at)s::timestamptz IS NULL OR (e.at, e.identity) < (%(before_at)s, %(before_identity)s::uuid))
   AND (%(meter)s::integer IS NULL OR e.meter_id = %(meter)s)
   AND (%(node)s::text IS NULL OR e.node = %(node)s)
   AND (%(below_meters)s::integer[] IS NULL
        OR e.meter_id = ANY (%(below_meters)s) OR e.node = ANY (%(below_nodes)s::text[]))
   AND (%(meanings)s::text[] IS NULL OR e.meaning = ANY (%(meanings)s))
   AND (%(logs)s::text[] IS NULL OR e.log = ANY (%(logs)s))
   AND (%(within)s::integer[] IS NULL OR e.meter_id = ANY (%(within)s) OR (e.meter_id IS NULL AND e.node IN (
        SELECT code FROM network_nodes WHERE node_id = ANY (%(within_nodes)s::integer[]))))
 ORDER BY e.at DESC, e.identity DESC
 LIMIT %(limit)s;

-- name: arrived
-- Events that came since a moment, filtered as a page is, in the order in which they came.
SELECT e.at, e.identity, e.received_at, e.occurred_at, m.asset_id, e.node, e.log, e.meaning, e.code, e.duration_s,
       e.text, e.source, e.standing
  FROM events e
  LEFT JOIN meters m USING (meter_id)
 WHERE e.received_at >= %(arrived_since)s
   AND (%(meter)s::integer IS NULL OR e.meter_id = %(meter)s)
   AND (%(node)s::text IS NULL OR e.node = %(node)s)
   AND (%(below_meters)s::integer[] IS NULL
        OR e.meter_id = ANY (%(below_meters)s) OR e.node = ANY (%(below_nodes)s::text[]))
   AND (%(meanings)s::text[] IS NULL OR e.meaning = ANY (%(meanings)s))
   AND (%(logs)s::text[] IS NULL OR e.log = ANY (%(logs)s))
   AND (%(within)s::integer[] IS NULL OR e.meter_id = ANY (%(within)s) OR (e.meter_id IS NULL AND e.node IN (
        SELECT code FROM network_nodes WHERE node_id = ANY (%(within_nodes)s::integer[]))))
 ORDER BY e.received_at, e.at, e.identity
 LIMIT %(limit)s;

-- name: below
-- What stands below a node now, itself included: numbers of meters, and codes of nodes. OFFSET 0 and LIMIT 1 keep every step to the index. Meters may name their feeder and transformer themselves.
WITH RECURSIVE below (node_id) AS (
    SELECT node_id FROM network_nodes WHERE code = %(code)s
    UNION
    SELECT l.child
      FROM below
     CROSS JOIN LATERAL (SELECT child FROM network_links WHERE parent = below.node_id AND upper_inf(during) OFFSET 0) l
)
SELECT n.meter_id, n.code
  FROM below CROSS JOIN LATERAL (SELECT meter_id, code FROM network_nodes WHERE node_id = below.node_id LIMIT 1) n
UNION
SELECT meter_id, NULL FROM meters WHERE feeder = %(code)s OR transformer = %(code)s;

-- name: due
-- Commissioned meters with an address, of some models, or those among some numbers, with the moment until which their event logs were read (NULL: never).
SELECT m.meter_id, c.read_until
  FROM meters m
 CROSS JOIN LATERAL (SELECT state FROM meter_states
                      WHERE meter_id = m.meter_id ORDER BY since DESC LIMIT 1) s
  LEFT JOIN event_cursors c USING (meter_id)
 WHERE s.state = 'commissioned' AND m.address IS NOT NULL AND m.model = ANY (%(models)s::text[])
   AND (%(meters)s::integer[] IS NULL OR m.meter_id = ANY (%(meters)s))
 ORDER BY m.meter_id;

-- name: move_cursors
-- The event logs of some meters were read and stored up to these moments; a cursor never goes back.
INSERT INTO event_cursors (meter_id, read_until)
SELECT * FROM unnest(%(meters)s::integer[], %(untils)s::timestamptz[]) AS t (meter_id, read_until) ORDER BY meter_id
ON CONFLICT (meter_id) DO UPDATE SET read_until = greatest(event_cursors.read_until, excluded.read_until);

-- name: cursors
-- Until when the event logs of some meters were read.
SELECT meter_id, read_until FROM event_cursors WHERE meter_id = ANY (%(meters)s::integer[]);
