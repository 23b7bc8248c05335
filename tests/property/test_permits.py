"""Whatever comes, waits, is cancelled and goes: limits hold, no room is left unused, nothing leaks."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headend.links.permits import Permit, Permits, Urgency

#: Two cells of two stations of two lines each; meters are on a line, or right behind a station.
PLACES = [
    (
        Permit(("meter", meter), 1),
        *([Permit(("line", station, line), 1)] if line is not None else []),
        Permit(("station", station), 2),
        Permit(("cell", station // 2), 3),
        Permit("kind", 5),
    )
    for meter, (station, line) in enumerate((s, n) for s in range(4) for n in (0, 1, None, None))
]


@dataclass
class Guest:
    wanted: tuple[Permit, ...]
    urgency: Urgency
    number: int
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    inside: bool = False
    task: "asyncio.Task[None] | None" = None

    @property
    def is_cancelled(self) -> bool:
        return self.task is not None and self.task.cancelling() > 0


class PermitMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.permits = Permits()
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

    async def stay(self, guest: Guest) -> None:
        async with self.permits.hold(guest.wanted, guest.urgency):
            first = min(
                (other.urgency, other.number)
                for other in self.guests
                if other.wanted == guest.wanted and not other.inside and not other.is_cancelled
            )
            assert (guest.urgency, guest.number) == first, "overtaken by one who wants the very same"
            guest.inside = True
            await guest.leave.wait()

    @rule(wanted=st.sampled_from(PLACES), urgency=st.sampled_from(list(Urgency)))
    def come(self, wanted: tuple[Permit, ...], urgency: Urgency) -> None:
        self.came += 1
        guest = Guest(wanted, urgency, self.came)
        self.guests.append(guest)
        guest.task = self.loop.create_task(self.stay(guest))
        self.turns()

    @precondition(lambda self: self.guests)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.guests)).leave.set()
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
        held = Counter(permit for guest in self.guests if guest.inside for permit in guest.wanted)
        for permit, count in held.items():
            assert count <= permit.limit
        for place in PLACES:
            for permit in place:
                assert self.permits.held(permit.name) == held[permit]

    @invariant()
    def whoever_waits_lacks_something(self) -> None:
        outside = [guest for guest in self.guests if not guest.inside]
        assert self.permits.waiting == len(outside)
        for guest in outside:
            assert any(self.permits.held(permit.name) >= permit.limit for permit in guest.wanted)

    def teardown(self) -> None:
        for guest in self.guests:
            guest.leave.set()
        while self.guests:
            self.turns()
        assert (len(self.permits), self.permits.waiting) == (0, 0)
        self.loop.close()


PermitMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPermits = PermitMachine.TestCase
