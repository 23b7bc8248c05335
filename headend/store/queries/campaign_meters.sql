-- name: page
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

-- name: end
-- One meter's part is over, which is told. Nothing where it was already.
UPDATE campaign_meters
   SET state = %(state)s, reason = %(reason)s, stage = %(stage)s, proof = %(proof)s, facts = facts || %(facts)s,
       ended_at = clock_timestamp()
 WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s AND ended_at IS NULL
RETURNING meter_id, pg_notify('headend_campaigns', campaign_id::text);

-- name: requested
-- Which request works at each meter that a job was made for.
UPDATE campaign_meters m SET request_id = r.request_id
  FROM requests r
 WHERE r.job_id = %(job)s AND m.campaign_id = %(campaign)s AND m.meter_id = r.meter_id;
