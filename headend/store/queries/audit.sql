-- name: record
-- One line of who did what to what.
INSERT INTO audit_log (actor, action, object, detail) VALUES (%(actor)s, %(action)s, %(object)s, %(detail)s);

-- name: page
-- Entries before a number, newest first, of one object or of all.
SELECT audit_id, at, actor, action, object, detail
  FROM audit_log
 WHERE (%(object)s::text IS NULL OR object = %(object)s) AND (%(actor)s::text IS NULL OR actor = %(actor)s)
   AND (%(before)s::bigint IS NULL OR audit_id < %(before)s)
 ORDER BY audit_id DESC
 LIMIT %(limit)s;

-- name: head
-- The end of the chain.
SELECT position, hash FROM audit_head;

-- name: chain
-- Links of the chain behind a position, each with its entry as text; without one where it is gone.
SELECT c.position, c.audit_id, c.hash,
       CASE WHEN l.audit_id IS NOT NULL THEN
           jsonb_build_array(c.position, l.audit_id, to_char(l.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
                             l.actor, l.action, l.object, l.detail)::text END
  FROM audit_chain c LEFT JOIN audit_log l USING (audit_id)
 WHERE c.position > %(after)s ORDER BY c.position LIMIT %(limit)s;

-- name: unchained
-- Entries that stand nowhere in the chain.
SELECT audit_id FROM audit_log l
 WHERE NOT EXISTS (SELECT FROM audit_chain c WHERE c.audit_id = l.audit_id) ORDER BY audit_id LIMIT %(limit)s;

-- name: seals
-- All seals, in order.
SELECT position, hash, seal, at FROM audit_seals ORDER BY position;

-- name: seal
-- The end of the chain, sealed; nothing where it was sealed there.
INSERT INTO audit_seals (position, hash, seal) VALUES (%(position)s, %(hash)s, %(seal)s) ON CONFLICT (position) DO NOTHING;

-- name: one_state
-- What this transaction sees is one state.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
