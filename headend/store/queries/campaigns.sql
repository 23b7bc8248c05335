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

-- name: meters
-- Meters of a campaign above a number, in order: in some states or in all.
SELECT campaign_id, meter_id, wave, state, step, facts, steps, proof, stage, reason, request_id, began_at, ended_at
  FROM campaign_meters
 WHERE campaign_id = %(campaign)s AND (%(after)s::integer IS NULL OR meter_id > %(after)s)
   AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
 ORDER BY meter_id LIMIT %(limit)s;

-- name: of_meter
-- Where one meter stands in one campaign.
SELECT campaign_id, meter_id, wave, state, step, facts, steps, proof, stage, reason, request_id, began_at, ended_at
  FROM campaign_meters WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s;

-- name: steps
-- What was done at one meter, in order.
SELECT at, step, phase, detail FROM campaign_steps
 WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s ORDER BY step_id;

-- name: note
-- A step of one meter, and what is to be remembered with it. Nothing where the meter's part is over.
WITH noted AS (
    UPDATE campaign_meters
       SET step = CASE WHEN %(phase)s = 'noted' THEN step ELSE %(step)s END,
           steps = CASE WHEN %(phase)s = 'noted' THEN steps ELSE steps || jsonb_build_object(%(step)s::text, %(phase)s::text) END,
           facts = facts || %(facts)s, began_at = coalesce(began_at, clock_timestamp())
     WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s AND ended_at IS NULL
    RETURNING campaign_id, meter_id
)
INSERT INTO campaign_steps (campaign_id, meter_id, step, phase, detail)
SELECT campaign_id, meter_id, %(step)s, %(phase)s, %(facts)s FROM noted
RETURNING step_id;

-- name: state_shared
-- A campaign's state, kept as it is until the transaction ends.
SELECT state, reason FROM campaigns WHERE campaign_id = %(campaign)s FOR SHARE;

-- name: end_meter
-- One meter's part is over, which is told. Nothing where it was already.
UPDATE campaign_meters
   SET state = %(state)s, reason = %(reason)s, stage = %(stage)s, proof = %(proof)s, facts = facts || %(facts)s,
       ended_at = clock_timestamp()
 WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s AND ended_at IS NULL
RETURNING meter_id, pg_notify('headend_campaigns', campaign_id::text);

-- name: begin_wave
-- The meters of this wave may be opened.
UPDATE campaigns SET wave = %(wave)s, wave_at = clock_timestamp(), version = version + 1 WHERE campaign_id = %(campaign)s;

-- name: requested
-- Which request works at each meter that a job was made for.
UPDATE campaign_meters m SET request_id = r.request_id
  FROM requests r
 WHERE r.job_id = %(job)s AND m.campaign_id = %(campaign)s AND m.meter_id = r.meter_id;
