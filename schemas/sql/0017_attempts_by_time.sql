-- Attempts of the last minutes, for figures: they come in the order of time, so that a summary of blocks is enough.
-- depends: 0011_jobs

CREATE INDEX attempts_by_time ON attempts USING brin (began_at) WITH (pages_per_range = 32);
