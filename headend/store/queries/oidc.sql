-- name: begin
-- A log-in that goes to the provider.
INSERT INTO oidc_logins (digest, binding, nonce, verifier, expires_at)
VALUES (%(state)s, %(binding)s, %(nonce)s, %(verifier)s, %(expires_at)s);

-- name: take
-- One that came back, once.
DELETE FROM oidc_logins WHERE digest = %(state)s AND expires_at > %(now)s RETURNING binding, nonce, verifier;

-- name: forget
-- Those that did not come back.
DELETE FROM oidc_logins WHERE expires_at < %(now)s;
