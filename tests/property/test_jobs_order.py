"""Whose turn it is within a lane."""

from hypothesis import example, given
from hypothesis import strategies as st

from headend.jobs.order import AGAIN_SHARE, PROGRAM_TURNS, Order, Rank

waiting = st.lists(
    st.tuples(st.sampled_from([0, 20]), st.integers(0, 5), st.booleans()), min_size=1, max_size=60
)
programs = st.lists(st.tuples(st.just(30), st.integers(0, 5), st.booleans()), max_size=60)


def drawn(items: list[tuple[int, int, bool]]) -> list[tuple[int, int, bool]]:
    order: Order[tuple[int, int, bool]] = Order()
    for urgency, due, again in items:
        order.add((urgency, due, again), Rank(urgency, due), again=again)
    return [order.next() for _ in range(len(order))]


@given(waiting)
def test_everything_gets_its_turn_once(items):
    assert sorted(drawn(items)) == sorted(items)


@given(waiting)
def test_the_more_urgent_go_first_whatever_else(items):
    urgencies = [urgency for urgency, _, _ in drawn(items)]
    assert urgencies == sorted(urgencies)


@given(waiting)
def test_earlier_deadlines_go_first_among_their_kind(items):
    for kind in (False, True):
        for urgency in (0, 20):
            dues = [due for u, due, again in drawn(items) if u == urgency and again is kind]
            assert dues == sorted(dues)


@example([(0, 0, False)] * 6 + [(0, 1, True)] + [(20, 1, False)] * 3 + [(20, 0, True)] * 3)
@given(waiting)
def test_further_attempts_get_their_share_and_no_more_while_first_ones_wait(items):
    turns = drawn(items)
    for urgency in (0, 20):
        some = [again for u, _, again in turns if u == urgency]
        firsts_left, taken, contested = some.count(False), 0, 0
        for again in some:
            if firsts_left == 0:
                break  # nobody is kept waiting by them any more
            contested += 1
            taken += again
            firsts_left -= not again
        assert taken <= AGAIN_SHARE * contested + 1


def test_a_retry_whose_deadline_is_near_does_not_wait_for_all_others():
    items = [(20, 9, False)] * 20 + [(20, 1, True)]
    assert (20, 1, True) in drawn(items)[:5]


def test_share_holds_over_many_retries_due_first():
    turns = drawn([(20, 9, False)] * 70 + [(20, 1, True)] * 100)
    assert sum(again for _, _, again in turns[:100]) == 30


def told(items: list[tuple[int, int, bool]]) -> str:
    """R for each turn of a reading, P for each of a program."""
    return "".join("P" if urgency == 30 else "R" for urgency, _, _ in drawn(items))


@given(waiting, programs)
def test_programs_have_one_turn_in_five_while_readings_wait(readings, of_programs):
    turns = told([one for one in readings if one[0] == 20] + of_programs)
    both = turns[: max(turns.rstrip("P").rfind("R") + 1, 0)]  # until no reading waits any more
    contested = both[: both.rfind("P") + 1] if turns.endswith("R") else both
    for end in range(1, len(contested) + 1):
        assert contested[:end].count("P") == end // PROGRAM_TURNS


@given(waiting, programs)
def test_what_somebody_waits_for_waits_for_no_program(readings, of_programs):
    turns = drawn(readings + of_programs)
    waited_for = [one for one in turns if one[0] == 0]
    assert turns[: len(waited_for)] == waited_for


@given(waiting, programs)
def test_programs_change_nothing_in_the_order_of_readings_nor_the_other_way_round(readings, of_programs):
    turns = drawn(readings + of_programs)
    assert [one for one in turns if one[0] < 30] == drawn(readings)
    assert [one for one in turns if one[0] == 30] == drawn(of_programs)


def test_programs_that_come_one_by_one_have_their_share_too():
    order: Order[str] = Order()
    turns = ""
    for n in range(100):
        order.add("R", Rank(20, n), again=False)
        order.add("P", Rank(30, n), again=bool(n % 2))
        turns += order.next()
    assert turns.count("P") == 20
