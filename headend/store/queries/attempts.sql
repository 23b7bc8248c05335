-- name: insert
-- Attempts at meters; times in microseconds since 1970.
INSERT INTO attempts (began_at, request_id, job_id, meter_id, took_ms, bytes_out, bytes_in, rows, number, stage, fault, reason, worker)
SELECT 'epoch'::timestamptz + began_us * interval '1 microsecond', request_id, job_id, meter_id, took_ms, bytes_out, bytes_in,
       rows, number, stage, fault, reason, %(worker)s
  FROM unnest(%(began_us)s::bigint[], %(requests)s::bigint[], %(jobs)s::bigint[], %(meters)s::integer[], %(took_ms)s::integer[],
              %(bytes_out)s::integer[], %(bytes_in)s::integer[], %(rows)s::integer[], %(numbers)s::smallint[],
              %(stages)s::text[], %(faults)s::text[], %(reasons)s::text[])
       AS t (began_us, request_id, job_id, meter_id, took_ms, bytes_out, bytes_in, rows, number, stage, fault, reason);

-- name: of_meter
-- The last attempts at a meter, newest first.
SELECT began_at, request_id, job_id, meter_id, took_ms, bytes_out, bytes_in, rows, number, stage, fault, reason, worker
  FROM attempts
 WHERE meter_id = %(meter_id)s AND (%(before)s::timestamptz IS NULL OR began_at < %(before)s)
 ORDER BY began_at DESC LIMIT %(limit)s;

-- name: of_job
-- How the attempts of a job ended: counts, rows and bytes by stage and fault.
SELECT stage, fault, count(*), count(*) FILTER (WHERE number > 1), sum(rows), sum(bytes_out), sum(bytes_in)
  FROM attempts WHERE job_id = %(job_id)s GROUP BY stage, fault ORDER BY count(*) DESC;

-- name: forget
-- Some attempts that began before a time.
DELETE FROM attempts WHERE ctid IN (SELECT ctid FROM attempts WHERE began_at < %(before)s LIMIT %(limit)s);
