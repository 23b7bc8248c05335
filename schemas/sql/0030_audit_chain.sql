-- The audit trail as a chain: each entry's hash covers the one before it.
-- depends: 0020_programs

-- Where each entry stands, in the order in which transactions committed. hash = SHA-256(hash before || entry as text).
CREATE TABLE audit_chain (
    position bigint PRIMARY KEY,
    audit_id bigint NOT NULL UNIQUE,
    hash     bytea NOT NULL CHECK (octet_length(hash) = 32)
);

-- The end of the chain: one row, locked by whoever adds to it.
CREATE TABLE audit_head (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    position bigint NOT NULL,
    hash     bytea NOT NULL CHECK (octet_length(hash) = 32)
);
INSERT INTO audit_head (position, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- What whoever has only the database cannot make: the end of the chain at some time, under a key that it has not.
CREATE TABLE audit_seals (
    position bigint PRIMARY KEY,
    hash     bytea NOT NULL CHECK (octet_length(hash) = 32),
    seal     bytea NOT NULL CHECK (octet_length(seal) = 32),
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- An entry as text, the same whoever asks: what its hash covers beside the hash before it.
CREATE FUNCTION audit_text("position" bigint, entry audit_log) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_array("position", entry.audit_id,
                             to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
                             entry.actor, entry.action, entry.object, entry.detail)::text
$$;

-- Add an entry to the end. Called at the commit of the transaction that made it: the lock on the head is its last one,
-- so that nobody can wait in a circle, and is held no longer than the commit itself takes.
CREATE FUNCTION audit_add_to_chain() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    head audit_head;
BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    head.position := head.position + 1;
    head.hash := sha256(head.hash || convert_to(audit_text(head.position, NEW), 'UTF8'));
    INSERT INTO audit_chain (position, audit_id, hash) VALUES (head.position, NEW.audit_id, head.hash);
    UPDATE audit_head SET position = head.position, hash = head.hash;
    RETURN NULL;
END
$$;

CREATE FUNCTION audit_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only: % of % is refused', TG_OP, TG_TABLE_NAME;
END
$$;

-- What was there before there was a chain is its beginning.
DO $$
DECLARE
    head audit_head;
    entry audit_log;
BEGIN
    LOCK TABLE audit_log IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO STRICT head FROM audit_head;
    FOR entry IN SELECT * FROM audit_log ORDER BY audit_id LOOP
        head.position := head.position + 1;
        head.hash := sha256(head.hash || convert_to(audit_text(head.position, entry), 'UTF8'));
        INSERT INTO audit_chain (position, audit_id, hash) VALUES (head.position, entry.audit_id, head.hash);
    END LOOP;
    UPDATE audit_head SET position = head.position, hash = head.hash;
END
$$;

CREATE CONSTRAINT TRIGGER audit_log_to_chain AFTER INSERT ON audit_log
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_add_to_chain();
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
