-- name: meters
-- Commissioned meters at a moment that meet every condition (NULL: none is made). Concentrators that are among the meters for their keys are none. Never prepared: a generic plan would go through long lists for each meter, and so would subqueries that are too large for a hash.
WITH tag AS (
    SELECT split_part(told, '=', 1) AS key, CASE WHEN strpos(told, '=') > 0 THEN substr(told, strpos(told, '=') + 1) END AS value
      FROM unnest(%(tags)s::text[]) AS told
)
SELECT m.meter_id
  FROM meters m
 CROSS JOIN LATERAL (SELECT state FROM meter_states
                      WHERE meter_id = m.meter_id AND since <= %(at)s ORDER BY since DESC LIMIT 1) s
  LEFT JOIN (SELECT DISTINCT meter_id FROM group_members JOIN meter_groups USING (group_id)
              WHERE name = ANY (%(groups)s::text[])) grouped ON grouped.meter_id = m.meter_id
  LEFT JOIN (SELECT DISTINCT meter_id FROM meter_tags JOIN tag USING (key)
              WHERE tag.value IS NULL OR tag.value = meter_tags.value) tagged ON tagged.meter_id = m.meter_id
 WHERE s.state = 'commissioned'
   AND NOT EXISTS (SELECT FROM network_nodes n WHERE n.code = m.asset_id AND n.kind IN ('concentrator', 'gateway'))
   AND (%(meters)s::text[] IS NULL OR m.asset_id = ANY (%(meters)s::text[]))
   AND (%(models)s::text[] IS NULL OR m.model = ANY (%(models)s::text[]))
   AND (%(feeders)s::text[] IS NULL OR m.feeder = ANY (%(feeders)s::text[]))
   AND (%(transformers)s::text[] IS NULL OR m.transformer = ANY (%(transformers)s::text[]))
   AND (%(pattern)s::text IS NULL OR m.asset_id LIKE %(pattern)s::text)
   AND (%(groups)s::text[] IS NULL OR grouped.meter_id IS NOT NULL)
   AND (%(tags)s::text[] IS NULL OR tagged.meter_id IS NOT NULL)
   AND (%(below)s::integer[] IS NULL OR m.meter_id = ANY (%(below)s::integer[]))
 ORDER BY m.meter_id;

-- name: nodes
-- Numbers of concentrators, gateways and substations by code.
SELECT node_id FROM network_nodes WHERE code = ANY (%(codes)s::text[]) AND kind IN ('concentrator', 'gateway', 'substation');

-- name: stations
-- Concentrators and gateways with an address, by number, with their model, that meet every condition (NULL: none is made); the places are walked up once for each.
WITH RECURSIVE up (node_id, above) AS (
    SELECT node_id, node_id FROM network_nodes WHERE kind IN ('concentrator', 'gateway')
    UNION ALL
    SELECT up.node_id, l.parent
      FROM up
     CROSS JOIN LATERAL (SELECT parent FROM network_links WHERE child = up.above AND upper_inf(during) LIMIT 1) l
), place AS (
    SELECT up.node_id, p.code, p.kind FROM up JOIN network_nodes p ON p.node_id = up.above
)
SELECT n.node_id, n.model
  FROM network_nodes n
 WHERE n.kind IN ('concentrator', 'gateway') AND n.address IS NOT NULL AND n.model IS NOT NULL
   AND (%(meters)s::text[] IS NULL OR n.code = ANY (%(meters)s))
   AND (%(models)s::text[] IS NULL OR n.model = ANY (%(models)s))
   AND (%(pattern)s::text IS NULL OR n.code LIKE %(pattern)s)
   AND (%(feeders)s::text[] IS NULL OR EXISTS (
        SELECT FROM place p WHERE p.node_id = n.node_id AND p.kind = 'feeder' AND p.code = ANY (%(feeders)s)))
   AND (%(transformers)s::text[] IS NULL OR EXISTS (
        SELECT FROM place p WHERE p.node_id = n.node_id AND p.kind = 'transformer' AND p.code = ANY (%(transformers)s)))
   AND (%(stations)s::text[] IS NULL OR EXISTS (
        SELECT FROM place p WHERE p.node_id = n.node_id AND p.code = ANY (%(stations)s)))
 ORDER BY n.node_id;

-- name: unknown
-- Names of a selection that nobody has, each with its list and its place in it, in order.
SELECT 'meters', t.place - 1, t.name FROM unnest(%(meters)s::text[]) WITH ORDINALITY AS t (name, place)
 WHERE NOT EXISTS (SELECT FROM meters WHERE asset_id = t.name)
   AND NOT EXISTS (SELECT FROM network_nodes WHERE code = t.name AND kind IN ('concentrator', 'gateway'))
UNION ALL
SELECT 'groups', t.place - 1, t.name FROM unnest(%(groups)s::text[]) WITH ORDINALITY AS t (name, place)
 WHERE NOT EXISTS (SELECT FROM meter_groups g WHERE g.name = t.name)
UNION ALL
SELECT 'tags', t.place - 1, t.name FROM unnest(%(tags)s::text[]) WITH ORDINALITY AS t (name, place)
 WHERE NOT EXISTS (SELECT FROM meter_tags WHERE key = split_part(t.name, '=', 1)
                      AND (strpos(t.name, '=') = 0 OR value = substr(t.name, strpos(t.name, '=') + 1)))
UNION ALL
SELECT 'feeders', t.place - 1, t.name FROM unnest(%(feeders)s::text[]) WITH ORDINALITY AS t (name, place)
 WHERE NOT EXISTS (SELECT FROM network_nodes WHERE code = t.name AND kind = 'feeder')
   AND NOT EXISTS (SELECT FROM meters WHERE feeder = t.name)
UNION ALL
SELECT 'transformers', t.place - 1, t.name FROM unnest(%(transformers)s::text[]) WITH ORDINALITY AS t (name, place)
 WHERE NOT EXISTS (SELECT FROM network_nodes WHERE code = t.name AND kind = 'transformer')
   AND NOT EXISTS (SELECT FROM meters WHERE transformer = t.name)
UNION ALL
SELECT 'stations', t.place - 1, t.name FROM unnest(%(stations)s::text[]) WITH ORDINALITY AS t (name, place)
 WHERE NOT EXISTS (SELECT FROM network_nodes WHERE code = t.name AND kind IN ('concentrator', 'gateway', 'substation'))
ORDER BY 1, 2;

-- name: used_models
-- Models of our meters.
SELECT DISTINCT model FROM meters ORDER BY model;
