-- Jobs and what they ask of meters; lanes, of which each has one holder; every attempt at a meter.
-- depends: 0010_meter_address

-- One run of a schedule, one read that somebody asked for, one round of back-fill.
CREATE TABLE jobs (
    job_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind           text NOT NULL CHECK (kind IN ('scheduled', 'on_demand', 'backfill')),
    schedule_id    integer,                             -- of a scheduled one; the schedule may be gone
    run_at         timestamptz,                         -- the time of the schedule that it stands for
    title          text NOT NULL,
    work           jsonb NOT NULL,                      -- list of schemas.job.Work
    retry          jsonb NOT NULL,                      -- schemas.job.Retry
    priority       smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    deadline       timestamptz NOT NULL,                -- shall be done by then: order, forecasts, reports
    drop_dead      timestamptz NOT NULL,                -- no attempt begins later
    actor          text NOT NULL,
    correlation_id text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz,                         -- nothing of it is open any more
    cancelled_at   timestamptz,
    UNIQUE (schedule_id, run_at)
);
CREATE INDEX jobs_open ON jobs (job_id) WHERE ended_at IS NULL;

-- What one job wants of one meter (of one concentrator: meter_id is the negative number of its node). While it is
-- open, its lane's holder works at it; nobody marks it as being worked at, since the lane has one holder.
CREATE TABLE requests (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id     bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    due_by     timestamptz NOT NULL,                    -- the order within an urgency: the deadline less what the priority is worth
    next_at    timestamptz NOT NULL,                    -- no attempt before
    drop_dead  timestamptz NOT NULL,                    -- no attempt begins later
    ended_at   timestamptz,
    meter_id   integer NOT NULL,
    urgency    smallint NOT NULL,                       -- headend.links.permits.Urgency: the smaller number goes first
    attempts   smallint NOT NULL DEFAULT 0,
    state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'failed', 'expired', 'cancelled')),
    lane       text NOT NULL,
    work       jsonb,                                   -- where it is not the job's: the ranges of a back-fill
    stage      text,                                    -- of the last attempt that failed: schemas.failure.Stage
    reason     text,
    result     jsonb                                    -- of on-demand reads: what came, in the words of the API
);
CREATE INDEX requests_open ON requests (lane, urgency, due_by) WHERE state = 'open';
CREATE INDEX requests_by_job ON requests (job_id, state);
CREATE INDEX requests_by_meter ON requests (meter_id, request_id);

-- Who may work at the requests of a lane: a concentrator, a bus or line, a lot of direct meters, a meter that dials in.
-- The fence grows with each holder; what is written is written under it.
CREATE TABLE lanes (
    lane       text PRIMARY KEY,
    holder     text,
    fence      bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
);

-- Every attempt at a meter; stage NULL: it gave what it was asked for.
CREATE TABLE attempts (
    began_at   timestamptz NOT NULL,
    request_id bigint,                                  -- the first of those that went through this conversation
    job_id     bigint,
    meter_id   integer NOT NULL,
    took_ms    integer NOT NULL,
    bytes_out  integer NOT NULL,
    bytes_in   integer NOT NULL,
    rows       integer NOT NULL,                        -- intervals that came
    number     smallint NOT NULL,                       -- of this request, from 1
    stage      text,
    fault      text,                                    -- whose: 'peer', 'link', 'ours'
    reason     text,
    worker     text NOT NULL
);
CREATE INDEX attempts_by_meter ON attempts (meter_id, began_at DESC);
CREATE INDEX attempts_by_job ON attempts (job_id) WHERE job_id IS NOT NULL;

-- The lane of a meter. Shared lines are one lane, whoever's meters are on them; direct meters go in lots of 500.
CREATE FUNCTION lane_of(meter_id integer, address text, station integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN meter_id < 0 THEN 'station:' || -meter_id
        WHEN address LIKE 'inbound:%' THEN 'inbound:' || meter_id
        WHEN station IS NOT NULL THEN 'station:' || station
        WHEN address ~ '^(tcp|udp|mqtt):' AND address NOT LIKE '%gateway=%' THEN 'lot:' || meter_id / 500
        ELSE 'line:' || split_part(coalesce(address, ''), '?', 1)
    END
$$;
