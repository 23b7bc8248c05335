-- name: latest
-- The latest value of each register of a meter: from one register's name to the next by the index, never through its history.
WITH RECURSIVE named AS (
    (SELECT obis, attribute FROM register_reads WHERE meter_id = %(meter)s ORDER BY obis, attribute LIMIT 1)
    UNION ALL
    SELECT following.obis, following.attribute
      FROM named
     CROSS JOIN LATERAL (SELECT r.obis, r.attribute
                           FROM register_reads r
                          WHERE r.meter_id = %(meter)s AND (r.obis, r.attribute) > (named.obis, named.attribute)
                          ORDER BY r.obis, r.attribute LIMIT 1) following
)
SELECT latest.*
  FROM named
 CROSS JOIN LATERAL (SELECT r.obis, r.attribute, r.read_at, r.meter_time, r.value, r.text, r.unit, r.quality,
                            r.from_float
                       FROM register_reads r
                      WHERE r.meter_id = %(meter)s AND r.obis = named.obis AND r.attribute = named.attribute
                      ORDER BY r.read_at DESC LIMIT 1) latest
 ORDER BY latest.obis, latest.attribute;

-- name: history
-- Values of one register read in a half-open range, oldest first, from a cursor (time, attribute) on.
SELECT obis, attribute, read_at, meter_time, value, text, unit, quality, from_float
  FROM register_reads
 WHERE meter_id = %(meter)s AND obis = %(obis)s AND read_at >= %(start)s AND read_at < %(end)s
   AND (read_at, attribute) > (%(after_time)s, %(after_attribute)s)
 ORDER BY read_at, attribute
 LIMIT %(limit)s;
