-- The processes of the service, and which of them has the connection of a meter that dialled in.
-- depends: 0011_jobs

-- Each process says every few seconds that it is there. What it holds it holds by leases, not by this.
CREATE TABLE workers (
    worker      text PRIMARY KEY,               -- host:pid:start, as in lanes.holder and attempts.worker
    host        text NOT NULL,
    kind        text NOT NULL,                  -- what it does: run, api, worker, ingest, scheduler
    version     text NOT NULL,
    concurrency integer NOT NULL,               -- conversations with meters at once; 0: it has none
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The last proven connection of each meter that dials in. Whoever has it works at the lane of the meter.
CREATE TABLE inbound_connections (
    meter_id integer PRIMARY KEY REFERENCES meters ON DELETE CASCADE,
    worker   text NOT NULL,
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX inbound_connections_by_worker ON inbound_connections (worker);
