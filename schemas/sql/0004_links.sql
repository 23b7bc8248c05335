-- Circuit breakers that are open, as the service last told, and what people asked it to close.
-- depends: 0002_keyring

-- Closed breakers have no row. Written behind, every few seconds: the truth is in the service.
CREATE TABLE link_states (
    kind       text NOT NULL CHECK (kind IN ('meter', 'station', 'line')),
    id         text NOT NULL,                       -- number of the meter or station, or the line as it is written
    since      timestamptz NOT NULL,                -- no answer from then on
    until      timestamptz NOT NULL,                -- no probe before
    failures   integer NOT NULL,                    -- in a row
    probes     integer NOT NULL,                    -- of them, since it opened
    stage      text NOT NULL,
    reason     text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, id)
);

-- Each service reads these from where it was; kept for a day.
CREATE TABLE link_resets (
    reset_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL,
    id       text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
