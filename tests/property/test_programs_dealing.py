"""Meters dealt to canaries and waves: all of them, once, in whole meters, spread, and the same each time."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headend.programs.dealing import CANARIES, Fit, deal

fleets = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from([None, 1, 2, 3, 4])), min_size=1, max_size=80
).map(lambda some: [Fit(number, *one) for number, one in enumerate(some, start=1)])
shares = st.lists(st.integers(1, 97), min_size=1, max_size=6).map(
    lambda some: [100 * n / sum(some) for n in some]
)
seeds = st.binary(min_size=32, max_size=32)


@given(fleets, st.integers(0, 90), shares, seeds)
def test_every_meter_has_a_wave_and_shares_are_kept_to_the_meter(fleet, canaries, waves, seed):
    dealt = deal(fleet, canaries=canaries, named=frozenset(), shares=waves, seed=seed)
    assert dealt.keys() == {one.meter_id for one in fleet}
    sizes = Counter(dealt.values())
    assert sizes[CANARIES] == min(canaries, len(fleet))
    rest, upto, ended = len(fleet) - sizes[CANARIES], 0.0, 0
    for wave, share in enumerate(waves, start=1):
        upto += share
        ended += sizes[wave]
        assert abs(ended - rest * upto / 100) <= 0.5 + 1e-6
    assert ended == rest
    assert deal(fleet[::-1], canaries=canaries, named=frozenset(), shares=waves, seed=seed) == dealt


@given(fleets, st.integers(1, 12), seeds)
def test_canaries_are_of_all_models_and_then_of_all_stations(fleet, canaries, seed):
    dealt = deal(fleet, canaries=canaries, named=frozenset(), shares=[100.0], seed=seed)
    drawn = [one for one in fleet if dealt[one.meter_id] == CANARIES]
    models, stations = {one.model for one in fleet}, {(one.model, one.station) for one in fleet}
    assert len({one.model for one in drawn}) == min(len(models), len(drawn))
    for model in models:
        of_model = [one.station for one in drawn if one.model == model]
        there = {station for name, station in stations if name == model}
        assert len(set(of_model)) == min(len(there), len(of_model))


@given(fleets, st.integers(1, 12), seeds, seeds)
def test_who_is_drawn_is_not_who_was_imported_first(fleet, canaries, seed, other):
    one = deal(fleet, canaries=canaries, named=frozenset(), shares=[100.0], seed=seed)
    two = deal(fleet, canaries=canaries, named=frozenset(), shares=[100.0], seed=other)
    assert one.keys() == two.keys()
    named = frozenset(number for number, wave in one.items() if wave == CANARIES)
    assert deal(fleet, canaries=0, named=named, shares=[100.0], seed=other) == one


@given(
    fleets,
    st.integers(0, 12),
    shares,
    seeds,
    st.lists(st.sampled_from([None, "L1", "L2", "L3"]), min_size=80),
)
def test_who_is_reached_together_is_in_one_wave_the_first(fleet, canaries, waves, seed, lines):
    alone = deal(fleet, canaries=canaries, named=frozenset(), shares=waves, seed=seed)
    hung = [one._replace(together=line) for one, line in zip(fleet, lines, strict=False)]
    dealt = deal(hung, canaries=canaries, named=frozenset(), shares=waves, seed=seed)
    for one in hung:
        mates = [other.meter_id for other in hung if other.together == one.together]
        wanted = min(alone[number] for number in mates) if one.together else alone[one.meter_id]
        assert dealt[one.meter_id] == wanted
