-- name: add_many
-- New meters in the order given; a name in use is a unique violation.
INSERT INTO meters (asset_id, model, system_title, logical_device_name, address, feeder, transformer)
SELECT * FROM unnest(%(asset_ids)s::text[], %(models)s::text[], %(titles)s::bytea[], %(names)s::text[],
                     %(addresses)s::text[], %(feeders)s::text[], %(transformers)s::text[])
RETURNING asset_id, meter_id;

-- name: add_state
-- A meter's new state from a moment on.
INSERT INTO meter_states (meter_id, state, since) VALUES (%(meter)s, %(state)s, %(since)s);

-- name: add_states
-- The same first state for many meters.
INSERT INTO meter_states (meter_id, state, since)
SELECT meter, %(state)s, %(since)s FROM unnest(%(meters)s::integer[]) AS meter;

-- name: lock
-- Keeps a meter's row to this transaction, so that its states are written one after another.
SELECT meter_id FROM meters WHERE meter_id = %(meter)s FOR UPDATE;

-- name: find
-- Meters by number, asset id, system title, logical device name or address (whichever lists are not empty), with their newest state.
SELECT m.meter_id, m.asset_id, m.model, m.system_title, m.logical_device_name, m.address, m.feeder, m.transformer,
       s.state, s.since, m.created_at, m.updated_at
  FROM meters m
 CROSS JOIN LATERAL (SELECT state, since FROM meter_states
                      WHERE meter_id = m.meter_id ORDER BY since DESC LIMIT 1) s
 WHERE m.meter_id = ANY (%(ids)s::integer[]) OR m.asset_id = ANY (%(asset_ids)s::text[])
    OR m.system_title = ANY (%(titles)s::bytea[]) OR m.logical_device_name = ANY (%(names)s::text[])
    OR m.address = ANY (%(addresses)s::text[])
 ORDER BY m.asset_id;

-- name: page
-- Meters after an asset id in order of asset ids, filtered, with their newest state.
SELECT m.meter_id, m.asset_id, m.model, m.system_title, m.logical_device_name, m.address, m.feeder, m.transformer,
       s.state, s.since, m.created_at, m.updated_at
  FROM meters m
 CROSS JOIN LATERAL (SELECT state, since FROM meter_states
                      WHERE meter_id = m.meter_id ORDER BY since DESC LIMIT 1) s
 WHERE (%(after)s::text IS NULL OR m.asset_id > %(after)s)
   AND (%(model)s::text IS NULL OR m.model = %(model)s)
   AND (%(feeder)s::text IS NULL OR m.feeder = %(feeder)s)
   AND (%(transformer)s::text IS NULL OR m.transformer = %(transformer)s)
   AND (%(state)s::text IS NULL OR s.state = %(state)s)
   AND (%(q)s::text IS NULL OR position(lower(%(q)s) IN lower(m.asset_id)) > 0
        OR position(lower(%(q)s) IN lower(m.logical_device_name)) > 0)
   AND (%(within)s::integer[] IS NULL OR m.meter_id = ANY (%(within)s::integer[]))
 ORDER BY m.asset_id
 LIMIT %(limit)s;

-- name: states
-- The life of a meter, oldest state first.
SELECT state, since FROM meter_states WHERE meter_id = %(meter)s ORDER BY since;

-- name: learn_identity
-- What an authenticated exchange proved: fills what was empty, never replaces what is there.
UPDATE meters
   SET system_title = coalesce(system_title, %(title)s::bytea),
       logical_device_name = coalesce(logical_device_name, %(name)s::text),
       updated_at = now()
 WHERE meter_id = %(meter)s
RETURNING system_title, logical_device_name;

-- name: touch
-- Its record is of now: what processes remember of the meter is asked for again.
UPDATE meters SET updated_at = clock_timestamp() WHERE meter_id = %(meter)s;

-- name: set_address
-- Where the head-end reaches a meter; NULL: nowhere.
UPDATE meters SET address = %(address)s, updated_at = now() WHERE meter_id = %(meter)s RETURNING meter_id;
