-- name: create
-- A campaign that is proposed.
INSERT INTO campaigns (program_id, title, plan, digest, state, actor, correlation_id)
VALUES (%(program)s, %(title)s, %(plan)s, %(digest)s, 'proposed', %(actor)s, %(correlation_id)s)
RETURNING campaign_id;

-- name: add_meters
-- The meters of a campaign, each in its wave; those that are not fit for it are told why at once.
INSERT INTO campaign_meters (campaign_id, meter_id, wave, state, reason, station, ended_at)
SELECT %(campaign)s, t.meter_id, t.wave, t.state, t.reason, t.station, CASE WHEN t.state <> 'waiting' THEN clock_timestamp() END
  FROM unnest(%(meters)s::integer[], %(waves)s::smallint[], %(states)s::text[], %(reasons)s::text[], %(stations)s::integer[])
       AS t (meter_id, wave, state, reason, station);

-- name: know_them
-- Have the planner know how many meters there are by now.
ANALYZE campaign_meters;

-- name: find
-- One campaign by its number.
SELECT campaign_id, program_id, title, plan, digest, state, reason, wave, wave_at, version, actor, correlation_id,
       created_at, started_at, ended_at, judged_from
  FROM campaigns WHERE campaign_id = %(campaign)s;

-- name: lock
-- The same, kept from others until the transaction ends.
SELECT campaign_id, program_id, title, plan, digest, state, reason, wave, wave_at, version, actor, correlation_id,
       created_at, started_at, ended_at, judged_from
  FROM campaigns WHERE campaign_id = %(campaign)s FOR UPDATE;

-- name: page
-- Campaigns below a number, newest first: in some states or in all, of one program kind or of all; all of whose meters
-- are among some, or all.
SELECT c.campaign_id, c.program_id, c.title, c.plan, c.digest, c.state, c.reason, c.wave, c.wave_at, c.version, c.actor,
       c.correlation_id, c.created_at, c.started_at, c.ended_at, c.judged_from
  FROM campaigns c JOIN programs p USING (program_id)
 WHERE (%(before)s::bigint IS NULL OR c.campaign_id < %(before)s)
   AND (%(states)s::text[] IS NULL OR c.state = ANY (%(states)s))
   AND (%(kind)s::text IS NULL OR p.kind = %(kind)s)
   AND (%(within)s::integer[] IS NULL OR NOT EXISTS (
        SELECT FROM campaign_meters m WHERE m.campaign_id = c.campaign_id AND m.meter_id <> ALL (%(within)s::integer[])))
 ORDER BY c.campaign_id DESC LIMIT %(limit)s;

-- name: outside
-- Whether a meter of a campaign, or a concentrator, is not among some.
SELECT EXISTS (SELECT FROM campaign_meters
                WHERE campaign_id = %(campaign)s AND meter_id <> ALL (%(within)s::integer[]));

-- name: move
-- Another state, from one of these, which is told; nothing where it is in none of them.
UPDATE campaigns
   SET state = %(state)s, reason = %(reason)s, version = version + 1,
       started_at = CASE WHEN %(state)s = 'running' THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,
       ended_at = CASE WHEN %(state)s IN ('done', 'aborted', 'refused') THEN clock_timestamp() END
 WHERE campaign_id = %(campaign)s AND state = ANY (%(before)s)
RETURNING version, pg_notify('headend_campaigns', campaign_id::text);

-- name: counts
-- How many meters are in which state, by campaign and wave.
SELECT campaign_id, wave, state, count(*) FROM campaign_meters
 WHERE campaign_id = ANY (%(campaigns)s) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- name: state_shared
-- A campaign's state, kept as it is until the transaction ends.
SELECT state, reason FROM campaigns WHERE campaign_id = %(campaign)s FOR SHARE;

-- name: begin_wave
-- The meters of this wave may be opened.
UPDATE campaigns SET wave = %(wave)s, wave_at = clock_timestamp(), version = version + 1 WHERE campaign_id = %(campaign)s;
