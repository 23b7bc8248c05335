-- Meters, metering points, load curves, registers, coverage, change feed, keys, tokens, audit.
-- One dialect for PostgreSQL 15..18 and TimescaleDB; hypertables are made by headend.store.migrate where the extension is there.
-- depends:

CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE meters (
    meter_id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset_id            text NOT NULL UNIQUE,           -- serial number or barcode: the name people use
    model               text NOT NULL,                  -- name of the profile in schemas/profiles
    system_title        bytea UNIQUE CHECK (octet_length(system_title) = 8),
    logical_device_name text UNIQUE,
    address             text,                           -- link address of the head-end, e.g. tcp://10.1.2.3:4059?server=1
    feeder              text,
    transformer         text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);

-- received -> installed -> commissioned -> suspended -> removed; only commissioned meters count as missing
CREATE TABLE meter_states (
    meter_id integer NOT NULL REFERENCES meters,
    state    text NOT NULL CHECK (state IN ('received', 'installed', 'commissioned', 'suspended', 'removed')),
    since    timestamptz NOT NULL,
    PRIMARY KEY (meter_id, since)
);

CREATE TABLE metering_points (
    point_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code       text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A meter is installed at a point from-to; an exchange closes one row and opens the next.
CREATE TABLE installations (
    installation_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point_id          integer NOT NULL REFERENCES metering_points,
    meter_id          integer NOT NULL REFERENCES meters,
    during            tstzrange NOT NULL CHECK (NOT isempty(during)),
    start_registers   jsonb NOT NULL DEFAULT '{}',      -- OBIS -> decimal string, read at installation
    removal_registers jsonb,
    EXCLUDE USING gist (meter_id WITH =, during WITH &&),
    EXCLUDE USING gist (point_id WITH =, during WITH &&)
);

-- CT/VT ratio of a point; stored values stay as metered, the ratio is applied when read.
CREATE TABLE transformer_ratios (
    point_id       integer NOT NULL REFERENCES metering_points,
    during         tstzrange NOT NULL CHECK (NOT isempty(during)),
    ct_numerator   numeric NOT NULL CHECK (ct_numerator > 0),
    ct_denominator numeric NOT NULL CHECK (ct_denominator > 0),
    vt_numerator   numeric NOT NULL DEFAULT 1 CHECK (vt_numerator > 0),
    vt_denominator numeric NOT NULL DEFAULT 1 CHECK (vt_denominator > 0),
    EXCLUDE USING gist (point_id WITH =, during WITH &&)
);

-- What the four value columns of a row mean: obis, scaler, unit, kind, modulus per quantity. Rows are never changed.
CREATE TABLE channel_layouts (
    layout_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channels  jsonb NOT NULL UNIQUE
);

-- One row per thing that brought readings: one exchange, push or file.
CREATE TABLE batches (
    batch_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    source      text NOT NULL,
    rows        integer NOT NULL
);

-- Load curves: one row per meter, profile and interval; raw integers, value = raw * 10^scaler of the layout.
CREATE TABLE interval_reads (
    start           timestamptz NOT NULL,
    stamp           timestamptz NOT NULL,               -- the meter's own; for DLMS the end of the capture period
    batch_id        bigint NOT NULL,
    active_import   bigint,                             -- NULL is missing, never zero
    active_export   bigint,
    reactive_import bigint,
    reactive_export bigint,
    meter_id        integer NOT NULL,
    period_s        integer NOT NULL CHECK (period_s > 0),
    layout_id       integer NOT NULL,
    amr_status      bigint,                             -- as sent, unsigned
    profile         smallint NOT NULL,
    clock_status    smallint,
    quality         smallint NOT NULL,
    PRIMARY KEY (meter_id, profile, start)
);

-- Rows whose stamp is off the grid or came twice: kept, never a correction.
CREATE TABLE interval_fragments (
    fragment_id     bigint GENERATED ALWAYS AS IDENTITY,
    reason          smallint NOT NULL,
    start           timestamptz NOT NULL,
    stamp           timestamptz NOT NULL,
    batch_id        bigint NOT NULL,
    active_import   bigint,
    active_export   bigint,
    reactive_import bigint,
    reactive_export bigint,
    meter_id        integer NOT NULL,
    period_s        integer NOT NULL,
    layout_id       integer NOT NULL,
    amr_status      bigint,                             -- as sent, unsigned
    profile         smallint NOT NULL,
    clock_status    smallint,
    quality         smallint NOT NULL,
    PRIMARY KEY (fragment_id),
    UNIQUE NULLS NOT DISTINCT (meter_id, profile, stamp, reason, active_import, active_export, reactive_import,
                               reactive_export, amr_status, clock_status)
);

-- What a corrected interval held before. revision 1 is the first value that was replaced.
CREATE TABLE interval_revisions (
    meter_id        integer NOT NULL,
    profile         smallint NOT NULL,
    start           timestamptz NOT NULL,
    revision        integer NOT NULL,
    stamp           timestamptz NOT NULL,
    batch_id        bigint NOT NULL,
    active_import   bigint,
    active_export   bigint,
    reactive_import bigint,
    reactive_export bigint,
    period_s        integer NOT NULL,
    layout_id       integer NOT NULL,
    amr_status      bigint,                             -- as sent, unsigned
    clock_status    smallint,
    quality         smallint NOT NULL,
    replaced_by     bigint NOT NULL,                    -- batch that brought the new value
    replaced_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, profile, start, revision)
);

