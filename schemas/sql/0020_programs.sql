-- Programs, campaigns that apply them to meters, and each step that was taken at a meter.
-- depends: 0017_attempts_by_time

-- Widened by schemas.job.JobKind alone: campaigns make jobs too.
ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;

-- What is to be applied: a tariff calendar, a firmware, a switching, ... Never changed: another content is another program.
CREATE TABLE programs (
    program_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,                           -- schemas.program.ProgramKind
    name       text NOT NULL,
    content    jsonb NOT NULL,                          -- schemas.program.Program
    digest     bytea NOT NULL UNIQUE,                   -- SHA-256 of the content in its canonical form
    actor      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- To whom, when, in which waves.
CREATE TABLE campaigns (
    campaign_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program_id     bigint NOT NULL REFERENCES programs,
    title          text NOT NULL,
    plan           jsonb NOT NULL,                      -- schemas.campaign.Plan
    digest         bytea NOT NULL,                      -- of program, plan and meters: an approval is of this
    state          text NOT NULL,                       -- schemas.campaign.CampaignState
    reason         text,                                -- why it stands where it stands
    wave           smallint,                            -- the newest that has begun: 0 canaries; NULL: none
    wave_at        timestamptz,                         -- when that was
    version        bigint NOT NULL DEFAULT 1,           -- grows with each change
    actor          text NOT NULL,
    correlation_id text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    ended_at       timestamptz
);
CREATE INDEX campaigns_open ON campaigns (campaign_id) WHERE ended_at IS NULL;

-- Where each meter stands (a concentrator has the negative number of its node, as in requests).
CREATE TABLE campaign_meters (
    campaign_id bigint NOT NULL REFERENCES campaigns ON DELETE CASCADE,
    meter_id    integer NOT NULL,
    wave        smallint NOT NULL,
    state       text NOT NULL DEFAULT 'waiting',        -- schemas.campaign.MeterProgress
    step        text,                                   -- the last that was begun
    facts       jsonb NOT NULL DEFAULT '{}',            -- what the state machine remembers; never a key
    steps       jsonb NOT NULL DEFAULT '{}',            -- step: 'intended' or 'done'
    proof       jsonb,                                  -- what was read back
    stage       text,                                   -- where it failed: schemas.failure.Stage
    reason      text,
    request_id  bigint,                                 -- the request that works at it; NULL: none yet
    began_at    timestamptz,
    ended_at    timestamptz,
    PRIMARY KEY (campaign_id, meter_id)
);
CREATE INDEX campaign_meters_by_meter ON campaign_meters (meter_id, campaign_id);
CREATE INDEX campaign_meters_by_state ON campaign_meters (campaign_id, wave, state);

-- Every step with an effect, written before it ('intended') and behind it ('done'); only ever added to.
CREATE TABLE campaign_steps (
    step_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id bigint NOT NULL,
    meter_id    integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    step        text NOT NULL,
    phase       text NOT NULL CHECK (phase IN ('intended', 'done', 'noted')),
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX campaign_steps_by_meter ON campaign_steps (campaign_id, meter_id, step_id);
