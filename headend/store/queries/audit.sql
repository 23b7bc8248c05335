-- name: record
-- One line of who did what to what.
INSERT INTO audit_log (actor, action, object, detail) VALUES (%(actor)s, %(action)s, %(object)s, %(detail)s);

-- name: page
-- Entries before a number, newest first, of one object or of all.
SELECT audit_id, at, actor, action, object, detail
  FROM audit_log
 WHERE (%(object)s::text IS NULL OR object = %(object)s) AND (%(before)s::bigint IS NULL OR audit_id < %(before)s)
 ORDER BY audit_id DESC
 LIMIT %(limit)s;
