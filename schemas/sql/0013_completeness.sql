-- Completeness: what is expected of each model, which intervals there are, the gap ledger, the report of each night.
-- depends: 0011_jobs

-- What meters of a model deliver, as their profile and driver say; the service keeps it up to date.
CREATE TABLE model_curves (
    model    text NOT NULL,
    profile  smallint NOT NULL,
    period_s integer NOT NULL CHECK (period_s > 0),
    recall   text NOT NULL CHECK (recall IN ('stored', 'sampled', 'pushed')),
    zone     text NOT NULL,                             -- periods of a day begin at its midnights
    grace_s  integer NOT NULL CHECK (grace_s >= 0),     -- an interval is expected so long after its end
    entries  integer CHECK (entries > 0),               -- rows that the meter's memory holds; NULL: not known
    PRIMARY KEY (model, profile)
);

-- Intervals that have a row, folded from the change feed: present holds all changes below the mark. Readers add those from
-- there on, so that nothing is ever late.
CREATE TABLE presence (
    meter_id integer NOT NULL,
    profile  smallint NOT NULL,
    present  tstzmultirange NOT NULL,
    PRIMARY KEY (meter_id, profile)
);
CREATE TABLE presence_mark (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    below xid8 NOT NULL
);
INSERT INTO presence_mark (below) VALUES ('0');

-- The gap ledger. missing shrinks as intervals come, or turn out to be lost, and is empty in the end.
CREATE TABLE gaps (
    gap_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    during      tstzrange NOT NULL,                     -- as it was found, and grew
    missing     tstzmultirange NOT NULL,
    lost        tstzmultirange NOT NULL DEFAULT '{}',   -- the meter was asked and has it not, or its memory has wrapped
    found_at    timestamptz NOT NULL,
    wraps_at    timestamptz,                            -- the meter's memory loses the oldest of it then
    next_try_at timestamptz NOT NULL,
    closed_at   timestamptz,
    job_id      bigint,                                 -- the last back-fill
    meter_id    integer NOT NULL REFERENCES meters,
    profile     smallint NOT NULL,
    tries       smallint NOT NULL DEFAULT 0,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'filled', 'lost', 'excused')),
    cause       text,                                   -- schemas.failure.Stage of the last failure, or why nobody asked
    reason      text,
    CHECK ((state = 'open') = (closed_at IS NULL))
);
CREATE INDEX gaps_open ON gaps (meter_id, profile) WHERE state = 'open';
CREATE INDEX gaps_due ON gaps (wraps_at, lower(during)) WHERE state = 'open';
CREATE INDEX gaps_by_meter ON gaps (meter_id, gap_id);

-- What came of each run of a schedule: when its deadline passed, and when it ended.
CREATE TABLE reports (
    report_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      bigint NOT NULL,
    schedule_id integer,
    title       text NOT NULL,
    occasion    text NOT NULL CHECK (occasion IN ('deadline', 'end')),
    made_at     timestamptz NOT NULL,
    since       timestamptz NOT NULL,                   -- of the intervals that it speaks of
    until       timestamptz NOT NULL,
    body        jsonb NOT NULL,
    UNIQUE (job_id, occasion)
);

-- Whole intervals of a period within [since, until): periods below a day are counted from 1970 UTC, days from local midnight.
CREATE FUNCTION intervals_within(since timestamptz, until timestamptz, period_s integer, zone text) RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN period_s < 86400 THEN
            greatest(0, floor(date_part('epoch', until) / period_s) - ceil(date_part('epoch', since) / period_s))::integer
        ELSE
            greatest(0, (until AT TIME ZONE zone)::date - (since AT TIME ZONE zone)::date
                        - CASE WHEN (since AT TIME ZONE zone)::time = '00:00' THEN 0 ELSE 1 END)
    END
$$;

CREATE FUNCTION intervals_within(ranges tstzmultirange, period_s integer, zone text) RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(sum(intervals_within(lower(one), upper(one), period_s, zone)), 0)::integer FROM unnest(ranges) AS one
$$;

-- A range that holds a whole interval, cut down to whole ones: what is asked for begins and ends where intervals do.
CREATE FUNCTION whole_intervals(since timestamptz, until timestamptz, period_s integer, zone text) RETURNS tstzrange
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN period_s < 86400 THEN
            tstzrange(to_timestamp(ceil(date_part('epoch', since) / period_s) * period_s),
                      to_timestamp(floor(date_part('epoch', until) / period_s) * period_s))
        ELSE
            tstzrange(((since AT TIME ZONE zone)::date
                       + CASE WHEN (since AT TIME ZONE zone)::time = '00:00' THEN 0 ELSE 1 END)::timestamp AT TIME ZONE zone,
                      (until AT TIME ZONE zone)::date::timestamp AT TIME ZONE zone)
    END
$$;

