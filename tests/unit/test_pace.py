"""Deadlines follow the way's length, then what was measured."""

import pytest

from headend.links.pace import FIRST_S, Pace
from schemas.network import NOWHERE, LinkKind, Place


def behind(hops: int, station: int = 1) -> Place:
    return Place(station_id=station, station="C", link=LinkKind.PLC_NARROWBAND, hops=hops)


def test_every_kind_of_link_has_its_first_guess() -> None:
    assert set(FIRST_S) == set(LinkKind)


@pytest.mark.parametrize("hops", [1, 3, 7])
def test_before_any_answer_each_hop_has_its_time(hops: int) -> None:
    assert Pace().answer_s(1, behind(hops)) == 10.0 * hops


def test_a_way_of_unknown_kind_goes_by_the_drivers_settings_until_something_is_measured() -> None:
    pace = Pace()
    pace.timed_out(1)
    assert pace.answer_s(1, NOWHERE) is None
    assert pace.answer_s(1, NOWHERE, probe=True) is None
    pace.answered(1, NOWHERE, [4.0])
    assert pace.answer_s(1, NOWHERE) == pytest.approx(12.0)


def test_no_deadline_is_above_the_longest() -> None:
    assert Pace(longest_s=60).answer_s(1, behind(14)) == 60


def test_one_answer_gives_three_times_itself() -> None:
    # RFC 6298, 2.2: SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR
    pace = Pace(shortest_s=0.1)
    pace.answered(1, behind(2), [2.0])
    assert pace.answer_s(1, behind(2)) == pytest.approx(6.0)


def test_steady_answers_bring_the_deadline_down_to_them() -> None:
    pace = Pace(shortest_s=0.1)
    pace.answered(1, NOWHERE, [2.0] * 40)
    assert pace.answer_s(1, NOWHERE) == pytest.approx(2.0, rel=0.01)


def test_two_answers_as_the_rfc_reckons() -> None:
    # RTTVAR = 3/4 * 0.5 + 1/4 * |1 - 3| = 0.875, SRTT = 7/8 * 1 + 1/8 * 3 = 1.25
    pace = Pace(shortest_s=0.1)
    pace.answered(1, NOWHERE, [1.0, 3.0])
    assert pace.answer_s(1, NOWHERE) == pytest.approx(1.25 + 4 * 0.875)


def test_no_measured_deadline_is_below_the_shortest() -> None:
    pace = Pace(shortest_s=5)
    pace.answered(1, NOWHERE, [0.01] * 40)
    assert pace.answer_s(1, NOWHERE) == 5


def test_on_a_line_the_shortest_is_shorter() -> None:
    pace = Pace()
    pace.answered(1, NOWHERE, [0.01] * 40)
    assert pace.answer_s(1, NOWHERE, on_line=True) == 1


def test_a_meter_that_is_new_goes_by_those_as_far_behind_its_station() -> None:
    pace = Pace(shortest_s=0.1)
    pace.answered(1, behind(3), [1.0])
    assert pace.answer_s(2, behind(3)) == pytest.approx(3.0)
    assert pace.answer_s(2, behind(4)) == 40.0
    assert pace.answer_s(2, behind(3, station=2)) == 30.0


def test_an_answer_that_takes_no_time_is_an_answer() -> None:
    pace = Pace(shortest_s=1)
    pace.answered(1, behind(3), [0.0])
    assert pace.answer_s(1, behind(3)) == 1


def test_a_time_out_doubles_the_deadline_until_the_next_answer() -> None:
    pace = Pace(shortest_s=0.1)
    pace.answered(1, behind(1), [1.0] * 40)
    before = pace.answer_s(1, behind(1))
    assert before is not None
    pace.timed_out(1)
    assert pace.answer_s(1, behind(1)) == pytest.approx(2 * before)
    pace.timed_out(1)
    assert pace.answer_s(1, behind(1)) == pytest.approx(4 * before)
    pace.answered(1, behind(1), [1.0])
    assert pace.answer_s(1, behind(1)) == pytest.approx(before, rel=0.01)


def test_a_meter_that_never_answers_is_not_waited_for_ever_longer() -> None:
    pace = Pace()
    for _ in range(20):
        pace.timed_out(1)
    assert pace.answer_s(1, behind(1)) == 30.0


def test_a_probe_is_given_the_ways_length_and_no_more() -> None:
    pace = Pace()
    pace.answered(2, behind(3), [0.1])
    for _ in range(3):
        pace.timed_out(1)
    assert pace.answer_s(1, behind(3)) == 40.0
    assert pace.answer_s(1, behind(3), probe=True) == 30.0


def test_one_meters_time_outs_are_not_its_neighbours() -> None:
    pace = Pace(shortest_s=0.1)
    pace.answered(1, behind(1), [1.0])
    pace.timed_out(2)
    assert pace.answer_s(1, behind(1)) == pytest.approx(3.0)


def test_the_memory_is_bounded_and_forgets_the_least_used() -> None:
    pace = Pace(shortest_s=0.1, most=3)
    for meter in (1, 2, 3):
        pace.answered(meter, NOWHERE, [1.0])
    pace.answered(1, NOWHERE, [1.0])
    pace.answered(4, NOWHERE, [1.0])
    assert len(pace) == 3
    assert pace.answer_s(2, NOWHERE) is None
    assert pace.answer_s(1, NOWHERE) is not None


def test_no_answers_teach_nothing() -> None:
    pace = Pace()
    pace.answered(1, behind(1), [])
    assert len(pace) == 0
