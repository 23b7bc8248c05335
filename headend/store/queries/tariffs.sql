-- name: lock
-- One writer at a time for one meter's history.
SELECT pg_advisory_xact_lock(24, %(meter)s);

-- name: calendar
-- The number of a calendar, stored where it is new.
WITH made AS (
    INSERT INTO tariff_calendars (digest, name, content) VALUES (%(digest)s, %(name)s, %(content)s)
    ON CONFLICT (digest) DO NOTHING RETURNING calendar_id
)
SELECT calendar_id FROM made UNION ALL SELECT calendar_id FROM tariff_calendars WHERE digest = %(digest)s LIMIT 1;

-- name: newest
-- What the meter had last.
SELECT calendar_id, campaign_id, lower(during) FROM meter_tariffs WHERE meter_id = %(meter)s
ORDER BY lower(during) DESC LIMIT 1;

-- name: claim
-- What was found in the meter is what a campaign brought.
UPDATE meter_tariffs SET campaign_id = %(campaign)s
WHERE meter_id = %(meter)s AND upper_inf(during) AND campaign_id IS NULL;

-- name: forget_after
-- What was found from a moment on is known better now.
DELETE FROM meter_tariffs WHERE meter_id = %(meter)s AND lower(during) >= %(at)s;

-- name: close
-- What held at a moment held until then.
UPDATE meter_tariffs SET during = tstzrange(lower(during), %(at)s) WHERE meter_id = %(meter)s AND during @> %(at)s::timestamptz;

-- name: add
-- From a moment on the meter has this calendar.
INSERT INTO meter_tariffs (meter_id, during, calendar_id, campaign_id, is_exact)
VALUES (%(meter)s, tstzrange(%(at)s, NULL), %(calendar)s, %(campaign)s, %(exact)s);

-- name: history
-- What a meter had, newest first; at a moment where one is given.
SELECT lower(t.during), upper(t.during), t.is_exact, c.name, c.content, t.campaign_id, p.program_id, p.name, p.content
FROM meter_tariffs t JOIN tariff_calendars c USING (calendar_id)
LEFT JOIN campaigns USING (campaign_id) LEFT JOIN programs p USING (program_id)
WHERE t.meter_id = %(meter)s AND (%(at)s::timestamptz IS NULL OR t.during @> %(at)s::timestamptz)
ORDER BY lower(t.during) DESC LIMIT %(limit)s;
