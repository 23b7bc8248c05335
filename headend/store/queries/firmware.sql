-- name: add
-- Store a package, unless it is there.
INSERT INTO firmware_packages (digest, manifest, key_id, data, actor)
VALUES (%(digest)s, %(manifest)s, %(key_id)s, %(data)s, %(actor)s)
ON CONFLICT DO NOTHING;

-- name: find
-- One package without its bytes.
SELECT digest, manifest, key_id, octet_length(data), actor, created_at FROM firmware_packages WHERE digest = %(digest)s;

-- name: all
-- All packages without their bytes, newest first.
SELECT digest, manifest, key_id, octet_length(data), actor, created_at FROM firmware_packages ORDER BY created_at DESC, digest;

-- name: data
-- The file of one package.
SELECT data FROM firmware_packages WHERE digest = %(digest)s;

-- name: note_version
-- What a meter showed at a time, unless its newest note says the same.
INSERT INTO meter_versions (meter_id, read_at, version, hardware)
SELECT %(meter)s, %(read_at)s, %(version)s, %(hardware)s
 WHERE NOT EXISTS (
    SELECT FROM (SELECT version, hardware FROM meter_versions WHERE meter_id = %(meter)s ORDER BY read_at DESC LIMIT 1) newest
     WHERE newest.version = %(version)s AND newest.hardware IS NOT DISTINCT FROM %(hardware)s)
ON CONFLICT (meter_id, read_at) DO NOTHING;

-- name: versions
-- What a meter showed, newest first.
SELECT read_at, version, hardware FROM meter_versions WHERE meter_id = %(meter)s ORDER BY read_at DESC LIMIT %(limit)s;

-- name: fleet
-- How many meters show which version now, by model.
SELECT m.model, v.version, count(*)
  FROM (SELECT DISTINCT ON (meter_id) meter_id, version FROM meter_versions ORDER BY meter_id, read_at DESC) v
  JOIN meters m USING (meter_id)
 GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2;
