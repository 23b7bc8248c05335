from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim import generator
from concentrator_sim.dice import numbers_of
from concentrator_sim.generator import MODULUS, Consumption, moment_of, quarter_of
from concentrator_sim.shapes import (
    DAYS,
    EPOCH_S,
    LAST_QUARTER,
    NOISE_LENGTH,
    QUARTERS_PER_DAY,
    UNITS_PER_YEAR,
    load_shape,
    noise,
    scattered,
    shape_range,
    sun_shape,
)

QUARTERS = st.integers(0, LAST_QUARTER - 200)


def test_the_scatter_is_splitmix64():
    """Published first outputs of SplitMix64 for seed 1234567 (its reference implementation's test)."""
    assert [int(n) for n in scattered_from_state(1234567)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(st.integers(0, 2**50))
def test_a_few_numbers_are_scattered_alike(seed):
    assert numbers_of(seed, 12) == scattered(seed, 12).tolist()


def scattered_from_state(state):
    # `scattered` begins at seed * step: the inverse of the step gives the seed for a state
    step = 0x9E3779B97F4A7C15
    return scattered(state * pow(step, -1, 2**64), 3)


def test_the_first_day_is_bdews_table():
    """2020-01-01 was a Wednesday: working day of January, and the table's own first numbers."""
    shape = load_shape("g25")
    first = np.diff(shape.at(np.arange(3)))
    weight = int(first[0]) // (RAW_G25_JANUARY_WORKDAY[0] // 16)
    assert 88 <= weight <= 112
    assert first.tolist() == [n // 16 * weight for n in RAW_G25_JANUARY_WORKDAY]


def _raw():
    from importlib.resources import files

    lines = (files("concentrator_sim") / "data" / "bdew_g25.csv").read_text().splitlines()
    column = lines[0].split(",").index("01-WT")
    return [int(line.split(",")[column]) for line in lines[1:3]]


RAW_G25_JANUARY_WORKDAY = _raw()


@pytest.mark.parametrize("name", ["h25", "g25", "l25"])
def test_a_year_of_a_shape_is_about_a_year(name):
    year = load_shape(name).at(np.array([0, 366 * QUARTERS_PER_DAY]))
    assert 0.9 < (year[1] - year[0]) / UNITS_PER_YEAR < 1.1


def test_the_bdew_tables_sum_up_to_a_gigawatt_hour():
    shape = load_shape("g25")
    tables = shape._tables[:, -1].reshape(12, 3)
    days = np.array([[4, 4, 23]] * 12)  # a month of about 31 days
    assert 0.95 < int((tables * days).sum()) * 16 * 365 / 372 / 1e9 < 1.05


def test_prefix_sums_hold_over_midnight_and_month_ends():
    shape = load_shape("h25")
    k = np.arange(31 * 96 - 3, 31 * 96 + 3)
    steps = np.diff(shape.at(k))
    one_by_one = [int(shape.at(np.array([q + 1]))[0] - shape.at(np.array([q]))[0]) for q in k[:-1]]
    assert steps.tolist() == one_by_one
    assert (steps > 0).all()


def test_the_sun_sets_and_winter_is_darker():
    night = shape_range("sun", 0, 12)
    assert night[0] == night[-1] == 0
    days = sun_shape().at(np.arange(0, 366 * 96, 96))
    by_day = np.diff(days)
    assert by_day[150:210].mean() > 2 * by_day[0:30].mean()


def test_noise_is_cyclic_and_a_slice_equals_single_steps():
    whole = noise().stretch(NOISE_LENGTH - 5, 10)
    singles = [int(noise().stretch(k, 1)[0]) for k in range(NOISE_LENGTH - 5, NOISE_LENGTH + 5)]
    assert whole.tolist() == singles
    longer = noise().stretch(7, 2 * NOISE_LENGTH + 3)
    assert longer[0] == noise().stretch(7, 1)[0]
    assert longer[-1] == noise().stretch(7 + 2 * NOISE_LENGTH + 2, 1)[0]
    assert (np.diff(longer) >= 0).all()


@given(st.integers(0, 0xFFFF), st.integers(1, 10_000), QUARTERS, st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_a_register_at_t_is_the_sum_of_what_went_before(seed, number, first, count):
    meter = Consumption(seed, number)
    for quantity in range(4):
        series = meter.series(quantity, first, count + 1)
        steps = np.diff(series) % MODULUS
        assert (steps < 200_000).all()  # monotone but for the roll-over
        end = moment_of(first + count)
        assert (int(series[0]) + int(steps.sum())) % MODULUS == meter.at(quantity, end) == series[-1]


@given(st.integers(1, 10_000), QUARTERS, st.integers(0, 899))
@settings(max_examples=60, deadline=None)
def test_between_two_quarters_it_lies_between_them(number, quarter, second):
    meter = Consumption(1, number)
    begin = moment_of(quarter)
    for quantity in range(4):
        low, high = (int(n) for n in meter.series(quantity, quarter, 2))
        now, later = meter.at(quantity, begin + second), meter.at(quantity, begin + second + 1)
        assert 0 <= (now - low) % MODULUS <= (later - low) % MODULUS <= (high - low) % MODULUS


def test_the_same_seed_is_the_same_meter_and_another_is_another():
    k = quarter_of(1_800_000_000)
    known = [1, 7, 100]
    assert [Consumption(1, n).at(0, 1_800_000_000) for n in known] == [
        Consumption(1, n).at(0, 1_800_000_000) for n in known
    ]
    curves = {Consumption(seed, 3).series(0, k, 96).tobytes() for seed in range(20)}
    assert len(curves) == 20


def test_registers_are_pinned():
    """Stored data outlives a release: whoever changes the generator must say so."""
    assert [Consumption(1, 1).at(q, 1_800_000_000) for q in range(4)] == PINNED


PINNED = [28066149, 0, 4345620, 1132003]


def test_most_meters_never_export_and_zero_stays_zero():
    k = quarter_of(1_800_000_000)
    exporting = [bool(Consumption(1, n).series(1, k, 1)[0]) for n in range(1, 201)]
    assert 20 < sum(exporting) < 90


def test_times_outside_are_refused():
    meter = Consumption(1, 1)
    for moment in (EPOCH_S - 1, moment_of(LAST_QUARTER) + 1, EPOCH_S - 900):
        with pytest.raises(ValueError, match="2020 to 2069"):
            meter.at(0, moment)
    with pytest.raises(ValueError, match="2020 to 2069"):
        meter.series(0, LAST_QUARTER, 2)
    assert meter.series(0, LAST_QUARTER, 1).shape == (1,)
    assert DAYS * 96 - 1 == LAST_QUARTER


def test_nothing_overflows_in_fifty_years():
    for number in range(1, 40):
        meter = Consumption(9, number)
        last = meter._scaled(LAST_QUARTER, 1)
        assert (last >= 0).all()
        assert (last < 2**62).all()


def test_mean_power():
    meter = Consumption(1, 1)
    begin = moment_of(240_000)
    assert meter.mean_power(begin, begin) == 0
    energy = meter.at(0, begin + 900) - meter.at(0, begin)
    assert meter.mean_power(begin, begin + 900) == energy * 4


def test_each_second_of_a_quarter_is_in_proportion():
    """Against fractions: a register's exact energy, cut to whole units."""
    meter = Consumption(1, 4)
    quarter = 240_044
    for quantity in (0, 1, 2, 3):
        denominator = int(generator._denominators()[quantity, 0])
        before, after = (Fraction(int(n), denominator) for n in meter._scaled(quarter, 2)[quantity])
        for second in range(900):
            exact = int(meter._bases[quantity, 0]) + before + (after - before) * second / 900
            assert meter.at(quantity, moment_of(quarter) + second) == exact // 1 % MODULUS
