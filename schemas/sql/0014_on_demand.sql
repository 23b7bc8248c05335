-- Reads on demand: keys that make a repeated request the same job, and who is told of a job's end.
-- depends: 0011_jobs

-- A key of a token, what it was used for, and the job that came of it. Kept for a day.
CREATE TABLE idempotency_keys (
    token_id   integer NOT NULL,
    key        text NOT NULL,
    digest     bytea NOT NULL,                          -- SHA-256 of what was asked
    job_id     bigint REFERENCES jobs ON DELETE CASCADE, -- NULL only within the transaction that makes it
    created_at timestamptz NOT NULL,
    PRIMARY KEY (token_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- To whom the end of a job is told. It is due when its job has ended and next_at has come.
CREATE TABLE webhooks (
    job_id      bigint PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    url         text NOT NULL,
    secret      bytea,                                  -- sealed as keys are; NULL: the one of the settings
    sealed_by   text,                                   -- id of the master key
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts    smallint NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL,
    last_at     timestamptz,
    last_status smallint,                               -- of HTTP; NULL: no answer came
    last_reason text,
    CHECK ((secret IS NULL) = (sealed_by IS NULL))
);
CREATE INDEX webhooks_waiting ON webhooks (next_at) WHERE state = 'waiting';
