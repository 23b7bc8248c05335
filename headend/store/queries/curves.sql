-- name: meter_state
-- How many rows a meter's range holds, a fingerprint of which batch brought each, the layouts in use, the row before.
SELECT count(*) FILTER (WHERE start >= %(start)s),
       coalesce(sum(hashint8extended(batch_id, extract(epoch FROM start)::bigint)::numeric), 0)::text,
       coalesce(array_agg(DISTINCT layout_id), '{}'),
       max(start) FILTER (WHERE start < %(start)s)
  FROM interval_reads
 WHERE meter_id = %(meter)s AND profile = %(profile)s AND start < %(end)s
   -- said twice: the first bound lets the planner leave out older chunks, which the second cannot
   AND start >= %(start)s::timestamptz - interval '32 days'
   AND start >= coalesce((SELECT max(b.start)
                            FROM interval_reads b
                           WHERE b.meter_id = %(meter)s AND b.profile = %(profile)s
                             AND b.start < %(start)s AND b.start >= %(start)s - interval '32 days'), %(start)s);

-- name: meter_rows
-- A meter's intervals from the row before the range on, in order of time.
SELECT start, stamp, period_s, meter_id, layout_id, quality, amr_status, clock_status,
       active_import, active_export, reactive_import, reactive_export
  FROM interval_reads
 WHERE meter_id = %(meter)s AND profile = %(profile)s AND start >= %(first)s AND start < %(end)s
 ORDER BY start;

-- name: point_installations
-- Who was installed at a point, when, and with which readings, in a range widened to the row before it. Ends are NULL where open.
SELECT i.meter_id, m.asset_id, lower(i.during), upper(i.during), i.start_registers, i.removal_registers
  FROM installations i
  JOIN meters m USING (meter_id)
 WHERE i.point_id = %(point)s
   AND i.during && tstzrange(%(start)s - interval '64 days', %(end)s + interval '32 days')
 ORDER BY lower(i.during);

-- name: point_ratios
-- Transformer ratios of a point that touch a range; the end is NULL where open.
SELECT lower(during), upper(during), ct_numerator, ct_denominator, vt_numerator, vt_denominator
  FROM transformer_ratios
 WHERE point_id = %(point)s AND during && tstzrange(%(start)s, %(end)s + interval '32 days')
 ORDER BY lower(during);

-- name: point_state
-- As meter_state, for the rows whose reading was taken while their meter was installed at the point.
WITH installed AS (
    SELECT r.start, r.batch_id, r.layout_id
      FROM interval_reads r
      JOIN installations i ON i.meter_id = r.meter_id AND i.point_id = %(point)s
     WHERE r.profile = %(profile)s AND r.start < %(end)s AND r.start >= %(start)s - interval '32 days'
       AND coalesce(r.start + make_interval(secs => r.period_s) > lower(i.during), true)
       AND coalesce(r.start + make_interval(secs => r.period_s) <= upper(i.during), true)
)
SELECT count(*) FILTER (WHERE start >= %(start)s),
       coalesce(sum(hashint8extended(batch_id, extract(epoch FROM start)::bigint)::numeric), 0)::text,
       coalesce(array_agg(DISTINCT layout_id), '{}'),
       max(start) FILTER (WHERE start < %(start)s)
  FROM installed
 WHERE start >= coalesce((SELECT max(b.start) FROM installed b WHERE b.start < %(start)s), %(start)s);

-- name: point_rows
-- As meter_rows: an interval belongs to the meter that was installed at its end, where the reading was taken.
SELECT r.start, r.stamp, r.period_s, r.meter_id, r.layout_id, r.quality, r.amr_status, r.clock_status,
       r.active_import, r.active_export, r.reactive_import, r.reactive_export
  FROM interval_reads r
  JOIN installations i ON i.meter_id = r.meter_id AND i.point_id = %(point)s
 WHERE r.profile = %(profile)s AND r.start >= %(first)s AND r.start < %(end)s
   AND coalesce(r.start + make_interval(secs => r.period_s) > lower(i.during), true)
   AND coalesce(r.start + make_interval(secs => r.period_s) <= upper(i.during), true)
 ORDER BY r.start, r.meter_id;

-- name: clock_changes
-- Between which moments of their clocks the meters of a curve were changed, near a range; those of which nobody knows whether they took effect too.
SELECT meter_id, lower(affected), upper(affected)
  FROM clock_changes
 WHERE meter_id = ANY(%(meters)s::integer[]) AND took_effect IS DISTINCT FROM false
   AND affected && tstzrange(%(start)s, %(end)s + interval '32 days')
 ORDER BY meter_id, lower(affected);

-- name: layouts
-- What the value columns of some layouts mean.
SELECT layout_id, channels FROM channel_layouts WHERE layout_id = ANY(%(layouts)s);

-- name: point_id
-- A metering point by its code.
SELECT point_id FROM metering_points WHERE code = %(code)s;