-- Ranges that were asked for and answered completely.
CREATE TABLE coverage (
    meter_id integer NOT NULL REFERENCES meters,
    profile  smallint NOT NULL,
    covered  tstzmultirange NOT NULL,
    PRIMARY KEY (meter_id, profile)
);

-- The change feed: one row per batch and meter range; readers stop below pg_snapshot_xmin.
CREATE TABLE changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
    meter_id  integer NOT NULL,
    profile   smallint,                                 -- NULL: registers
    during    tstzrange NOT NULL,
    kind      text NOT NULL CHECK (kind IN ('new', 'completion', 'correction', 'fragment', 'registers')),
    batch_id  bigint NOT NULL
);
CREATE INDEX changes_by_xid ON changes (xid, change_id);

-- Any OBIS code outside the load curve: exact decimal or text.
CREATE TABLE register_reads (
    read_at    timestamptz NOT NULL,
    meter_time timestamptz,
    batch_id   bigint NOT NULL,
    meter_id   integer NOT NULL,
    attribute  smallint NOT NULL,
    quality    smallint NOT NULL,
    obis       text NOT NULL,
    unit       text,
    value      numeric,
    text       text,
    from_float boolean NOT NULL DEFAULT false,          -- value is the shortest decimal of a binary float
    PRIMARY KEY (meter_id, obis, attribute, read_at),
    CHECK (value IS NULL OR text IS NULL)
);
-- Finds a push that came before: the same register at the same time of the meter's.
CREATE INDEX register_reads_pushed ON register_reads (meter_id, obis, attribute, meter_time)
    WHERE quality = 1 AND meter_time IS NOT NULL;

-- Pushes that no profile explains or no meter owns: the bytes, why, and what an engineer did with them.
CREATE TABLE inbox (
    inbox_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    source      text NOT NULL,
    identity    text,                                   -- system title or logical device name, where one was told
    payload     bytea NOT NULL,
    reason      text NOT NULL,
    resolved_at timestamptz
);

-- Keys of meters, sealed under the master key. Plain keys are nowhere in the database.
CREATE TABLE meter_keys (
    meter_id   integer NOT NULL REFERENCES meters,
    purpose    text NOT NULL CHECK (purpose IN ('encryption', 'authentication', 'master', 'lls', 'hls')),
    sealed     bytea NOT NULL,
    sealed_by  text NOT NULL,                           -- id of the master key
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, purpose)
);

-- One invocation counter per (key, system title). next_value is the first that was never handed out.
CREATE TABLE invocation_counters (
    key_id       bytea NOT NULL,                        -- keyed fingerprint of the key, not the key
    system_title bytea NOT NULL CHECK (octet_length(system_title) = 8),
    next_value   bigint NOT NULL CHECK (next_value BETWEEN 0 AND 4294967296),
    PRIMARY KEY (key_id, system_title)
);

CREATE TABLE peer_counters (
    key_id       bytea NOT NULL,
    system_title bytea NOT NULL CHECK (octet_length(system_title) = 8),
    last_value   bigint NOT NULL CHECK (last_value BETWEEN 0 AND 4294967295),
    PRIMARY KEY (key_id, system_title)
);

CREATE TABLE api_tokens (
    token_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,
    digest       bytea NOT NULL UNIQUE,                 -- SHA-256 of a token of 256 random bits
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

CREATE TABLE audit_log (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text NOT NULL,
    action   text NOT NULL,
    object   text NOT NULL,
    detail   jsonb NOT NULL DEFAULT '{}'
);
