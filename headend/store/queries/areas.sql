-- name: within
-- Numbers of the meters and of the nodes that some groups have, and that stand at or below some stations, now. OFFSET 0 and LIMIT 1 keep every step to the index.
WITH RECURSIVE down (node_id) AS (
    SELECT node_id FROM network_nodes
     WHERE code = ANY (%(areas)s::text[]) AND kind IN ('concentrator', 'gateway', 'substation')
    UNION
    SELECT l.child
      FROM down
     CROSS JOIN LATERAL (SELECT child FROM network_links WHERE parent = down.node_id AND upper_inf(during) OFFSET 0) l
)
SELECT n.meter_id, down.node_id
  FROM down CROSS JOIN LATERAL (SELECT meter_id FROM network_nodes WHERE node_id = down.node_id LIMIT 1) n
UNION
SELECT m.meter_id, n.node_id
  FROM meter_groups g JOIN group_members m USING (group_id)
  LEFT JOIN network_nodes n ON n.meter_id = m.meter_id
 WHERE g.name = ANY (%(areas)s::text[]);
