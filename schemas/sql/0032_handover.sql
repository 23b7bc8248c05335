-- Images that a concentrator is handed once for all its meters: where it stands with one, and which meters shall have it.
-- depends: 0025_firmware

-- The image that a concentrator is given, one at a time; its steps are in campaign_steps, under the negative number of its node.
CREATE TABLE station_images (
    station integer PRIMARY KEY,                        -- its node
    package bytea NOT NULL,                             -- of firmware_packages
    facts   jsonb NOT NULL DEFAULT '{}',                -- as in campaign_meters
    steps   jsonb NOT NULL DEFAULT '{}',                -- as in campaign_meters
    look_at timestamptz NOT NULL                        -- when it is looked at next
);

-- Meters that shall have an image from their concentrator.
CREATE TABLE station_shares (
    campaign_id bigint NOT NULL,
    meter_id    integer NOT NULL,
    station     integer NOT NULL,
    package     bytea NOT NULL,
    gateway     text NOT NULL,                          -- where the meter is behind it: network id and physical address
    block_size  integer NOT NULL,                       -- the meter's own, in bytes
    state       text NOT NULL CHECK (state IN ('asked', 'told', 'holds', 'failed')),
    reason      text,                                   -- why it failed
    asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    told_at     timestamptz,                            -- when the concentrator was told
    ended_at    timestamptz,
    PRIMARY KEY (campaign_id, meter_id),
    FOREIGN KEY (campaign_id, meter_id) REFERENCES campaign_meters ON DELETE CASCADE
);
CREATE INDEX station_shares_open ON station_shares (station, asked_at) WHERE ended_at IS NULL;
