-- Switching customers: what was sent, where breakers stand, who must not be switched off, and the emergency stop.
-- depends: 0020_programs

-- Each switching and each limit, written in the transaction before it is sent; sent again, it is moved, not doubled.
CREATE TABLE switchings (
    switching_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  bigint NOT NULL,
    meter_id     integer NOT NULL,
    action       text NOT NULL,                         -- schemas.programs.switch.SwitchAction, or 'limit'
    reason       text NOT NULL,                         -- schemas.programs.switch.SwitchReason
    note         text NOT NULL DEFAULT '',
    actor        text NOT NULL,                         -- who asked
    sent_at      timestamptz NOT NULL,
    UNIQUE (campaign_id, meter_id)
);
CREATE INDEX switchings_by_meter ON switchings (meter_id, switching_id);
-- disconnections of an hour are counted before each
CREATE INDEX switchings_disconnected ON switchings (sent_at) WHERE action = 'disconnect';

-- Where each breaker stood when it was last read.
CREATE TABLE switch_states (
    meter_id integer PRIMARY KEY,
    read_at  timestamptz NOT NULL,
    output   boolean NOT NULL,                          -- whether the customer is connected
    control  text NOT NULL,                             -- disconnected, connected or ready
    mode     smallint                                   -- of the control; NULL: its language has none
);

-- Who must not be switched off or limited: a meter, or whatever meter is at a metering point. Never deleted.
CREATE TABLE critical_customers (
    critical_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id    integer REFERENCES meters,
    point_id    integer REFERENCES metering_points,
    why         text NOT NULL,
    until       timestamptz,                            -- NULL: until it is removed
    actor       text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz,
    removed_by  text,
    CHECK ((meter_id IS NULL) <> (point_id IS NULL))
);
CREATE INDEX critical_customers_meter ON critical_customers (meter_id) WHERE removed_at IS NULL;
CREATE INDEX critical_customers_point ON critical_customers (point_id) WHERE removed_at IS NULL;

-- The emergency stop: while a row is not allowed again, nothing is switched.
CREATE TABLE switching_halts (
    halt_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason     text NOT NULL,
    actor      text NOT NULL,
    account    bigint,                                  -- NULL: a token of nobody, or the host's command line
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    allowed_by text,
    allowed_at timestamptz
);
CREATE UNIQUE INDEX switching_halts_one ON switching_halts ((true)) WHERE allowed_at IS NULL;
