-- What meters' clocks showed, when they were changed, and which lines were told the time by broadcast.
-- depends: 0020_programs

-- Readings of clocks. A concentrator has the negative number of its node, as in requests.
CREATE TABLE clock_readings (
    meter_id       integer NOT NULL,
    at             timestamptz NOT NULL,                -- the middle of the round trip
    offset_ms      bigint NOT NULL,                     -- how much more it showed
    uncertainty_ms integer NOT NULL,                    -- half the round trip and the resolution of the stamp
    deviation_min  smallint,                            -- of the stamp; NULL: it had none
    status         smallint,
    source         text NOT NULL,
    PRIMARY KEY (meter_id, at)
);
CREATE INDEX clock_readings_by_time ON clock_readings USING brin (at);

-- Changes of clocks, written before they are made; the intervals that lie between what a clock showed before and after are flagged by it.
CREATE TABLE clock_changes (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id    integer NOT NULL,
    campaign_id bigint NOT NULL,
    step        text NOT NULL,
    at          timestamptz NOT NULL,
    change      text NOT NULL,                          -- headend.drivers.commands.clock.ClockChange
    affected    tstzrange NOT NULL,                     -- by the meter's clock, before and after
    took_effect boolean,                                -- NULL: nobody knows (yet)
    UNIQUE (campaign_id, meter_id, step)
);
CREATE INDEX clock_changes_by_meter ON clock_changes (meter_id, at);

-- The time was told to all meters of a line at once: meters take it once a day.
CREATE TABLE clock_broadcasts (
    line        text NOT NULL,                          -- the address without the meter
    day         date NOT NULL,                          -- of the meters' zone
    at          timestamptz NOT NULL,
    campaign_id bigint NOT NULL,
    meter_id    integer NOT NULL,                       -- at whose turn it was
    PRIMARY KEY (line, day)
);
