-- Signed firmware packages, and which version each meter was found to have.
-- depends: 0020_programs

CREATE TABLE firmware_packages (
    digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32), -- SHA-256 of the file
    manifest   jsonb NOT NULL,                          -- headend.firmware.package.Manifest
    key_id     text NOT NULL,                           -- who signed it
    data       bytea NOT NULL,                          -- the file as it came
    actor      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE firmware_packages ALTER COLUMN data SET STORAGE EXTERNAL; -- images are packed already

-- What a meter showed, each time that it showed another.
CREATE TABLE meter_versions (
    meter_id integer NOT NULL,                          -- a concentrator: the negative number of its node
    read_at  timestamptz NOT NULL,
    version  text NOT NULL,
    hardware text,
    PRIMARY KEY (meter_id, read_at)
);
