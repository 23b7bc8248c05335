-- name: last_initiated
-- The last transfer of an image that was begun at a meter, in whichever campaign, and whether the meter said yes.
SELECT facts -> 'image', steps ->> 'initiate' = 'done'
  FROM campaign_meters
 WHERE meter_id = %(meter)s AND facts ? 'image'
 ORDER BY facts -> 'image' ->> 'at' DESC
 LIMIT 1;
