-- The key that fingerprints keys, and the bound on an inbox.
-- depends: 0001_foundation

-- Counters are found by a keyed fingerprint of the key. Its key is random and sealed, so that it outlives a rotation
-- of the master key: a fingerprint that changed would start a used counter afresh.
CREATE TABLE fingerprint_key (
    only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    sealed    bytea NOT NULL,
    sealed_by text NOT NULL
);

-- Counts what a source has unresolved, before another is let in.
CREATE INDEX inbox_unresolved ON inbox (source) WHERE resolved_at IS NULL;

-- The newest state of a meter and the newest entry about an object.
CREATE INDEX audit_by_object ON audit_log (object, audit_id);