-- Rows of days end 24 hours after they begin, as their period says: an hour off, where the clock is changed.
CREATE FUNCTION nearest_midnight(moment timestamptz, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ((moment + interval '12 hours') AT TIME ZONE zone)::date::timestamp AT TIME ZONE zone
$$;

-- Of each meter's curves, in [begins, ends): what is expected at a moment (only while it is commissioned and, where its
-- installations are known, installed; what has ended by then), what there is, and what was asked for and answered. Periods
-- longer than a day are nobody's contract.
CREATE FUNCTION curve_ranges(begins timestamptz, ends timestamptz, moment timestamptz, chosen integer[])
RETURNS TABLE (meter_id integer, profile smallint, period_s integer, zone text, recall text, entries integer,
               expected tstzmultirange, present tstzmultirange, covered tstzmultirange)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH life AS (
        SELECT s.meter_id, range_agg(tstzrange(s.since, s.next)) AS commissioned
          FROM (SELECT t.meter_id, t.state, t.since, lead(t.since) OVER (PARTITION BY t.meter_id ORDER BY t.since) AS next
                  FROM meter_states t WHERE chosen IS NULL OR t.meter_id = ANY (chosen)) s
         WHERE s.state = 'commissioned' AND s.since < ends AND (s.next IS NULL OR s.next > begins)
         GROUP BY s.meter_id
    ), place AS (
        SELECT i.meter_id, range_agg(i.during) AS installed
          FROM installations i WHERE chosen IS NULL OR i.meter_id = ANY (chosen) GROUP BY i.meter_id
    ), fresh AS (
        SELECT c.meter_id, c.profile, range_agg(c.during) AS added
          FROM changes c
         WHERE c.xid >= (SELECT below FROM presence_mark) AND c.kind = 'new'
           AND (chosen IS NULL OR c.meter_id = ANY (chosen))
         GROUP BY c.meter_id, c.profile
    )
    SELECT m.meter_id, c.profile, c.period_s, c.zone, c.recall, c.entries,
           tstzmultirange(tstzrange(begins, least(ends, greatest(begins, moment - make_interval(secs => c.grace_s)))))
               * life.commissioned * coalesce(place.installed, '{(,)}'),
           CASE WHEN c.period_s < 86400 THEN had.rows
                ELSE coalesce((SELECT range_agg(tstzrange(nearest_midnight(lower(one), c.zone),
                                                          nearest_midnight(upper(one), c.zone)))
                                 FROM unnest(had.rows) AS one), '{}') END,
           coalesce(v.covered, '{}')
      FROM life
      JOIN meters m ON m.meter_id = life.meter_id
      JOIN model_curves c ON c.model = m.model AND c.period_s <= 86400
      LEFT JOIN place ON place.meter_id = m.meter_id
      LEFT JOIN presence p ON p.meter_id = m.meter_id AND p.profile = c.profile
      LEFT JOIN fresh f ON f.meter_id = m.meter_id AND f.profile = c.profile
      LEFT JOIN coverage v ON v.meter_id = m.meter_id AND v.profile = c.profile
     CROSS JOIN LATERAL (SELECT CASE WHEN f.added IS NULL THEN coalesce(p.present, '{}')
                                     ELSE coalesce(p.present, '{}') + f.added END) had (rows)
$$;

-- The same in numbers of intervals, one row for each meter and curve of which something is expected. lost: it was asked for
-- and is not there; open: it was not had yet. What of one interval is there in part is neither.
CREATE FUNCTION completeness_of(begins timestamptz, ends timestamptz, moment timestamptz, chosen integer[])
RETURNS TABLE (meter_id integer, profile smallint, recall text, expected integer, present integer, lost integer,
               open integer, first_open timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH ranges AS MATERIALIZED (
        SELECT c.meter_id, c.profile, c.recall, c.period_s, c.zone, c.expected, c.covered,
               CASE WHEN c.present @> c.expected THEN '{}' ELSE c.expected - c.present END AS rest
          FROM curve_ranges(begins, ends, moment, chosen) c
    ), counted AS MATERIALIZED (
        SELECT meter_id, profile, recall,
               (SELECT coalesce(sum(intervals_within(lower(one), upper(one), period_s, zone)), 0)::integer
                  FROM unnest(ranges.expected) AS one) AS expected,
               CASE WHEN isempty(rest) THEN 0 ELSE intervals_within(rest, period_s, zone) END AS missing,
               CASE WHEN isempty(rest) THEN 0 ELSE intervals_within(rest * covered, period_s, zone) END AS lost,
               lower(rest - covered) AS first_open
          FROM ranges
    )
    SELECT meter_id, profile, recall, expected, expected - missing, lost, missing - lost,
           CASE WHEN missing > lost THEN first_open END
      FROM counted WHERE expected > 0
$$;

-- Why a meter's intervals are not had: the stage of the last failure, or why nobody has asked.
CREATE FUNCTION cause_of(meter integer, recall text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT coalesce(r.stage, CASE r.state WHEN 'open' THEN 'waiting' WHEN 'expired' THEN 'no_time' END)
           FROM requests r WHERE r.meter_id = meter AND r.state <> 'cancelled' ORDER BY r.request_id DESC LIMIT 1),
        (SELECT s.stage FROM link_states s WHERE s.kind = 'meter' AND s.id = meter::text),
        CASE recall WHEN 'pushed' THEN 'not_pushed' WHEN 'sampled' THEN 'not_sampled' END,
        (SELECT 'no_address' FROM meters m WHERE m.meter_id = meter AND m.address IS NULL),
        'not_asked')
$$;
