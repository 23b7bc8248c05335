-- name: lock
-- Keeps changes of the network's shape to one transaction at a time, so that no two together make a circle.
SELECT pg_advisory_xact_lock(1313166420);

-- name: meters_named
-- Numbers of meters by asset id.
SELECT asset_id, meter_id FROM meters WHERE asset_id = ANY (%(codes)s::text[]);

-- name: asset_ids
-- Asset ids of meters by number.
SELECT asset_id, meter_id FROM meters WHERE meter_id = ANY (%(meters)s::integer[]);

-- name: via_addresses
-- Addresses of those of these meters that are reached through their concentrator.
SELECT meter_id, asset_id, address FROM meters
 WHERE meter_id = ANY (%(meters)s::integer[]) AND starts_with(address, 'via:') ORDER BY meter_id;

-- name: add_nodes
-- New nodes; a code or meter in use is a unique violation.
INSERT INTO network_nodes (code, kind, meter_id, model, address, title)
SELECT * FROM unnest(%(codes)s::text[], %(kinds)s::text[], %(meters)s::integer[], %(models)s::text[],
                     %(addresses)s::text[], %(titles)s::text[])
RETURNING code, node_id;

-- name: update_nodes
-- Model, address and title of nodes; NULL says nothing.
UPDATE network_nodes n
   SET model = coalesce(w.model, n.model), address = coalesce(w.address, n.address),
       title = coalesce(w.title, n.title), updated_at = now()
  FROM unnest(%(nodes)s::integer[], %(models)s::text[], %(addresses)s::text[], %(titles)s::text[])
       AS w (node_id, model, address, title)
 WHERE n.node_id = w.node_id;

-- name: find
-- Nodes by number, code or meter (whichever lists are not empty), with the link they hang on.
SELECT n.node_id, n.code, n.kind, n.meter_id, n.model, n.address, n.title,
       l.parent, p.code, l.link, l.hops, l.quality, lower(l.during)
  FROM network_nodes n
  LEFT JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
  LEFT JOIN network_nodes p ON p.node_id = l.parent
 WHERE n.node_id = ANY (%(nodes)s::integer[]) OR n.code = ANY (%(codes)s::text[])
    OR n.meter_id = ANY (%(meters)s::integer[]);

-- name: page
-- Nodes after a code in order of codes, filtered by kind and parent, of those that are seen (NULL: all), with the link they hang on.
SELECT n.node_id, n.code, n.kind, n.meter_id, n.model, n.address, n.title,
       l.parent, p.code, l.link, l.hops, l.quality, lower(l.during)
  FROM network_nodes n
  LEFT JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
  LEFT JOIN network_nodes p ON p.node_id = l.parent
 WHERE (%(after)s::text IS NULL OR n.code > %(after)s)
   AND (%(kind)s::text IS NULL OR n.kind = %(kind)s)
   AND (%(parent)s::integer IS NULL OR l.parent = %(parent)s)
   AND (%(seen)s::integer[] IS NULL OR n.node_id = ANY (%(seen)s))
 ORDER BY n.code
 LIMIT %(limit)s;

-- name: later
-- Of these nodes those whose link began at a moment or later: they cannot move then. Locks the links of all, in order.
WITH mine AS MATERIALIZED (
    SELECT child, lower(during) AS since FROM network_links
     WHERE child = ANY (%(children)s::integer[]) AND upper_inf(during) ORDER BY child FOR UPDATE
)
SELECT child FROM mine WHERE since >= %(at)s;

-- name: close_links
-- Ends the links of nodes.
UPDATE network_links SET during = tstzrange(lower(during), %(at)s)
 WHERE child = ANY (%(children)s::integer[]) AND upper_inf(during);

-- name: open_links
-- New links from a moment on.
INSERT INTO network_links (child, parent, link, hops, quality, during)
SELECT child, parent, link, hops, quality, tstzrange(%(at)s, NULL)
  FROM unnest(%(children)s::integer[], %(parents)s::integer[], %(links)s::text[], %(hops)s::smallint[],
              %(qualities)s::smallint[]) AS w (child, parent, link, hops, quality);

