-- name: add
-- A new token by the digest of its secret.
INSERT INTO api_tokens (name, digest, scopes, expires_at, account_id)
VALUES (%(name)s, %(digest)s, %(scopes)s::text[], %(expires_at)s, %(account)s)
RETURNING token_id, created_at;

-- name: by_digest
-- A token that may be used now.
SELECT token_id, name, scopes, created_at, expires_at, revoked_at, last_used_at, account_id, digest
  FROM api_tokens
 WHERE digest = %(digest)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %(now)s);

-- name: of_digest
-- A token, whether it may be used or not.
SELECT token_id, name, scopes, created_at, expires_at, revoked_at, last_used_at, account_id
  FROM api_tokens WHERE digest = %(digest)s;

-- name: touch
-- Notes the use of a token, at most once a minute, and never waits for another who does the same.
UPDATE api_tokens SET last_used_at = %(now)s
 WHERE token_id = (SELECT token_id FROM api_tokens
                    WHERE token_id = %(token)s AND (last_used_at IS NULL OR last_used_at < %(now)s - interval '1 minute')
                      FOR UPDATE SKIP LOCKED);

-- name: all
-- All tokens, oldest first.
SELECT token_id, name, scopes, created_at, expires_at, revoked_at, last_used_at, account_id FROM api_tokens ORDER BY token_id;

-- name: get
-- One token.
SELECT token_id, name, scopes, created_at, expires_at, revoked_at, last_used_at, account_id
  FROM api_tokens WHERE token_id = %(token)s;

-- name: revoke
-- Ends a token; one that was revoked before keeps its time.
UPDATE api_tokens SET revoked_at = coalesce(revoked_at, %(now)s) WHERE token_id = %(token)s RETURNING token_id;
