-- name: identify
-- Meters by what a station or a device may call them; the best match first.
SELECT DISTINCT ON (identity) identity, meter_id FROM (
    SELECT w.identity, m.meter_id, 0 AS doubt FROM meters m JOIN unnest(%(identities)s::text[]) AS w (identity)
        ON m.asset_id = w.identity
    UNION ALL
    SELECT w.identity, m.meter_id, 1 FROM meters m JOIN unnest(%(identities)s::text[]) AS w (identity)
        ON m.logical_device_name = w.identity
    UNION ALL
    SELECT w.identity, m.meter_id, 2
      FROM meters m JOIN unnest(%(titled)s::text[], %(titles)s::bytea[]) AS w (identity, title)
        ON m.system_title = w.title
    UNION ALL
    SELECT w.identity, m.meter_id, 3
      FROM meters m JOIN unnest(%(identities)s::text[], %(addresses)s::text[]) AS w (identity, address)
        ON m.address = w.address
    UNION ALL
    SELECT a.identity, a.meter_id, 4 FROM announcements a
     WHERE a.identity = ANY (%(identities)s::text[]) AND a.station IS NOT DISTINCT FROM %(station)s::integer
       AND a.state = 'accepted'
) AS found
 ORDER BY identity, doubt, meter_id;

-- name: told_again
-- What is in the inbox already: heard once more, in order of identities. What waits keeps the newest telling.
WITH mine AS (
    SELECT a.announcement_id
      FROM announcements a
     WHERE a.station IS NOT DISTINCT FROM %(station)s::integer AND a.identity = ANY (%(identities)s::text[])
     ORDER BY a.identity
       FOR UPDATE
)
UPDATE announcements a
   SET times = times + 1, last_at = greatest(last_at, %(now)s), model = coalesce(w.model, a.model),
       address = coalesce(w.address, a.address), link = coalesce(w.link, a.link), hops = w.hops,
       quality = coalesce(w.quality, a.quality), parent = w.parent
  FROM mine, unnest(%(identities)s::text[], %(models)s::text[], %(addresses)s::text[], %(links)s::text[],
                    %(hops)s::smallint[], %(qualities)s::smallint[], %(parents)s::text[])
       AS w (identity, model, address, link, hops, quality, parent)
 WHERE a.announcement_id = mine.announcement_id AND a.identity = w.identity
RETURNING a.identity;

-- name: put
-- New in the inbox, in the order given, as far as the station's part of it has room.
INSERT INTO announcements (station, identity, model, address, link, hops, quality, parent, first_at, last_at)
SELECT %(station)s, identity, model, address, link, hops, quality, parent, %(now)s, %(now)s
  FROM unnest(%(identities)s::text[], %(models)s::text[], %(addresses)s::text[], %(links)s::text[],
              %(hops)s::smallint[], %(qualities)s::smallint[], %(parents)s::text[])
       WITH ORDINALITY AS w (identity, model, address, link, hops, quality, parent, place)
 ORDER BY place
 LIMIT greatest(0, %(most)s - (SELECT count(*) FROM announcements
                                WHERE station IS NOT DISTINCT FROM %(station)s::integer AND state = 'waiting'))
    ON CONFLICT (station, identity) DO UPDATE SET times = announcements.times + 1
RETURNING identity;

-- name: beyond
-- Counts what the station's part of the inbox had no room for.
INSERT INTO announcements_beyond (station, times, last_at) VALUES (%(station)s, %(times)s, %(now)s)
    ON CONFLICT (station) DO UPDATE SET times = announcements_beyond.times + excluded.times, last_at = excluded.last_at;

-- name: settle
-- Takes out of the inbox what waits there and is a meter of ours by now.
DELETE FROM announcements WHERE identity = ANY (%(identities)s::text[]) AND state = 'waiting';

-- name: page
-- Announcements after a number in a state, oldest first.
SELECT a.announcement_id, a.station, n.code, a.identity, a.model, a.address, a.link, a.hops, a.quality, a.parent,
       a.first_at, a.last_at, a.times, a.state, a.decided_at, m.asset_id
  FROM announcements a
  LEFT JOIN network_nodes n ON n.node_id = a.station
  LEFT JOIN meters m ON m.meter_id = a.meter_id
 WHERE a.announcement_id > %(after)s AND (%(state)s::text IS NULL OR a.state = %(state)s)
   AND (%(station)s::text IS NULL OR n.code = %(station)s)
 ORDER BY a.announcement_id
 LIMIT %(limit)s;

-- name: get
-- One announcement, kept to this transaction.
SELECT a.announcement_id, a.station, n.code, a.identity, a.model, a.address, a.link, a.hops, a.quality, a.parent,
       a.first_at, a.last_at, a.times, a.state, a.decided_at, m.asset_id
  FROM announcements a
  LEFT JOIN network_nodes n ON n.node_id = a.station
  LEFT JOIN meters m ON m.meter_id = a.meter_id
 WHERE a.announcement_id = %(number)s
   FOR UPDATE OF a;

-- name: decide
-- What an engineer made of an announcement.
UPDATE announcements SET state = %(state)s, decided_at = %(now)s, meter_id = %(meter)s
 WHERE announcement_id = %(number)s;

-- name: overflow
-- What was announced beyond the bound, by station.
SELECT n.code, b.times, b.last_at
  FROM announcements_beyond b LEFT JOIN network_nodes n ON n.node_id = b.station ORDER BY n.code;
