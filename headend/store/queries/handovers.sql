-- name: ask
-- A meter shall have the image from its concentrator, which is to be looked at now.
WITH share AS (
    INSERT INTO station_shares (campaign_id, meter_id, station, package, gateway, block_size, state)
    VALUES (%(campaign)s, %(meter)s, %(station)s, %(package)s, %(gateway)s, %(block_size)s, 'asked')
    ON CONFLICT DO NOTHING
)
INSERT INTO station_images (station, package, look_at) VALUES (%(station)s, %(package)s, %(now)s)
ON CONFLICT (station) DO UPDATE SET look_at = least(station_images.look_at, excluded.look_at);

-- name: share
-- What of an image from its concentrator a meter was asked for, and when that is looked at next.
SELECT s.campaign_id, s.meter_id, s.station, s.package, s.gateway, s.block_size, s.state, s.reason, s.told_at, i.look_at
  FROM station_shares s JOIN station_images i USING (station)
 WHERE s.campaign_id = %(campaign)s AND s.meter_id = %(meter)s;

-- name: shares
-- What a concentrator is still to do, in the order in which it was asked for.
SELECT s.campaign_id, s.meter_id, s.station, s.package, s.gateway, s.block_size, s.state, s.reason, s.told_at, i.look_at
  FROM station_shares s JOIN station_images i USING (station)
 WHERE s.station = %(station)s AND s.ended_at IS NULL
 ORDER BY s.asked_at, s.campaign_id, s.meter_id;

-- name: states
-- In which states the campaigns of what a concentrator is still to do are, kept as they are until the transaction ends.
SELECT c.campaign_id, c.state FROM campaigns c
 WHERE c.campaign_id IN (SELECT campaign_id FROM station_shares WHERE station = %(station)s AND ended_at IS NULL)
 ORDER BY c.campaign_id FOR SHARE;

-- name: over
-- Meters that are still to have an image from a concentrator, and whose part in their campaign is over.
SELECT s.campaign_id, s.meter_id FROM station_shares s JOIN campaign_meters m USING (campaign_id, meter_id)
 WHERE s.station = %(station)s AND s.ended_at IS NULL AND m.ended_at IS NOT NULL;

-- name: image
-- Where a concentrator stands with the image that it is given.
SELECT package, facts, steps FROM station_images WHERE station = %(station)s;

-- name: serve
-- A concentrator is given another package, or the same anew: of the former only what was initiated last is remembered.
UPDATE station_images
   SET package = %(package)s,
       facts = CASE WHEN facts ? 'image' THEN jsonb_build_object('image', facts -> 'image') ELSE '{}' END,
       steps = CASE WHEN steps ? 'initiate' THEN jsonb_build_object('initiate', steps -> 'initiate') ELSE '{}' END
 WHERE station = %(station)s;

-- name: note
-- A step that was taken at a concentrator, and what is to be remembered with it.
WITH noted AS (
    UPDATE station_images
       SET steps = CASE WHEN %(phase)s = 'noted' THEN steps ELSE steps || jsonb_build_object(%(step)s::text, %(phase)s::text) END,
           facts = facts || %(facts)s
     WHERE station = %(station)s
    RETURNING station
)
INSERT INTO campaign_steps (campaign_id, meter_id, step, phase, detail)
SELECT %(campaign)s, -station, %(step)s, %(phase)s, %(facts)s FROM noted;

-- name: tell
-- The concentrator is about to be told of this meter.
UPDATE station_shares SET state = 'told', told_at = %(now)s WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s AND state = 'asked';

-- name: end
-- The concentrator is done with this meter.
UPDATE station_shares SET state = %(state)s, reason = %(reason)s, ended_at = clock_timestamp()
 WHERE campaign_id = %(campaign)s AND meter_id = %(meter)s AND ended_at IS NULL;

-- name: look_at
-- When a concentrator is looked at next.
UPDATE station_images SET look_at = %(look_at)s WHERE station = %(station)s;

-- name: bring_on
-- These meters of a campaign are visited from a time on, if not before; the lanes, to be woken. Requests that somebody is just settling are left to him.
WITH due AS (
    UPDATE requests SET next_at = %(at)s
     WHERE request_id IN (SELECT r.request_id FROM campaign_meters m JOIN requests r USING (request_id)
                           WHERE m.campaign_id = %(campaign)s AND m.meter_id = ANY (%(meters)s::integer[])
                             AND r.state = 'open' AND r.next_at > %(at)s
                           ORDER BY r.request_id FOR UPDATE OF r SKIP LOCKED)
    RETURNING lane
)
SELECT DISTINCT lane FROM due ORDER BY lane;
