-- name: add
-- A new account; none where the login is in use.
INSERT INTO accounts (login, title, password, password_at, must_change, oidc_issuer, oidc_subject)
VALUES (%(login)s, %(title)s, %(password)s, CASE WHEN %(password)s::text IS NULL THEN NULL ELSE %(now)s::timestamptz END,
        %(must_change)s, %(issuer)s, %(subject)s)
ON CONFLICT DO NOTHING
RETURNING account_id;

-- name: find
-- Accounts by number, login, or identity at a provider, each with its roles as 'role' or 'role:area'.
SELECT a.account_id, a.login, a.title, a.state, a.password IS NOT NULL, a.must_change, a.totp_since, a.oidc_issuer, a.oidc_subject,
       a.created_at, a.updated_at, g.roles
  FROM accounts a
 CROSS JOIN LATERAL (SELECT coalesce(array_agg(CASE area WHEN '' THEN role ELSE role || ':' || area END ORDER BY role, area), '{}')
                       FROM account_roles WHERE account_id = a.account_id) AS g (roles)
 WHERE a.account_id = %(number)s::integer OR a.login = %(login)s::text
    OR (a.oidc_issuer = %(issuer)s::text AND a.oidc_subject = %(subject)s::text);

-- name: page
-- Accounts after a login in order of logins, each with its roles.
SELECT a.account_id, a.login, a.title, a.state, a.password IS NOT NULL, a.must_change, a.totp_since, a.oidc_issuer, a.oidc_subject,
       a.created_at, a.updated_at, g.roles
  FROM accounts a
 CROSS JOIN LATERAL (SELECT coalesce(array_agg(CASE area WHEN '' THEN role ELSE role || ':' || area END ORDER BY role, area), '{}')
                       FROM account_roles WHERE account_id = a.account_id) AS g (roles)
 WHERE %(after)s::text IS NULL OR a.login > %(after)s
 ORDER BY a.login
 LIMIT %(limit)s;

-- name: lock
-- Keeps an account to this transaction, with what a log-in has to show.
SELECT account_id, state, password, totp, totp_sealed_by, totp_since, totp_step FROM accounts WHERE account_id = %(account)s FOR UPDATE;

-- name: credentials
-- What a log-in has to show.
SELECT account_id, state, password, totp, totp_sealed_by, totp_since, totp_step FROM accounts WHERE login = %(login)s;

-- name: set_state
-- Active, locked or disabled.
UPDATE accounts SET state = %(state)s, updated_at = now() WHERE account_id = %(account)s;

-- name: set_password
-- Another password.
UPDATE accounts SET password = %(password)s, password_at = %(now)s, must_change = %(must_change)s, updated_at = now()
 WHERE account_id = %(account)s;

-- name: rehash
-- The same password, hashed at today's cost, unless it was changed meanwhile.
UPDATE accounts SET password = %(password)s WHERE account_id = %(account)s AND password = %(former)s;

-- name: take_roles
-- All roles away.
DELETE FROM account_roles WHERE account_id = %(account)s;

-- name: give_roles
-- Roles with their areas.
INSERT INTO account_roles (account_id, role, area)
SELECT %(account)s, * FROM unnest(%(roles)s::text[], %(areas)s::text[]);

-- name: holders
-- How many active accounts have a role everywhere.
SELECT count(DISTINCT account_id) FROM account_roles JOIN accounts USING (account_id)
 WHERE role = %(role)s AND area = '' AND state = 'active';

-- name: set_totp
-- A secret of one-time passwords that is not confirmed yet.
UPDATE accounts SET totp = %(sealed)s, totp_sealed_by = %(sealed_by)s, totp_since = NULL, totp_step = NULL, updated_at = now()
 WHERE account_id = %(account)s;

-- name: confirm_totp
-- From now on it is asked for.
UPDATE accounts SET totp_since = %(now)s, totp_step = %(step)s, updated_at = now() WHERE account_id = %(account)s;

-- name: remove_totp
-- No second factor any more.
UPDATE accounts SET totp = NULL, totp_sealed_by = NULL, totp_since = NULL, totp_step = NULL, updated_at = now()
 WHERE account_id = %(account)s;

-- name: use_step
-- Takes a time step; no row where it, or a later one, was taken.
UPDATE accounts SET totp_step = %(step)s
 WHERE account_id = %(account)s AND (totp_step IS NULL OR totp_step < %(step)s)
RETURNING account_id;

-- name: other_totps
-- Secrets that another master key sealed.
SELECT account_id, totp, totp_sealed_by FROM accounts WHERE totp_sealed_by <> %(sealed_by)s ORDER BY account_id FOR UPDATE;

-- name: reseal_totp
-- The same secret under another master key.
UPDATE accounts SET totp = %(sealed)s, totp_sealed_by = %(sealed_by)s WHERE account_id = %(account)s;

-- name: drop_codes
-- No recovery codes any more.
DELETE FROM recovery_codes WHERE account_id = %(account)s;

-- name: add_codes
-- Recovery codes by their digests.
INSERT INTO recovery_codes (account_id, digest) SELECT %(account)s, * FROM unnest(%(digests)s::bytea[]);

-- name: use_code
-- Takes a recovery code; no row where it is none, or was taken.
UPDATE recovery_codes SET used_at = %(now)s
 WHERE account_id = %(account)s AND digest = %(digest)s AND used_at IS NULL
RETURNING account_id;

-- name: codes_left
-- How many recovery codes are left.
SELECT count(*) FROM recovery_codes WHERE account_id = %(account)s AND used_at IS NULL;

-- name: unknown_areas
-- Areas that are neither a group nor a concentrator, gateway or substation; and those that are both.
SELECT area, (SELECT count(*) FROM meter_groups WHERE name = area)
           + (SELECT count(*) FROM network_nodes WHERE code = area AND kind IN ('concentrator', 'gateway', 'substation'))
  FROM unnest(%(areas)s::text[]) AS area;
