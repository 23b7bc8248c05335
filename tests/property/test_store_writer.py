"""Any sequence of batches leaves the tables as a simple model of them: a dictionary, row by row."""

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend.store.pool import open_pool
from headend.store.writer import Written, write
from schemas.reading import NO_STATUS, Channel, ChannelLayout, ReadingBatch

START_US = 1_772_323_200_000_000
PERIOD_US = 900_000_000
LAYOUT = ChannelLayout(
    (Channel("a", "1-0:1.8.0*255", 0, "Wh"), Channel("b", "1-0:2.8.0*255", 0, "Wh"), None, None)
)

VALUE = st.none() | st.integers(0, 2)
ROW = st.tuples(
    st.integers(0, 2), st.integers(1, 2), st.integers(0, 7), VALUE, VALUE
)  # meter, profile, place, values
RANGE = st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(0, 7), st.integers(1, 4))
BATCHES = st.lists(st.tuples(st.lists(ROW, max_size=12), st.lists(RANGE, max_size=2)), min_size=1, max_size=6)

Key = tuple[int, int, int]
Values = tuple[int | None, int | None]


@dataclass
class Model:
    rows: dict[Key, Values] = field(default_factory=dict)
    revisions: list[tuple[Key, int, Values]] = field(default_factory=list)
    fragments: set[tuple[Key, Values]] = field(default_factory=set)
    covered: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def write(self, rows, ranges) -> Written:
        counts = dict.fromkeys(("new", "completed", "corrected", "repeated", "fragments"), 0)
        first: dict[Key, Values] = {}
        for meter, profile, place, *values in rows:
            key, value = (meter, profile, place), (values[0], values[1])
            if key in first:
                if value == first[key] or (key, value) in self.fragments:
                    counts["repeated"] += 1
                else:
                    self.fragments.add((key, value))
                    counts["fragments"] += 1
            else:
                first[key] = value
                counts[self._store(key, value)] += 1
        covered = 0
        before = {pair: set(places) for pair, places in self.covered.items()}
        for meter, profile, since, length in ranges:
            self.covered.setdefault((meter, profile), set()).update(range(since, since + length))
        covered = sum(places != before.get(pair, set()) for pair, places in self.covered.items())
        return Written(None, covered=covered, **counts)

    def _store(self, key: Key, new: Values) -> str:
        if key not in self.rows:
            self.rows[key] = new
            return "new"
        old = self.rows[key]
        merged = tuple(o if n is None else n for o, n in zip(old, new, strict=True))
        if merged == old:
            return "repeated"
        self.rows[key] = (merged[0], merged[1])
        if all(o is None or o == m for o, m in zip(old, merged, strict=True)):
            return "completed"
        self.revisions.append((key, 1 + sum(k == key for k, _, _ in self.revisions), old))
        return "corrected"


def as_batch(ids: list[int], rows, ranges) -> ReadingBatch:
    n = len(rows)
    place = np.array([row[2] for row in rows], dtype=np.int64)
    values, valid = np.zeros((n, 4), dtype=np.int64), np.zeros((n, 4), dtype=np.bool_)
    for i, row in enumerate(rows):
        for k, value in enumerate(row[3:]):
            if value is not None:
                values[i, k], valid[i, k] = value, True
    start = START_US + place * PERIOD_US
    return ReadingBatch(
        meter_id=np.array([ids[row[0]] for row in rows], dtype=np.int32),
        profile=np.array([row[1] for row in rows], dtype=np.int16),
        start_us=start,
        period_s=np.full(n, 900, dtype=np.int32),
        stamp_us=start + PERIOD_US,
        amr_status=np.full(n, NO_STATUS, dtype=np.int64),
        clock_status=np.full(n, NO_STATUS, dtype=np.int16),
        quality=np.zeros(n, dtype=np.int16),
        fragment=np.zeros(n, dtype=np.int8),
        layout=np.zeros(n, dtype=np.int16),
        values=values,
        valid=valid,
        layouts=(LAYOUT,),
        covered_us=tuple(
            (ids[meter], profile, START_US + since * PERIOD_US, START_US + (since + length) * PERIOD_US)
            for meter, profile, since, length in ranges
        ),
    )


def stored(dsn: str, ids: list[int]) -> Model:
    place = f"((extract(epoch FROM start) - {START_US // 10**6}) / 900)::integer"
    with psycopg.connect(dsn) as connection:

        def rows(text: str) -> list[tuple]:
            return connection.execute(text).fetchall()

        key = f"meter_id, profile, {place}, active_import, active_export"
        model = Model()
        for meter, profile, at, *values in rows(f"SELECT {key} FROM interval_reads"):
            model.rows[ids.index(meter), profile, at] = (values[0], values[1])
        for meter, profile, at, a, b, revision in rows(f"SELECT {key}, revision FROM interval_revisions"):
            model.revisions.append(((ids.index(meter), profile, at), revision, (a, b)))
        for meter, profile, at, a, b in rows(f"SELECT {key} FROM interval_fragments"):
            model.fragments.add(((ids.index(meter), profile, at), (a, b)))
        for meter, profile, covered in rows(
            "SELECT meter_id, profile, covered FROM coverage WHERE covered <> '{}'"
        ):
            model.covered[ids.index(meter), profile] = {
                place
                for span in covered
                for place in range(
                    round((span.lower.timestamp() * 10**6 - START_US) / PERIOD_US),
                    round((span.upper.timestamp() * 10**6 - START_US) / PERIOD_US),
                )
            }
    return model


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES)
def test_the_tables_are_what_the_model_says(database, batches):
    with psycopg.connect(database.dsn) as connection:
        connection.execute(
            """TRUNCATE meters, coverage, batches, interval_reads, interval_fragments, interval_revisions,
                        changes CASCADE"""
        )
        made = connection.execute(
            """INSERT INTO meters (asset_id, model) SELECT i, 'x' FROM generate_series(1, 3) i
               RETURNING 1, meter_id"""
        )
        ids = [meter_id for _, meter_id in made]

    async def run() -> None:
        model = Model()
        async with open_pool(database.dsn, max_size=1) as pool:
            for rows, ranges in batches:
                batch = as_batch(ids, rows, ranges)
                expected = model.write(rows, ranges)
                written = await write(pool, batch)
                assert replace(written, batch_id=None) == expected
                assert (written.batch_id is None) == (expected == Written(None, repeated=expected.repeated))
        found = stored(database.dsn, ids)
        assert found.rows == model.rows
        assert sorted(found.revisions, key=str) == sorted(model.revisions, key=str)
        assert found.fragments == model.fragments
        assert found.covered == model.covered
        check_feed()

    def check_feed() -> None:
        """Every row that has a batch was told to the feed, under that batch."""
        with psycopg.connect(database.dsn) as connection:
            silent = connection.execute(
                """SELECT 1 FROM interval_reads r WHERE NOT EXISTS (
                       SELECT FROM changes c WHERE c.batch_id = r.batch_id AND c.meter_id = r.meter_id
                       AND c.profile = r.profile AND c.during @> r.start)"""
            ).fetchone()
        assert silent is None

    asyncio.run(run())
