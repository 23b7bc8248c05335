-- name: latest
-- The latest value of each register of a meter.
SELECT DISTINCT ON (obis, attribute) obis, attribute, read_at, meter_time, value, text, unit, quality, from_float
  FROM register_reads
 WHERE meter_id = %(meter)s
 ORDER BY obis, attribute, read_at DESC;

-- name: history
-- Values of one register read in a half-open range, oldest first, from a cursor (time, attribute) on.
SELECT obis, attribute, read_at, meter_time, value, text, unit, quality, from_float
  FROM register_reads
 WHERE meter_id = %(meter)s AND obis = %(obis)s AND read_at >= %(start)s AND read_at < %(end)s
   AND (read_at, attribute) > (%(after_time)s, %(after_attribute)s)
 ORDER BY read_at, attribute
 LIMIT %(limit)s;
