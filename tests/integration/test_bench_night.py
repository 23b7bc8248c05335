"""A night of the benchmark, small: real processes, all meters read and stored, costs told of each."""

import pytest

from headend.bench.night.report import as_json, marks
from headend.bench.night.run import HEADEND, measure
from headend.bench.night.service import Plan


@pytest.mark.storage
@pytest.mark.timeout(180)
async def test_a_small_county_is_read_twice_to_the_end() -> None:
    said: list[str] = []
    found = await measure(
        Plan(meters=30, simulators=2, workers=2, sample=0, every_s=1.0, idle=3, deadline_s=90), said.append
    )
    for night in (found.first, found.night):
        assert (night.counts.done, night.counts.total) == (30, 30)
        assert night.rows == 30 * 96
        assert min(night.costs[kind].cpu_s for kind in ("simulator", "worker", "postgres")) > 0
        assert night.cpu_ms(*HEADEND) > 0
    assert marks(found)[0].holds is None  # a mark of the whole county is not for thirty
    assert as_json(found)["night"]["rows"] == 30 * 96
