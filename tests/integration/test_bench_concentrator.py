"""The benchmark of concentrators: all that is alive is read, by the product's own path, and timed."""

import pytest

from headend.bench import concentrator


@pytest.mark.timeout(180)
async def test_all_rows_are_stored_and_each_collection_is_timed() -> None:
    found = await concentrator.measure(stored=3, behind=10, rounds=1)
    assert found.rows == 3 * 960
    assert found.round_s > 0
    assert len(found.healthy_s) == len(found.dead_s) == 1