-- name: measure_links
-- What was measured of the links that nodes hang on; NULL says nothing. In order, so that two never wait in a ring.
WITH mine AS MATERIALIZED (
    SELECT link_id, child FROM network_links
     WHERE child = ANY (%(children)s::integer[]) AND upper_inf(during) ORDER BY child FOR UPDATE
)
UPDATE network_links l
   SET hops = coalesce(w.hops, l.hops), quality = coalesce(w.quality, l.quality)
  FROM mine JOIN unnest(%(children)s::integer[], %(hops)s::smallint[], %(qualities)s::smallint[])
       AS w (child, hops, quality) USING (child)
 WHERE l.link_id = mine.link_id;

-- name: lineage
-- Every link on the way up from these nodes: child and parent.
WITH RECURSIVE up (child, parent) AS (
    SELECT child, parent FROM network_links WHERE child = ANY (%(nodes)s::integer[]) AND upper_inf(during)
    UNION
    SELECT l.child, l.parent FROM up JOIN network_links l ON l.child = up.parent AND upper_inf(l.during)
)
SELECT child, parent FROM up;

-- name: meters_below
-- Numbers of the meters at or below these nodes. OFFSET 0 and LIMIT 1 keep every step to the index.
WITH RECURSIVE down (node_id) AS (
    SELECT unnest(%(nodes)s::integer[])
    UNION
    SELECT l.child
      FROM down
     CROSS JOIN LATERAL (SELECT child FROM network_links WHERE parent = down.node_id AND upper_inf(during) OFFSET 0) l
)
SELECT n.meter_id
  FROM down CROSS JOIN LATERAL (SELECT meter_id FROM network_nodes WHERE node_id = down.node_id LIMIT 1) n
 WHERE n.meter_id IS NOT NULL ORDER BY 1;

-- name: places
-- Where meters stand: nearest station with the hops to it, the last link, transformer and feeder. The way up is walked
-- once for each parent, not for each meter; LIMIT 1 keeps every step of it to the index.
WITH RECURSIVE own AS (
    SELECT n.meter_id, l.parent, l.link, l.hops, l.quality
      FROM network_nodes n JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
     WHERE n.meter_id = ANY (%(meters)s::integer[])
), up (start, node_id, level, hops, station, transformer, feeder) AS (
    SELECT node_id, node_id, 0, 0,
           CASE WHEN kind IN ('concentrator', 'gateway') THEN node_id END,
           CASE WHEN kind = 'transformer' THEN code END,
           CASE WHEN kind = 'feeder' THEN code END
      FROM network_nodes WHERE node_id IN (SELECT parent FROM own)
    UNION ALL
    SELECT up.start, p.node_id, up.level + 1,
           CASE WHEN up.station IS NULL THEN up.hops + l.hops ELSE up.hops END,
           coalesce(up.station, CASE WHEN p.kind IN ('concentrator', 'gateway') THEN p.node_id END),
           coalesce(up.transformer, CASE WHEN p.kind = 'transformer' THEN p.code END),
           coalesce(up.feeder, CASE WHEN p.kind = 'feeder' THEN p.code END)
      FROM up
     CROSS JOIN LATERAL (SELECT parent, hops FROM network_links
                          WHERE child = up.node_id AND upper_inf(during) LIMIT 1) l
     CROSS JOIN LATERAL (SELECT node_id, kind, code FROM network_nodes WHERE node_id = l.parent LIMIT 1) p
), top AS (
    SELECT DISTINCT ON (start) * FROM up ORDER BY start, level DESC
)
SELECT own.meter_id, s.node_id, s.code, s.address, s.model, own.link,
       CASE WHEN s.node_id IS NULL THEN 1 ELSE own.hops + top.hops END, own.quality, top.transformer, top.feeder
  FROM own
  JOIN top ON top.start = own.parent
  LEFT JOIN network_nodes s ON s.node_id = top.station;

-- name: place_meters
-- Feeder and transformer of meters as the network has them; where it does not know, what is stored stays.
UPDATE meters m
   SET feeder = coalesce(w.feeder, m.feeder), transformer = coalesce(w.transformer, m.transformer), updated_at = now()
  FROM unnest(%(meters)s::integer[], %(feeders)s::text[], %(transformers)s::text[]) AS w (meter_id, feeder, transformer)
 WHERE m.meter_id = w.meter_id
   AND (coalesce(w.feeder, m.feeder), coalesce(w.transformer, m.transformer)) IS DISTINCT FROM (m.feeder, m.transformer);

