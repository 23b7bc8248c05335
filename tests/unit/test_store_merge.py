"""What a second row of one interval means."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from headend.store.merge import Row, Verdict, merge
from schemas.reading import Channel, ChannelLayout, Kind, Quality

WH = Channel("active_import", "1-0:1.8.0*255", 0, "Wh")
TEN_WH = replace(WH, scaler=1)
VARH = Channel("reactive_import", "1-0:3.8.0*255", 0, "varh")
FULL = ChannelLayout((WH, None, VARH, None))
STORED = Row(datetime(2026, 3, 1, tzinfo=UTC), (120, None, 0, None), 900, FULL, 0, None, 0)


def test_the_same_again_is_repeated_whatever_its_quality():
    again = replace(STORED, quality=1, clock_status=128, stamp=datetime(2026, 3, 2, tzinfo=UTC))
    assert merge(STORED, again) == (Verdict.REPEATED, STORED)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"values": (121, None, 0, None)}, Verdict.CORRECTION),
        ({"values": (0, None, 0, None)}, Verdict.CORRECTION),
        ({"values": (None, None, None, None)}, Verdict.REPEATED),
        ({"amr_status": 1}, Verdict.CORRECTION),
        ({"amr_status": None}, Verdict.REPEATED),
        ({"period_s": 3600}, Verdict.CORRECTION),
        (
            {"layout": ChannelLayout((TEN_WH, None, VARH, None)), "values": (12, None, 0, None)},
            Verdict.REPEATED,
        ),
        ({"layout": ChannelLayout((TEN_WH, None, VARH, None))}, Verdict.CORRECTION),
        ({"layout": ChannelLayout((replace(WH, unit="VAh"), None, VARH, None))}, Verdict.CORRECTION),
        ({"layout": ChannelLayout((replace(WH, kind=Kind.INTERVAL), None, VARH, None))}, Verdict.CORRECTION),
    ],
)
def test_differences(change, verdict):
    assert merge(STORED, replace(STORED, **change))[0] is verdict


@pytest.mark.parametrize(
    ("stored", "new", "verdict"),
    [
        (Quality.ESTIMATED, Quality.MEASURED, Verdict.COMPLETION),
        (Quality.ESTIMATED, Quality.MANUAL, Verdict.COMPLETION),
        (Quality.MANUAL, Quality.MEASURED, Verdict.COMPLETION),
        (Quality.MANUAL, Quality.HANDHELD, Verdict.COMPLETION),
        (Quality.SAMPLED, Quality.PUSHED, Verdict.COMPLETION),
        (Quality.PUSHED, Quality.MEASURED, Verdict.REPEATED),
        (Quality.MEASURED, Quality.ESTIMATED, Verdict.REPEATED),
        (Quality.HANDHELD, Quality.MANUAL, Verdict.REPEATED),
    ],
)
def test_the_same_values_from_a_better_source_make_the_row_better(stored, new, verdict):
    later = datetime(2026, 3, 2, tzinfo=UTC)
    before = replace(STORED, quality=stored)
    found, merged = merge(before, replace(STORED, quality=new, stamp=later))
    assert found is verdict
    better = verdict is Verdict.COMPLETION
    assert merged == (replace(before, quality=new, stamp=later) if better else before)


def test_a_row_is_as_good_as_the_worst_of_its_values():
    guess = replace(STORED, quality=Quality.ESTIMATED)
    part = replace(STORED, values=(120, None, None, None))
    assert merge(guess, part) == (Verdict.REPEATED, guess)  # the other value is still a guess
    verdict, merged = merge(
        replace(part, quality=Quality.ESTIMATED), replace(STORED, values=(None, None, 0, None))
    )
    assert (verdict, merged.quality) == (Verdict.COMPLETION, Quality.ESTIMATED)
    assert merge(part, guess)[1].quality == Quality.ESTIMATED
    assert merge(guess, replace(STORED, values=(121, None, 0, None)))[1].quality == Quality.MEASURED
    assert merge(guess, replace(STORED, values=(None, None, None, None)))[1].quality == Quality.ESTIMATED


def test_null_to_zero_is_a_completion():
    stored = replace(STORED, values=(None, None, None, None), amr_status=None)
    verdict, merged = merge(stored, STORED)
    assert verdict is Verdict.COMPLETION
    assert (merged.values, merged.amr_status) == ((120, None, 0, None), 0)


def test_each_value_keeps_the_channel_it_came_with():
    only_active = ChannelLayout((TEN_WH, None, None, None))
    new = replace(STORED, values=(13, None, None, None), layout=only_active)
    verdict, merged = merge(STORED, new)
    assert verdict is Verdict.CORRECTION
    assert merged.values == (13, None, 0, None)
    assert merged.layout == ChannelLayout((TEN_WH, None, VARH, None))
    assert merge(merged, new) == (Verdict.REPEATED, merged)


def test_of_two_samples_near_one_boundary_the_first_stands():
    first = replace(STORED, quality=Quality.SAMPLED)
    second = replace(first, values=(125, None, 1, None), stamp=datetime(2026, 3, 1, 0, 0, 20, tzinfo=UTC))
    assert merge(first, second) == (Verdict.REPEATED, first)
    # what the first did not tell the second does, and what the meter itself kept goes before both
    verdict, merged = merge(first, replace(second, values=(125, 3, 1, None)))
    assert (verdict, merged.values) == (Verdict.COMPLETION, (120, 3, 0, None))
    assert merge(first, replace(second, quality=Quality.MEASURED))[0] is Verdict.CORRECTION
