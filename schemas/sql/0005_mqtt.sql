-- MQTT ingest: slots and their leases, receipts, sequences of concentrators' batches, the quarantine.
-- depends: 0002_keyring

-- A slot is a part of the topics with a client id and a persistent session of its own. Whoever holds its lease reads it;
-- fence grows with each holder, and each transaction that stores what the slot brought checks it.
CREATE TABLE ingest_slots (
    slot       text PRIMARY KEY,
    fence      bigint NOT NULL DEFAULT 0,
    holder     text,                                    -- process that holds it, for people
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    filters    text[] NOT NULL DEFAULT '{}'             -- what the session is subscribed to
);

-- Messages of the last 24 hours, so that a repeated one is known. Three generations of a day each: one is written, the one
-- before is still asked, the third is emptied by TRUNCATE.
CREATE TABLE mqtt_receipts (
    generation  smallint NOT NULL,
    digest      bytea NOT NULL,                         -- SHA-256 of topic and payload
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, digest)
) PARTITION BY LIST (generation);
CREATE TABLE mqtt_receipts_0 PARTITION OF mqtt_receipts FOR VALUES IN (0);
CREATE TABLE mqtt_receipts_1 PARTITION OF mqtt_receipts FOR VALUES IN (1);
CREATE TABLE mqtt_receipts_2 PARTITION OF mqtt_receipts FOR VALUES IN (2);

-- The newest state a topic told of its device's presence: brokers repeat last wills at each subscription.
CREATE TABLE mqtt_presence (
    topic text PRIMARY KEY,
    state text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

-- Where the count of a concentrator's batches is. A run ends when a concentrator loses its count.
CREATE TABLE batch_runs (
    concentrator  text NOT NULL,
    run           text NOT NULL,
    next_sequence bigint NOT NULL DEFAULT 0,
    topic         text NOT NULL,                        -- where its last batch came from
    slot          text NOT NULL,
    first_at      timestamptz NOT NULL DEFAULT now(),
    last_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (concentrator, run)
);

-- Batches that did not come in their turn. missing shrinks as they come (or are declared lost) and is empty in the end.
CREATE TABLE batch_gaps (
    gap_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    concentrator    text NOT NULL,
    run             text NOT NULL,
    gap             int8range NOT NULL,
    missing         int8multirange NOT NULL,
    lost            int8multirange NOT NULL DEFAULT '{}',
    noticed_at      timestamptz NOT NULL DEFAULT now(),
    requests        integer NOT NULL DEFAULT 0,
    next_request_at timestamptz DEFAULT now(),          -- NULL: given up, or closed
    closed_at       timestamptz,
    FOREIGN KEY (concentrator, run) REFERENCES batch_runs
);
CREATE INDEX batch_gaps_open ON batch_gaps (concentrator, run) WHERE closed_at IS NULL;

-- Payloads that could not be stored: the bytes, why, how often they came, and what became of them.
CREATE TABLE quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest        bytea NOT NULL,                       -- SHA-256 of topic and payload
    topic         text NOT NULL,
    payload       bytea NOT NULL,                       -- cut where it is longer than is kept
    bytes         integer NOT NULL,                     -- length as it came
    retained      boolean NOT NULL,
    identity      text,                                 -- device it names, where nobody knows that
    reason        text NOT NULL,
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    times         bigint NOT NULL DEFAULT 1,
    state         text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replayed', 'dropped')),
    settled_at    timestamptz
);
CREATE UNIQUE INDEX quarantine_waiting ON quarantine (digest) WHERE state = 'waiting';
CREATE INDEX quarantine_by_topic ON quarantine (topic) WHERE state = 'waiting';