-- name: stations
-- All concentrators and gateways, in order of codes.
SELECT node_id, code, kind, meter_id, model, address, title
  FROM network_nodes WHERE kind IN ('concentrator', 'gateway') ORDER BY code;

-- name: history
-- All links that a node hung on, oldest first.
SELECT l.parent, p.code, l.link, l.hops, l.quality, lower(l.during), upper(l.during)
  FROM network_links l JOIN network_nodes p ON p.node_id = l.parent
 WHERE l.child = %(node)s ORDER BY l.during;

-- name: tree
-- Nodes at and below a root (NULL: all roots) down to a depth, of those that are seen (NULL: all), parents first, with the link they hang on.
WITH RECURSIVE down (node_id, level) AS (
    SELECT node_id, 0 FROM network_nodes n
     WHERE CASE WHEN %(root)s::integer IS NULL
                THEN NOT EXISTS (SELECT FROM network_links l WHERE l.child = n.node_id AND upper_inf(l.during))
                ELSE node_id = %(root)s END
       AND (%(seen)s::integer[] IS NULL OR node_id = ANY (%(seen)s))
    UNION ALL
    SELECT l.child, down.level + 1
      FROM down JOIN network_links l ON l.parent = down.node_id AND upper_inf(l.during)
     WHERE (%(depth)s::integer IS NULL OR down.level < %(depth)s)
       AND (%(seen)s::integer[] IS NULL OR l.child = ANY (%(seen)s))
)
SELECT n.node_id, n.code, n.kind, n.meter_id, n.model, n.address, n.title,
       l.parent, p.code, l.link, l.hops, l.quality, lower(l.during)
  FROM down
  JOIN network_nodes n USING (node_id)
  LEFT JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
  LEFT JOIN network_nodes p ON p.node_id = l.parent
 ORDER BY down.level, n.code
 LIMIT %(limit)s;

-- name: counts
-- How many nodes of each kind, of those that are seen (NULL: all), are below the deepest nodes of a tree.
WITH RECURSIVE down (node_id, level, edge) AS (
    SELECT node_id, 0, node_id FROM network_nodes n
     WHERE CASE WHEN %(root)s::integer IS NULL
                THEN NOT EXISTS (SELECT FROM network_links l WHERE l.child = n.node_id AND upper_inf(l.during))
                ELSE node_id = %(root)s END
       AND (%(seen)s::integer[] IS NULL OR node_id = ANY (%(seen)s))
    UNION ALL
    SELECT l.child, down.level + 1, CASE WHEN down.level < %(depth)s THEN l.child ELSE down.edge END
      FROM down JOIN network_links l ON l.parent = down.node_id AND upper_inf(l.during)
     WHERE %(seen)s::integer[] IS NULL OR l.child = ANY (%(seen)s)
)
SELECT down.edge, n.kind, count(*) FROM down JOIN network_nodes n USING (node_id)
 WHERE down.level > %(depth)s GROUP BY 1, 2;

-- name: nowhere
-- How many meters that are not removed have no place in the network; a concentrator may be among the meters for its keys.
SELECT count(*) FROM meters m
 WHERE NOT EXISTS (SELECT FROM network_nodes n JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
                    WHERE n.meter_id = m.meter_id)
   AND NOT EXISTS (SELECT FROM network_nodes n WHERE n.code = m.asset_id AND n.kind <> 'meter')
   AND (SELECT state FROM meter_states s WHERE s.meter_id = m.meter_id ORDER BY since DESC LIMIT 1) <> 'removed';

-- name: delivered
-- Meters by the kind of link they hang on (NULL: none is told) and by model: how many there are, how many of them gave
-- intervals that begin at or after a moment, and how many intervals those are.
SELECT l.link, m.model, count(*), count(r.meter_id), coalesce(sum(r.intervals), 0)::bigint
  FROM meters m
  LEFT JOIN network_nodes n ON n.meter_id = m.meter_id
  LEFT JOIN network_links l ON l.child = n.node_id AND upper_inf(l.during)
  LEFT JOIN (SELECT meter_id, count(*) AS intervals FROM interval_reads WHERE start >= %(since)s GROUP BY meter_id) r
    ON r.meter_id = m.meter_id
 GROUP BY l.link, m.model
 ORDER BY l.link NULLS FIRST, m.model;
