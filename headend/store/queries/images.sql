-- name: last_initiated
-- The last transfer of an image that was begun at a meter, in whichever campaign, and whether the meter said yes; of one that its concentrator began, whether that says that the meter has it.
SELECT facts -> 'image',
       CASE WHEN facts -> 'image' ? 'station' THEN facts ->> 'distributed' = 'holds' ELSE steps ->> 'initiate' = 'done' END
  FROM campaign_meters
 WHERE meter_id = %(meter)s AND facts ? 'image'
 ORDER BY facts -> 'image' ->> 'at' DESC
 LIMIT 1;
