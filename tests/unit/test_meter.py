import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.meter import (
    KEY_LENGTHS,
    TRANSITIONS,
    KeyPurpose,
    LifeCycleError,
    MeterState,
    NewMeter,
    Ratio,
    check_key,
    check_transition,
)


def test_every_state_is_in_the_table_and_can_be_reached():
    assert set(TRANSITIONS) == set(MeterState)
    reached, edge = set(), {MeterState.RECEIVED}
    while edge - reached:
        reached |= edge
        edge = {new for old in edge for new in TRANSITIONS[old]}
    assert reached == set(MeterState)


@pytest.mark.parametrize("old", MeterState)
@pytest.mark.parametrize("new", MeterState)
def test_only_the_tables_changes_are_allowed(old, new):
    if new in TRANSITIONS[old]:
        check_transition(old, new)
    else:
        with pytest.raises(LifeCycleError, match=f"a {old} meter cannot become {new}"):
            check_transition(old, new)


def test_key_lengths():
    assert set(KEY_LENGTHS) == set(KeyPurpose)
    for length in (16, 32):
        check_key(KeyPurpose.ENCRYPTION, bytes(length))
    for length in (0, 15, 17, 24, 31, 33):
        with pytest.raises(ValueError, match=f"16 or 32 bytes, this one has {length}"):
            check_key(KeyPurpose.AUTHENTICATION, bytes(length))
    check_key(KeyPurpose.LLS, b"1")
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        check_key(KeyPurpose.LLS, b"")


def test_new_meters_have_a_name_and_whole_titles():
    with pytest.raises(ValueError, match="asset_id"):
        NewMeter(" 4711", "generic-dlms")
    with pytest.raises(ValueError, match="8 bytes"):
        NewMeter("4711", "generic-dlms", system_title=b"short")


def test_a_ratio_is_exact_and_positive():
    since = datetime(2026, 1, 1, tzinfo=UTC)
    ratio = Ratio(since, None, Decimal(600), Decimal(5), Decimal(20000), Decimal(100))
    assert ratio.numerator / ratio.denominator == 24000
    for wrong in (Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("Infinity")):
        with pytest.raises(ValueError, match="ct_denominator"):
            Ratio(since, None, Decimal(600), wrong)


def test_the_diagram_shows_the_table():
    text = (Path(__file__).parents[2] / "schemas/DESIGN.md").read_text()
    drawn = set(re.findall(r"^    (\w+) --> (\w+)", text, re.MULTILINE))
    assert drawn == {(old.value, new.value) for old, following in TRANSITIONS.items() for new in following}
