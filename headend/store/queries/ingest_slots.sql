-- name: ensure
-- A row for each slot of the settings.
INSERT INTO ingest_slots (slot) SELECT unnest(%(slots)s::text[]) ON CONFLICT DO NOTHING;

-- name: take
-- One slot whose lease has ended, for this holder. A slot whose holder is just writing is passed over. One that left the settings is taken as long as its session is subscribed to anything.
UPDATE ingest_slots
   SET holder = %(holder)s, fence = fence + 1, expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE slot = (SELECT slot FROM ingest_slots WHERE (slot = ANY (%(slots)s) OR filters <> '{}') AND expires_at < clock_timestamp()
                ORDER BY expires_at, slot LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING slot, fence, filters;

-- name: hold
-- Renew a lease, and lock it until the transaction ends. No row: somebody else has taken the slot. A lease that ended without being taken is still ours.
UPDATE ingest_slots SET expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE slot = %(slot)s AND fence = %(fence)s RETURNING slot;

-- name: give_back
-- End a lease now.
UPDATE ingest_slots SET expires_at = '-infinity', holder = NULL WHERE slot = %(slot)s AND fence = %(fence)s;

-- name: subscribed
-- Remember what the session is subscribed to.
UPDATE ingest_slots SET filters = %(filters)s WHERE slot = %(slot)s AND fence = %(fence)s;

-- name: all
-- Every slot, for people.
SELECT slot, holder, fence, expires_at > clock_timestamp(), filters FROM ingest_slots ORDER BY slot;
