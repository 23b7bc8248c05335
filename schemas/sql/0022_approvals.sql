-- Four eyes: what waits for a second person, what was shown to him, and how he decided.
-- depends: 0020_programs

CREATE TABLE approvals (
    approval_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject           text NOT NULL,                    -- 'campaign:12', 'role:7': whose effect is in headend.approvals.subjects
    needs             text NOT NULL,                    -- the permission of its kind, beside 'approve': schemas.people.Permission
    digest            bytea NOT NULL,                   -- of exactly what is approved: any change makes another
    shown             jsonb NOT NULL,                   -- exactly what will be done, for people
    requested_by      text NOT NULL,
    requested_account bigint,                           -- NULL: a token of nobody, or the host's own command line
    state             text NOT NULL CHECK (state IN ('waiting', 'approved', 'refused', 'void', 'expired')),
    decided_by        text,                             -- 'policy' where none had to
    decided_account   bigint,
    reason            text,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at        timestamptz NOT NULL,
    decided_at        timestamptz,
    CHECK ((state = 'waiting') = (decided_at IS NULL))
);
CREATE UNIQUE INDEX approvals_waiting ON approvals (subject) WHERE state = 'waiting';
CREATE INDEX approvals_by_subject ON approvals (subject, approval_id);

-- A key that makes a repeated proposal the same campaign, for a day; bound to whoever asked.
CREATE TABLE campaign_keys (
    actor       text NOT NULL,
    key         text NOT NULL,
    digest      bytea NOT NULL,
    campaign_id bigint REFERENCES campaigns ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (actor, key)
);
CREATE INDEX campaign_keys_by_age ON campaign_keys (created_at);
