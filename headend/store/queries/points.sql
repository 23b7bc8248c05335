-- name: add_many
-- Metering points by code; those that exist are left alone.
INSERT INTO metering_points (code) SELECT unnest(%(codes)s::text[]) ON CONFLICT (code) DO NOTHING;

-- name: find
-- Metering points by code.
SELECT code, point_id FROM metering_points WHERE code = ANY (%(codes)s::text[]);

-- name: page
-- Metering points after a code, in order of codes.
SELECT code, point_id FROM metering_points
 WHERE %(after)s::text IS NULL OR code > %(after)s
 ORDER BY code LIMIT %(limit)s;

-- name: install
-- A meter at a point from a moment on.
INSERT INTO installations (point_id, meter_id, during, start_registers)
VALUES (%(point)s, %(meter)s, tstzrange(%(since)s, NULL), %(registers)s)
RETURNING installation_id;

-- name: install_many
-- Meters at points from the same moment on, without start readings.
INSERT INTO installations (point_id, meter_id, during)
SELECT point, meter, tstzrange(%(since)s, NULL)
  FROM unnest(%(points)s::integer[], %(meters)s::integer[]) AS t (point, meter);

-- name: close
-- Ends the open installation of a meter with its removal readings.
UPDATE installations
   SET during = tstzrange(lower(during), %(until)s), removal_registers = %(registers)s
 WHERE meter_id = %(meter)s AND upper_inf(during) AND lower(during) < %(until)s
RETURNING point_id;

-- name: at_point
-- All installations at a point, oldest first.
SELECT installation_id, point_id, meter_id, lower(during), upper(during), start_registers, removal_registers
  FROM installations WHERE point_id = %(point)s ORDER BY during;

-- name: of_meters
-- All installations of meters, oldest first.
SELECT installation_id, point_id, meter_id, lower(during), upper(during), start_registers, removal_registers
  FROM installations WHERE meter_id = ANY (%(meters)s::integer[]) ORDER BY meter_id, during;

-- name: codes_now
-- Code of the point where each of these meters is installed at a moment.
SELECT i.meter_id, p.code
  FROM installations i JOIN metering_points p USING (point_id)
 WHERE i.meter_id = ANY (%(meters)s::integer[]) AND i.during @> %(at)s::timestamptz;

-- name: lock
-- Keeps a point's row to this transaction, so that its ratios are written one after another.
SELECT point_id FROM metering_points WHERE point_id = %(point)s FOR UPDATE;

-- name: end_ratio
-- Ends the ratio that is open at a point.
UPDATE transformer_ratios SET during = tstzrange(lower(during), %(since)s)
 WHERE point_id = %(point)s AND upper_inf(during) AND lower(during) < %(since)s;

-- name: add_ratio
-- A ratio of a point from a moment on, until a moment or open.
INSERT INTO transformer_ratios (point_id, during, ct_numerator, ct_denominator, vt_numerator, vt_denominator)
VALUES (%(point)s, tstzrange(%(since)s, %(until)s), %(ct_numerator)s, %(ct_denominator)s, %(vt_numerator)s,
        %(vt_denominator)s);

-- name: ratios
-- All ratios of a point, oldest first.
SELECT lower(during), upper(during), ct_numerator, ct_denominator, vt_numerator, vt_denominator
  FROM transformer_ratios WHERE point_id = %(point)s ORDER BY during;

-- name: codes_ever
-- Every point where these meters are or were.
SELECT DISTINCT i.meter_id, p.code
  FROM installations i JOIN metering_points p USING (point_id)
 WHERE i.meter_id = ANY (%(meters)s::integer[]);

-- name: occupied
-- Which of these points have a meter then or later, and which.
SELECT DISTINCT p.code, m.asset_id
  FROM metering_points p JOIN installations i USING (point_id) JOIN meters m USING (meter_id)
 WHERE p.code = ANY (%(codes)s::text[]) AND i.during && tstzrange(%(since)s, NULL);
