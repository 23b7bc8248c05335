-- name: add
-- Store a program, unless one of the same content is there; its number either way.
INSERT INTO programs (kind, name, content, digest, actor)
VALUES (%(kind)s, %(name)s, %(content)s, %(digest)s, %(actor)s)
ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest
RETURNING program_id;

-- name: find
-- One program by its number.
SELECT program_id, kind, name, content, digest, actor, created_at FROM programs WHERE program_id = %(program)s;

-- name: page
-- Programs below a number, newest first, of one kind or of all.
SELECT program_id, kind, name, content, digest, actor, created_at FROM programs
 WHERE (%(before)s::bigint IS NULL OR program_id < %(before)s) AND (%(kind)s::text IS NULL OR kind = %(kind)s)
 ORDER BY program_id DESC LIMIT %(limit)s;
