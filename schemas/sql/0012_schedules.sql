-- Schedules, and by what they select meters beside the network: groups and tags.
-- depends: 0011_jobs

CREATE TABLE schedules (
    schedule_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    enabled     boolean NOT NULL,
    built_in    boolean NOT NULL DEFAULT false,         -- follows the settings of the service
    plan        jsonb NOT NULL,                         -- schemas.schedule.Schedule without name and enabled
    version     bigint NOT NULL DEFAULT 1,              -- grows with each change
    next_at     timestamptz,                            -- NULL: paused
    last_at     timestamptz,                            -- the time of the newest run that became a job
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Named sets of meters.
CREATE TABLE meter_groups (
    group_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    title      text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE group_members (
    group_id integer NOT NULL REFERENCES meter_groups ON DELETE CASCADE,
    meter_id integer NOT NULL REFERENCES meters,
    PRIMARY KEY (group_id, meter_id)
);
CREATE INDEX group_members_by_meter ON group_members (meter_id);

-- key, or key=value: a meter has one value for each key, '' where there is none.
CREATE TABLE meter_tags (
    meter_id integer NOT NULL REFERENCES meters,
    key      text NOT NULL,
    value    text NOT NULL DEFAULT '',
    PRIMARY KEY (meter_id, key)
);
CREATE INDEX meter_tags_by_key ON meter_tags (key, value);
