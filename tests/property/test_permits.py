"""Whatever comes, waits, is cancelled and goes, and whatever limits do: they hold, people find room, no room
is left unused, who is in the way of a person is told, nothing leaks."""

import asyncio
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headend.links.permits import Fixed, Holding, Permit, Permits, Urgency, for_all


@dataclass
class Moving:
    limit: int = 5
    for_all: int = 4


#: Two cells of two stations of two lines each; meters are on a line, or right behind a station.
PLACES = [
    (
        (("meter", meter), 1),
        *([(("line", station, line), 1)] if line is not None else []),
        (("station", station), 2),
        (("cell", station // 2), 3),
    )
    for meter, (station, line) in enumerate((s, n) for s in range(4) for n in (0, 1, None, None))
]
LIMITS: dict[Hashable, int] = {name: limit for place in PLACES for name, limit in place}


@dataclass
class Guest:
    wanted: tuple[Permit, ...]
    urgency: Urgency
    number: int
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    holding: Holding | None = None
    inside: bool = False
    task: "asyncio.Task[None] | None" = None

    @property
    def is_cancelled(self) -> bool:
        return self.task is not None and self.task.cancelling() > 0

    @property
    def names(self) -> set[Hashable]:
        return {name for name, _ in self.wanted}


class PermitMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.permits = Permits()
        self.moving = Moving()
        self.guests: list[Guest] = []
        self.came = 0

    def turns(self) -> None:
        async def some() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(some())
        for guest in self.guests:
            if guest.task is not None and guest.task.done() and not guest.task.cancelled():
                guest.task.result()
        self.guests = [guest for guest in self.guests if guest.task is not None and not guest.task.done()]

    def limit(self, name: Hashable) -> int:
        return LIMITS.get(name, self.moving.limit)

    async def stay(self, guest: Guest) -> None:
        guest.holding = self.permits.hold(guest.wanted, guest.urgency)
        async with guest.holding:
            first = min(
                (other.urgency, other.number)
                for other in self.guests
                if other.names == guest.names and not other.inside and not other.is_cancelled
            )
            assert (guest.urgency, guest.number) == first, "overtaken by one who wants the very same"
            guest.inside = True
            await guest.leave.wait()

    @rule(place=st.sampled_from(PLACES), urgency=st.sampled_from(list(Urgency)))
    def come(self, place: tuple[tuple[Hashable, int], ...], urgency: Urgency) -> None:
        self.came += 1
        wanted: tuple[Permit, ...] = (
            *((name, Fixed(limit)) for name, limit in place),
            ("kind", self.moving),
        )
        held = {name: self.permits.held(name) for name, _ in wanted}
        guest = Guest(wanted, urgency, self.came)
        self.guests.append(guest)
        guest.task = self.loop.create_task(self.stay(guest))
        self.turns()
        if guest.inside and urgency is not Urgency.ON_DEMAND:
            assert all(count < for_all(self.limit(name)) for name, count in held.items()), "took the last"

    @precondition(lambda self: self.guests)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.guests)).leave.set()
        self.turns()

    @precondition(lambda self: any(guest.inside for guest in self.guests))
    @rule(data=st.data(), limit=st.integers(1, 30))
    def the_limit_moves_as_somebody_leaves(self, data: st.DataObject, limit: int) -> None:
        guest = data.draw(st.sampled_from([guest for guest in self.guests if guest.inside]))
        self.moving.limit, self.moving.for_all = limit, for_all(limit)
        guest.leave.set()
        self.turns()

    @precondition(lambda self: self.guests)
    @rule(data=st.data(), also_leave=st.booleans())
    def give_up(self, data: st.DataObject, also_leave: bool) -> None:
        if also_leave:  # a permit is given back in the same turn of the loop
            data.draw(st.sampled_from(self.guests)).leave.set()
            self.loop.run_until_complete(asyncio.sleep(0))
        guest = data.draw(st.sampled_from(self.guests))
        assert guest.task is not None
        guest.task.cancel()
        self.turns()

    @invariant()
    def limits_hold(self) -> None:
        inside = [guest for guest in self.guests if guest.inside]
        held = Counter(name for guest in inside for name in guest.names)
        for name, limit in LIMITS.items():
            assert self.permits.held(name) == held[name] <= limit
        assert self.permits.held("kind") == held["kind"]

    @invariant()
    def whoever_waits_lacks_something(self) -> None:
        outside = [guest for guest in self.guests if not guest.inside]
        assert self.permits.waiting == len(outside)
        people = Counter(
            name
            for guest in self.guests
            if guest.inside and guest.urgency is Urgency.ON_DEMAND
            for name in guest.names
        )
        for guest in outside:
            limits = {name: self.limit(name) for name in guest.names}
            if guest.urgency is Urgency.ON_DEMAND:
                assert any(
                    self.permits.held(name) >= limit and people[name] >= limit - for_all(limit)
                    for name, limit in limits.items()
                )
            else:
                assert any(self.permits.held(name) >= for_all(limit) for name, limit in limits.items())

    @invariant()
    def who_is_in_the_way_of_a_person_is_told(self) -> None:
        told: set[Hashable] = set()
        count = 0
        for guest in self.guests:
            if guest.inside and guest.holding is not None and guest.holding.wanted:
                assert guest.urgency is not Urgency.ON_DEMAND
                told |= guest.names
                count += 1
        people = [guest for guest in self.guests if not guest.inside and guest.urgency is Urgency.ON_DEMAND]
        assert count <= len(people), "more were told than there are people"
        for guest in people:
            assert guest.holding is not None
            assert guest.holding.parked_at is not None
            name = guest.holding.parked_at.name
            in_the_way = [
                one
                for one in self.guests
                if one.inside and one.urgency is not Urgency.ON_DEMAND and name in one.names
            ]
            assert name in told or not in_the_way

    def teardown(self) -> None:
        for guest in self.guests:
            guest.leave.set()
        while self.guests:
            self.turns()
        assert (len(self.permits), self.permits.waiting) == (0, 0)
        self.loop.close()


PermitMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPermits = PermitMachine.TestCase


@given(limit=st.integers(2, 100_000))
def test_a_tenth_and_at_least_one_is_for_people(limit: int) -> None:
    assert 10 * (limit - for_all(limit)) >= limit
    assert 1 <= for_all(limit) < limit


def test_what_cannot_be_shared_is_for_whoever_comes() -> None:
    assert for_all(1) == 1
