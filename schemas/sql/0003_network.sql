-- The network: nodes, links with their history, and what stations announced that nobody knows yet.
-- depends: 0002_keyring

CREATE TABLE network_nodes (
    node_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code       text NOT NULL UNIQUE,                -- of a meter: its asset id
    kind       text NOT NULL CHECK (kind IN ('substation', 'feeder', 'transformer', 'concentrator', 'gateway', 'relay', 'meter')),
    meter_id   integer UNIQUE REFERENCES meters,
    model      text,                                -- concentrators and gateways: profile and link address
    address    text,
    title      text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'meter') = (meter_id IS NOT NULL))
);

-- What a node hangs on, from-to. Another parent or kind of link closes a row and opens the next; hops and quality
-- are measurements and stay with the open row.
CREATE TABLE network_links (
    link_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    child   integer NOT NULL REFERENCES network_nodes,
    parent  integer NOT NULL REFERENCES network_nodes,
    link    text CHECK (link IN ('plc_narrowband', 'plc_broadband', 'zigbee', 'wifi', 'cellular', 'serial', 'ethernet')),
    hops    smallint NOT NULL CHECK (hops BETWEEN 1 AND 255),
    quality smallint CHECK (quality BETWEEN 0 AND 100),
    during  tstzrange NOT NULL CHECK (NOT isempty(during)),
    CHECK (child <> parent),
    -- The past alone: for what is open the unique index below does, at a tenth of the cost of this one.
    EXCLUDE USING gist (child WITH =, during WITH &&) WHERE (NOT upper_inf(during))
);
-- The way up and the way down, as it is now.
CREATE UNIQUE INDEX network_links_up ON network_links (child) WHERE upper_inf(during);
CREATE INDEX network_links_down ON network_links (parent) WHERE upper_inf(during);

-- Devices that were announced and are no meters of ours: until an engineer accepts or rejects them. station NULL:
-- nobody told of the device but itself.
CREATE TABLE announcements (
    announcement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station         integer REFERENCES network_nodes,
    identity        text NOT NULL,
    model           text,
    address         text,
    link            text,
    hops            smallint NOT NULL,
    quality         smallint,
    parent          text,
    first_at        timestamptz NOT NULL,
    last_at         timestamptz NOT NULL,
    times           bigint NOT NULL DEFAULT 1,
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'accepted', 'rejected')),
    decided_at      timestamptz,
    meter_id        integer REFERENCES meters,      -- what it was accepted as
    UNIQUE NULLS NOT DISTINCT (station, identity),
    CHECK ((state = 'accepted') = (meter_id IS NOT NULL))
);
CREATE INDEX announcements_waiting ON announcements (station) WHERE state = 'waiting';

-- What a station announced beyond the bound of its part of the inbox.
CREATE TABLE announcements_beyond (
    station integer UNIQUE NULLS NOT DISTINCT REFERENCES network_nodes,
    times   bigint NOT NULL,
    last_at timestamptz NOT NULL
);

-- Devices of brokers are found by their address.
CREATE INDEX IF NOT EXISTS meters_by_address ON meters (address) WHERE address IS NOT NULL;
