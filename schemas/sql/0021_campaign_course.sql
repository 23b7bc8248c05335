-- How campaigns go on: which station a meter is behind, from when on failures are counted.
-- depends: 0020_programs

-- The node of the station that the meter was behind when it was proposed; NULL: it answers directly. Limits per station go by it.
ALTER TABLE campaign_meters ADD COLUMN station integer;
-- What ended before is counted no more when it is judged whether too many fail: a person had it go on all the same.
ALTER TABLE campaigns ADD COLUMN judged_from timestamptz;

-- Which campaigns are at a meter now.
CREATE INDEX campaign_meters_open ON campaign_meters (campaign_id, meter_id) WHERE ended_at IS NULL;
