-- name: add
-- A schedule; a name in use is a unique violation.
INSERT INTO schedules (name, enabled, built_in, plan, next_at)
VALUES (%(name)s, %(enabled)s, %(built_in)s, %(plan)s, %(next_at)s)
RETURNING schedule_id, name, enabled, built_in, plan, version, next_at, last_at, created_at, updated_at;

-- name: find
-- Schedules by name, within areas (NULL: all) as in a page.
SELECT schedule_id, name, enabled, built_in, plan, version, next_at, last_at, created_at, updated_at
  FROM schedules
 WHERE name = %(name)s
   AND (%(within)s::integer[] IS NULL
        OR (plan -> 'selection' -> 'groups' <> '[]' AND plan -> 'selection' -> 'groups' <@ to_jsonb(%(within_names)s::text[]))
        OR (plan -> 'selection' -> 'stations' <> '[]' AND NOT EXISTS (
            SELECT FROM jsonb_array_elements_text(plan -> 'selection' -> 'stations') AS named
             WHERE NOT EXISTS (SELECT FROM network_nodes
                                WHERE code = named AND node_id = ANY (%(within_nodes)s::integer[]))))
        OR (plan -> 'selection' -> 'meters' <> '[]' AND NOT EXISTS (
            SELECT FROM jsonb_array_elements_text(plan -> 'selection' -> 'meters') AS named
             WHERE NOT EXISTS (SELECT FROM meters WHERE asset_id = named AND meter_id = ANY (%(within)s))
               AND NOT EXISTS (SELECT FROM network_nodes
                                WHERE code = named AND node_id = ANY (%(within_nodes)s::integer[])))));

-- name: lock
-- One schedule by name, kept to this transaction.
SELECT schedule_id, name, enabled, built_in, plan, version, next_at, last_at, created_at, updated_at
  FROM schedules WHERE name = %(name)s FOR UPDATE;

-- name: page
-- Schedules after a name in order of names, filtered. Within areas (NULL: all) are those of which all groups, all stations or all meters that are named are: one list is enough, as every list has to fit.
SELECT schedule_id, name, enabled, built_in, plan, version, next_at, last_at, created_at, updated_at
  FROM schedules
 WHERE (%(after)s::text IS NULL OR name > %(after)s)
   AND (%(enabled)s::boolean IS NULL OR enabled = %(enabled)s)
   AND (%(group)s::text IS NULL OR plan -> 'selection' -> 'groups' @> to_jsonb(%(group)s::text))
   AND (%(q)s::text IS NULL OR position(lower(%(q)s) IN lower(name)) > 0)
   AND (%(within)s::integer[] IS NULL
        OR (plan -> 'selection' -> 'groups' <> '[]' AND plan -> 'selection' -> 'groups' <@ to_jsonb(%(within_names)s::text[]))
        OR (plan -> 'selection' -> 'stations' <> '[]' AND NOT EXISTS (
            SELECT FROM jsonb_array_elements_text(plan -> 'selection' -> 'stations') AS named
             WHERE NOT EXISTS (SELECT FROM network_nodes
                                WHERE code = named AND node_id = ANY (%(within_nodes)s::integer[]))))
        OR (plan -> 'selection' -> 'meters' <> '[]' AND NOT EXISTS (
            SELECT FROM jsonb_array_elements_text(plan -> 'selection' -> 'meters') AS named
             WHERE NOT EXISTS (SELECT FROM meters WHERE asset_id = named AND meter_id = ANY (%(within)s))
               AND NOT EXISTS (SELECT FROM network_nodes
                                WHERE code = named AND node_id = ANY (%(within_nodes)s::integer[])))))
 ORDER BY name LIMIT %(limit)s;

-- name: change
-- What a schedule shall be from now on; a name in use is a unique violation.
UPDATE schedules
   SET name = %(name)s, enabled = %(enabled)s, plan = %(plan)s, next_at = %(next_at)s,
       version = version + 1, updated_at = now()
 WHERE schedule_id = %(schedule_id)s
RETURNING schedule_id, name, enabled, built_in, plan, version, next_at, last_at, created_at, updated_at;

-- name: remove
-- One schedule; its jobs stay.
DELETE FROM schedules WHERE schedule_id = %(schedule_id)s;

-- name: due
-- Numbers of schedules whose next run has come, the longest waiting first.
SELECT schedule_id FROM schedules WHERE enabled AND next_at <= %(now)s ORDER BY next_at, schedule_id;

-- name: lock_due
-- One schedule, if it is still due and nobody else is at it.
SELECT schedule_id, name, enabled, built_in, plan, version, next_at, last_at, created_at, updated_at
  FROM schedules
 WHERE schedule_id = %(schedule_id)s AND enabled AND next_at <= %(now)s
   FOR UPDATE SKIP LOCKED;

-- name: advance
-- The next run of a schedule, and the newest that became a job (NULL: none did).
UPDATE schedules SET next_at = %(next_at)s, last_at = coalesce(%(last_at)s, last_at) WHERE schedule_id = %(schedule_id)s;
