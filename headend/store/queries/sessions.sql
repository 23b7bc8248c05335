-- name: add
-- A new session by the digest of its secret.
INSERT INTO sessions (account_id, kind, digest, second_factor, created_at, seen_at, idle_s, expires_at, address, user_agent)
VALUES (%(account)s, %(kind)s, %(digest)s, %(second_factor)s, %(now)s, %(now)s, %(idle_s)s, %(expires_at)s, %(address)s, %(user_agent)s)
RETURNING session_id;

-- name: by_digest
-- A session that goes on, of an account that is active, with the account's roles.
SELECT s.session_id, s.account_id, s.kind, s.second_factor, s.created_at, s.seen_at, s.idle_s, s.expires_at, s.address, s.user_agent,
       s.digest, a.login, a.must_change,
       (SELECT coalesce(array_agg(CASE area WHEN '' THEN role ELSE role || ':' || area END ORDER BY role, area), '{}')
          FROM account_roles r WHERE r.account_id = a.account_id)
  FROM sessions s
  JOIN accounts a USING (account_id)
 WHERE s.digest = %(digest)s AND s.kind = %(kind)s AND s.ended_at IS NULL AND a.state = 'active'
   AND s.expires_at > %(now)s AND s.seen_at + s.idle_s * interval '1 second' > %(now)s;

-- name: of_digest
-- Whose session it is or was.
SELECT account_id, login FROM sessions JOIN accounts USING (account_id) WHERE digest = %(digest)s;

-- name: touch
-- Notes that a session is used, at most once a minute, and never waits for another who does the same.
UPDATE sessions SET seen_at = %(now)s
 WHERE session_id = (SELECT session_id FROM sessions
                      WHERE session_id = %(session)s AND seen_at < %(now)s - interval '1 minute'
                        FOR UPDATE SKIP LOCKED);

-- name: of_account
-- Sessions of an account that go on, newest first.
SELECT session_id, account_id, kind, second_factor, created_at, seen_at, idle_s, expires_at, address, user_agent
  FROM sessions
 WHERE account_id = %(account)s AND ended_at IS NULL AND expires_at > %(now)s
   AND seen_at + idle_s * interval '1 second' > %(now)s
 ORDER BY session_id DESC;

-- name: end
-- Ends one session.
UPDATE sessions SET ended_at = coalesce(ended_at, %(now)s) WHERE session_id = %(session)s RETURNING account_id;

-- name: end_all
-- Ends all sessions of an account but one.
UPDATE sessions SET ended_at = %(now)s
 WHERE account_id = %(account)s AND ended_at IS NULL AND session_id IS DISTINCT FROM %(but)s::bigint;

-- name: prove
-- A second factor was shown within the session.
UPDATE sessions SET second_factor = true WHERE session_id = %(session)s;

-- name: forget
-- Sessions that ended long ago.
DELETE FROM sessions WHERE expires_at < %(before)s;

-- name: attempts_begin
-- Makes sure that there is a row to lock.
INSERT INTO login_attempts (key, failures, last_at, until) SELECT key, 0, %(now)s, %(now)s FROM unnest(%(keys)s::text[]) AS key
ON CONFLICT (key) DO NOTHING;

-- name: attempts
-- How often a log-in failed, kept to this transaction, in order of keys: two log-ins never wait for each other.
SELECT key, failures, last_at, until FROM login_attempts WHERE key = ANY (%(keys)s::text[]) ORDER BY key FOR UPDATE;

-- name: attempts_set
-- How often a log-in has failed, and when one is tried again.
UPDATE login_attempts SET failures = %(failures)s, last_at = %(now)s, until = %(until)s WHERE key = %(key)s;

-- name: attempts_refund
-- One that did not fail after all.
UPDATE login_attempts SET failures = greatest(failures - 1, 0), until = least(until, %(now)s) WHERE key = %(key)s;

-- name: attempts_clear
-- Nothing is held against it any more. The row stays, for others may wait for it.
UPDATE login_attempts SET failures = 0, until = least(until, %(now)s) WHERE key = %(key)s;

-- name: attempts_forget
-- What was long ago, but for what somebody is at.
DELETE FROM login_attempts
 WHERE key IN (SELECT key FROM login_attempts WHERE last_at < %(before)s LIMIT 1000 FOR UPDATE SKIP LOCKED);
