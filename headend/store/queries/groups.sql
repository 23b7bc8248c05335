-- name: add
-- A group; no row: the name is in use.
INSERT INTO meter_groups (name, title) VALUES (%(name)s, %(title)s) ON CONFLICT (name) DO NOTHING RETURNING group_id;

-- name: find
-- One group by name, with how many meters it has; cut to areas (NULL: not cut) as a page is.
SELECT group_id, name, title,
       (SELECT count(*) FROM group_members m WHERE m.group_id = g.group_id
           AND (%(within)s::integer[] IS NULL OR m.meter_id = ANY (%(within)s))), created_at, updated_at
  FROM meter_groups g
 WHERE name = %(name)s
   AND (%(within)s::integer[] IS NULL OR name = ANY (%(within_names)s::text[]) OR EXISTS (
        SELECT FROM group_members m WHERE m.group_id = g.group_id AND m.meter_id = ANY (%(within)s)));

-- name: lock
-- One group by name, kept to this transaction.
SELECT group_id FROM meter_groups WHERE name = %(name)s FOR UPDATE;

-- name: page
-- Groups after a name in order of names, with how many meters each has; filtered by a part of the name and by a member. Cut to areas (NULL: not cut): those that are areas, or have a meter there, and meters there alone.
SELECT group_id, name, title,
       (SELECT count(*) FROM group_members m WHERE m.group_id = g.group_id
           AND (%(within)s::integer[] IS NULL OR m.meter_id = ANY (%(within)s))), created_at, updated_at
  FROM meter_groups g
 WHERE (%(after)s::text IS NULL OR name > %(after)s)
   AND (%(q)s::text IS NULL OR position(lower(%(q)s) IN lower(name)) > 0)
   AND (%(meter)s::text IS NULL OR EXISTS (
        SELECT FROM group_members m JOIN meters USING (meter_id) WHERE m.group_id = g.group_id AND asset_id = %(meter)s
           AND (%(within)s::integer[] IS NULL OR m.meter_id = ANY (%(within)s))))
   AND (%(within)s::integer[] IS NULL OR name = ANY (%(within_names)s::text[]) OR EXISTS (
        SELECT FROM group_members m WHERE m.group_id = g.group_id AND m.meter_id = ANY (%(within)s)))
 ORDER BY name LIMIT %(limit)s;

-- name: retitle
-- What a group is for, in words.
UPDATE meter_groups SET title = %(title)s, updated_at = now() WHERE group_id = %(group)s;

-- name: remove
-- A group; its meters stay.
DELETE FROM meter_groups WHERE group_id = %(group)s;

-- name: used_by
-- Names of schedules that select by a group.
SELECT name FROM schedules WHERE plan -> 'selection' -> 'groups' @> to_jsonb(%(name)s::text) ORDER BY name;

-- name: unknown_meters
-- Names that no meter has, with their place in the list, in order.
SELECT t.place - 1, t.name FROM unnest(%(meters)s::text[]) WITH ORDINALITY AS t (name, place)
 WHERE NOT EXISTS (SELECT FROM meters WHERE asset_id = t.name) ORDER BY 1;

-- name: take_in
-- Meters into a group; how many were not in it.
INSERT INTO group_members (group_id, meter_id)
SELECT %(group)s, meter_id FROM meters WHERE asset_id = ANY (%(meters)s::text[]) ORDER BY meter_id
ON CONFLICT DO NOTHING;

-- name: take_out
-- Meters out of a group; how many were in it.
DELETE FROM group_members USING meters
 WHERE group_id = %(group)s AND group_members.meter_id = meters.meter_id AND asset_id = ANY (%(meters)s::text[]);

-- name: empty
-- All meters out of a group but these.
DELETE FROM group_members USING meters
 WHERE group_id = %(group)s AND group_members.meter_id = meters.meter_id AND asset_id <> ALL (%(meters)s::text[]);

-- name: touch
-- A group was changed.
UPDATE meter_groups SET updated_at = now() WHERE group_id = %(group)s;

-- name: members
-- Asset ids of a group's meters after one, in order; cut to areas (NULL: not cut).
SELECT asset_id FROM group_members JOIN meters USING (meter_id)
 WHERE group_id = %(group)s AND (%(after)s::text IS NULL OR asset_id > %(after)s)
   AND (%(within)s::integer[] IS NULL OR meter_id = ANY (%(within)s))
 ORDER BY asset_id LIMIT %(limit)s;

-- name: of_meter
-- Names of the groups that a meter is in.
SELECT name FROM meter_groups JOIN group_members USING (group_id) WHERE meter_id = %(meter)s ORDER BY name;
