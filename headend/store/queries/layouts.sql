-- name: find
-- Ids of those layouts that are there, with the text they were asked by.
SELECT asked.text, layout_id
FROM unnest(%(layouts)s::text[]) AS asked (text)
JOIN channel_layouts ON channels = asked.text::jsonb;

-- name: insert
-- Make the layouts that are not there yet, in the order given.
INSERT INTO channel_layouts (channels)
SELECT asked.text::jsonb FROM unnest(%(layouts)s::text[]) WITH ORDINALITY AS asked (text, place) ORDER BY place
ON CONFLICT (channels) DO NOTHING;
