-- Events of meters and of the network's nodes, and until when each meter's own logs were read.
-- depends: 0002_keyring

-- One row per event, once: identity is a digest of who, in which log, the maker's code and what else tells events apart.
CREATE TABLE events (
    at          timestamptz NOT NULL,                   -- the meter's own time, ours where it told none
    received_at timestamptz NOT NULL,
    occurred_at timestamptz,                            -- the meter's own time
    identity    uuid NOT NULL,
    batch_id    bigint NOT NULL,
    code        bigint,                                 -- the maker's
    meter_id    integer,
    duration_s  bigint,
    log         text NOT NULL,
    meaning     text NOT NULL,
    source      text NOT NULL,
    node        text,                                   -- code of a node of the network, where it speaks of one
    text        text,
    standing    boolean NOT NULL DEFAULT false,         -- a state met at that time, not the moment it began
    CHECK (meter_id IS NOT NULL OR node IS NOT NULL),
    PRIMARY KEY (identity, at)
);
CREATE INDEX events_by_time ON events (at, identity);
CREATE INDEX events_by_meter ON events (meter_id, at);
CREATE INDEX events_by_receipt ON events (received_at);

CREATE TABLE event_cursors (
    meter_id   integer PRIMARY KEY REFERENCES meters,
    read_until timestamptz NOT NULL                     -- its event logs were read and stored up to there
);
