-- name: add
-- Something that waits for a second person, or that was approved by policy.
INSERT INTO approvals (subject, needs, digest, shown, requested_by, requested_account, state, decided_by, reason,
                       expires_at, decided_at)
VALUES (%(subject)s, %(needs)s, %(digest)s, %(shown)s, %(by)s, %(account)s, %(state)s, %(decided_by)s, %(reason)s,
        %(expires)s, CASE WHEN %(state)s <> 'waiting' THEN clock_timestamp() END)
RETURNING approval_id;

-- name: find
-- One approval by its number.
SELECT approval_id, subject, needs, digest, shown, requested_by, requested_account, state, decided_by,
       decided_account, reason, created_at, expires_at, decided_at
  FROM approvals WHERE approval_id = %(approval)s;

-- name: lock
-- The same, kept from others until the transaction ends.
SELECT approval_id, subject, needs, digest, shown, requested_by, requested_account, state, decided_by,
       decided_account, reason, created_at, expires_at, decided_at
  FROM approvals WHERE approval_id = %(approval)s FOR UPDATE;

-- name: newest
-- The newest of a subject.
SELECT approval_id, subject, needs, digest, shown, requested_by, requested_account, state, decided_by,
       decided_account, reason, created_at, expires_at, decided_at
  FROM approvals WHERE subject = %(subject)s ORDER BY approval_id DESC LIMIT 1;

-- name: page
-- Approvals below a number, newest first: in one state or in all.
SELECT approval_id, subject, needs, digest, shown, requested_by, requested_account, state, decided_by,
       decided_account, reason, created_at, expires_at, decided_at
  FROM approvals
 WHERE (%(before)s::bigint IS NULL OR approval_id < %(before)s) AND (%(state)s::text IS NULL OR state = %(state)s)
 ORDER BY approval_id DESC LIMIT %(limit)s;

-- name: decide
-- It waits no longer. Nothing where it did not.
UPDATE approvals
   SET state = %(state)s, decided_by = %(by)s, decided_account = %(account)s, reason = %(reason)s,
       decided_at = clock_timestamp()
 WHERE approval_id = %(approval)s AND state = 'waiting'
RETURNING approval_id;

-- name: void
-- Nothing of a subject waits, or is approved, any longer; the numbers of what was.
UPDATE approvals
   SET state = 'void', reason = %(reason)s, decided_at = coalesce(decided_at, clock_timestamp())
 WHERE subject = %(subject)s AND state IN ('waiting', 'approved')
RETURNING approval_id;

-- name: overdue
-- What nobody decided in time.
SELECT approval_id FROM approvals WHERE state = 'waiting' AND expires_at <= %(now)s ORDER BY approval_id LIMIT %(limit)s;

-- name: holds
-- Whether exactly this was approved.
SELECT EXISTS (SELECT FROM approvals WHERE subject = %(subject)s AND digest = %(digest)s AND state = 'approved');
