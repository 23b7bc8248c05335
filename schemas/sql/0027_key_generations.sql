-- Keys of meters beside their current ones: those that are being changed to, and those that were changed from.
-- depends: 0020_programs

CREATE TABLE key_generations (
    meter_id    integer NOT NULL REFERENCES meters,
    purpose     text NOT NULL,                          -- schemas.meter.KeyPurpose
    generation  text NOT NULL CHECK (generation IN ('pending', 'former')),
    sealed      bytea NOT NULL,                         -- as in meter_keys
    sealed_by   text NOT NULL,
    key_id      bytea NOT NULL,                         -- keyed fingerprint, not the key
    created_at  timestamptz NOT NULL,                   -- when the key was made
    campaign_id bigint,                                 -- pending: whose
    sent_at     timestamptz,                            -- pending: from here on the meter may use it; NULL: not sent
    replaced_at timestamptz,                            -- former: since when it is no more
    PRIMARY KEY (meter_id, purpose, generation)
);

-- What counters are found by; NULL where the key was not opened since this column is there.
ALTER TABLE meter_keys ADD COLUMN key_id bytea;
CREATE INDEX meter_keys_by_age ON meter_keys (created_at) WHERE purpose = 'encryption';
