-- name: models_in_use
-- Models of the commissioned meters that can be dialled, each once.
SELECT DISTINCT m.model
  FROM meters m
 CROSS JOIN LATERAL (SELECT state FROM meter_states
                      WHERE meter_id = m.meter_id ORDER BY since DESC LIMIT 1) s
 WHERE s.state = 'commissioned' AND m.address IS NOT NULL
   AND (%(meters)s::integer[] IS NULL OR m.meter_id = ANY (%(meters)s))
 ORDER BY m.model;

-- name: due
-- For each commissioned meter that can be dialled: what of its model's wanted ranges no coverage tells of.
SELECT m.meter_id, w.profile, lower(missing), upper(missing)
  FROM unnest(%(models)s::text[], %(profiles)s::smallint[], %(since)s::timestamptz[], %(until)s::timestamptz[])
       AS w (model, profile, since, until)
  JOIN meters m ON m.model = w.model AND m.address IS NOT NULL
 CROSS JOIN LATERAL (SELECT state FROM meter_states
                      WHERE meter_id = m.meter_id ORDER BY meter_states.since DESC LIMIT 1) s
  LEFT JOIN coverage c ON c.meter_id = m.meter_id AND c.profile = w.profile
 CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(w.since, w.until)) - coalesce(c.covered, '{}')) AS missing
 WHERE s.state = 'commissioned'
   AND (%(meters)s::integer[] IS NULL OR m.meter_id = ANY (%(meters)s))
 ORDER BY m.meter_id, w.profile, lower(missing);

-- name: covered
-- What is covered of these meters, by profile and time.
SELECT c.meter_id, c.profile, lower(part), upper(part)
  FROM coverage c CROSS JOIN LATERAL unnest(c.covered) AS part
 WHERE c.meter_id = ANY (%(meters)s::integer[])
 ORDER BY c.meter_id, c.profile, lower(part);
