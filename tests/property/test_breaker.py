"""Whatever conversations come to: nobody is shut out for ever, and nothing is kept of the living."""

import contextlib
import datetime as dt

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headend.links.breaker import Attempt, Breakers, Policy
from headend.links.opened import BreakerOpen, Kind, State, Subject
from schemas.failure import Stage

POLICY = Policy(failures=2, first_s=10, longest_s=80, silent=3)
STATIONS = [Subject(Kind.STATION, "1"), Subject(Kind.LINE, "modbus+tcp:192.0.2.1:502"), None]
METERS = [(Subject(Kind.METER, str(number)), STATIONS[number % 3]) for number in range(12)]


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
        self.breakers = Breakers(POLICY, now=lambda: self.now, draw=lambda bound: bound)
        self.attempts: list[Attempt] = []

    @rule(meter=st.sampled_from(METERS), force=st.booleans(), failures=st.sampled_from([None, 1, 2]))
    def begin(self, meter: tuple[Subject, Subject | None], force: bool, failures: int | None) -> None:
        with contextlib.suppress(BreakerOpen):
            probe = self.breakers.check(*meter, force=force)
            attempt = self.breakers.admit(*meter, force=force, failures=failures)
            assert attempt.is_probe is probe
            self.attempts.append(attempt)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), stage=st.sampled_from([*Stage, None]), took_s=st.integers(0, 30))
    def end(self, data: st.DataObject, stage: Stage | None, took_s: int) -> None:
        attempt = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        self.now += dt.timedelta(seconds=took_s)
        if stage is None:
            self.breakers.answered(attempt)
            assert self.breakers.state(attempt.subject) is State.CLOSED
        else:
            self.breakers.failed(attempt, stage, "because", took_s=took_s)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        attempt = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        self.breakers.abandoned(attempt)

    @rule(seconds=st.integers(0, 100))
    def wait(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)

    @rule(subject=st.sampled_from([one for one, _ in METERS] + [one for one in STATIONS if one is not None]))
    def reset(self, subject: Subject) -> None:
        self.breakers.reset(subject)
        assert self.breakers.state(subject) is State.CLOSED

    @invariant()
    def a_breaker_is_half_open_only_while_somebody_probes_it(self) -> None:
        probed = {subject for attempt in self.attempts for subject in attempt.probes}
        for subject, state in self.breakers.open_ones():
            assert state is State.OPEN or subject in probed

    @invariant()
    def what_is_due_can_be_looked_for(self) -> None:
        due = self.breakers.due(100)
        assert len(due) == len(set(due))
        assert {Subject(Kind.METER, str(number)) for number in due} <= {meter for meter, _ in METERS}

    def teardown(self) -> None:
        for attempt in self.attempts:
            self.breakers.abandoned(attempt)
        # the longest interval, what a bad witness waits longer, and the rest after the longest probe
        self.now += dt.timedelta(seconds=POLICY.longest_s + POLICY.first_s + 30 * 9)
        for meter, behind in METERS:
            self.breakers.answered(
                self.breakers.admit(meter, behind)
            )  # raises where one is shut out for ever
        assert len(self.breakers) == 0


BreakerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestBreakers = BreakerMachine.TestCase
