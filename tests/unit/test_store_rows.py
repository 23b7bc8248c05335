"""Rows of a batch laid out for COPY: whole, in a run, scattered; ranges written with each time once."""

from dataclasses import replace

import numpy as np
import pytest

from headend.bench.store import day_of
from headend.store import rows
from schemas.reading import concatenate

IDS = np.array([7], np.int32)


def taken(batch, index):
    """The batch of these rows alone."""
    names = [name for name in batch.__slots__ if isinstance(getattr(batch, name), np.ndarray)]
    return replace(batch, **{name: getattr(batch, name)[index] for name in names})


def stream(batch, index):
    return b"".join(rows.copy_rows(batch, index, IDS, 1))


@pytest.mark.parametrize(
    "index",
    [
        np.arange(192),
        np.arange(5, 90),
        np.array([3]),
        np.array([0, 2, 3, 191]),
        np.array([0, 2, 1, 3]),
        np.array([2, 1, 0, 3, 5]),
        np.array([], dtype=np.intp),
    ],
)
def test_rows_are_laid_out_in_the_order_of_the_index(index):
    batch = day_of(1, 2, 0)
    alone = taken(batch, index)
    assert stream(batch, index) == stream(alone, np.arange(len(index)))


def test_ranges_write_times_that_repeat():
    ranges = rows.Ranges([1, 2, 3], [1, 1, 1], [0, 900_000_000, 0], [900_000_000, 1_800_000_001, 900_000_000])
    found = ranges.parameters()
    first, second = "1970-01-01T00:00:00.000000Z", "1970-01-01T00:15:00.000000Z"
    assert found["froms"] == f"{{{first},{second},{first}}}"
    assert found["tos"] == f"{{{second},1970-01-01T00:30:00.000001Z,{second}}}"
    assert rows.Ranges([], [], [], []).parameters()["froms"] == "{}"


def test_layouts_of_equal_meaning_become_one():
    one, two = day_of(1, 1, 0), day_of(2, 1, 0)
    (layout,) = one.layouts
    other = replace(layout, channels=(None, *layout.channels[1:]))
    same = replace(layout)  # equal, and another object
    two = replace(two, layouts=(other, same), layout=np.arange(96, dtype=np.int16) % 2)
    merged = concatenate([one, two, one], source="x")
    assert merged.layouts == (layout, other)
    assert merged.layout.tolist() == [0] * 96 + [1, 0] * 48 + [0] * 96
