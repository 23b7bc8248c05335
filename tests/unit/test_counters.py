import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.keys.counters import Counter, CounterBlocks, CounterExhausted


def test_counters_come_once_each_in_rising_order():
    counter = Counter()
    counter.add(0, 3)
    counter.add(10, 11)
    assert counter.remaining == 4
    assert [counter.next() for _ in range(4)] == [0, 1, 2, 10]
    with pytest.raises(CounterExhausted):
        counter.next()


def test_skipping_never_goes_back():
    counter = Counter()
    counter.add(5, 8)
    counter.add(20, 22)
    counter.skip_below(6)
    assert counter.next() == 6
    counter.skip_below(3)
    assert counter.next() == 7
    counter.skip_below(21)
    assert counter.next() == 21
    assert counter.remaining == 0


steps = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 3), st.integers(1, 5)),
    st.tuples(st.just("skip"), st.integers(0, 60), st.just(0)),
    st.tuples(st.just("next"), st.just(0), st.just(0)),
)


@given(st.lists(steps, max_size=40))
def test_it_is_what_a_list_of_all_counters_would_be(some: list[tuple[str, int, int]]) -> None:
    counter, there, top = Counter(), [], 0
    for what, a, b in some:
        if what == "add":
            counter.add(top + a, top + a + b)
            there += range(top + a, top + a + b)
            top += a + b
        elif what == "skip":
            counter.skip_below(a)
            there = [one for one in there if one >= a]
        elif there:
            assert counter.next() == there.pop(0)
        else:
            with pytest.raises(CounterExhausted):
                counter.next()
        assert counter.remaining == len(there)
        assert counter.end == (there[-1] + 1 if there else 0)


def test_bounds_are_checked():
    for wrong in ({"title": b"short"}, {"title": bytes(8), "block": 0}, {"title": bytes(8), "most": 0}):
        with pytest.raises(ValueError):
            CounterBlocks(None, **wrong)


async def test_a_raise_within_what_is_reserved_asks_nobody():
    def nobody():
        raise AssertionError("the database was asked")

    blocks = CounterBlocks(nobody, b"HED\0\0\0\0\1")
    blocks.counter(b"key").add(10, 20)
    await blocks.raise_to(b"key", 5, actor="test", reason="behind")
    assert blocks.counter(b"key").remaining == 10
    await blocks.raise_to(b"key", 19, actor="test", reason="within")
    assert blocks.counter(b"key").next() == 19
    blocks.counter(b"key").add(20, 30)
    with pytest.raises(AssertionError, match="was asked"):
        await blocks.raise_to(b"key", 30, actor="test", reason="beyond")
