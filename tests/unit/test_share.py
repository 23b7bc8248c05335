"""Processes of one host share what the settings allow it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.processes.share import share
from schemas.config import Settings
from schemas.network import LinkKind


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_together_they_never_do_more_than_allowed_unless_each_does_one(whole: int, of: int) -> None:
    settings = Settings(
        collector_concurrency=whole, permits_cell=whole, permits_links={LinkKind.PLC_NARROWBAND: whole}
    )
    part = share(settings, of)
    for each in (part.collector_concurrency, part.permits_cell, *part.permits_links.values()):
        assert each >= 1
        assert of * each <= max(whole, of)
        assert of * (each + 1) > whole  # nor do they waste what would be a whole one for each
    assert part.permits_station == settings.permits_station


def test_one_process_has_all_of_it() -> None:
    settings = Settings(collector_concurrency=17)
    assert share(settings, 1) == settings
    with pytest.raises(ValueError, match="are none"):
        share(settings, 0)
