"""Circuit breakers: what has not answered is not asked again and again, but probed at growing intervals.

::

    closed ──failures of the link in a row──> open ──its time has come──> half-open (one probe)
      ^                                        ^ │                              │
      └───────────── an answer ────────────────┼─┴── a person forces a probe ──>│
                                               └──────────── no answer ─────────┘

There is one breaker for each meter, and one for what several meters are behind: a station (concentrator,
gateway), or a line that is shared without being in the network. Only failures that speak of the way count
(`schemas.failure.OF_THE_LINK`), and what they speak of:

* ``dns`` and ``connect`` behind a station or on a line: of that, and of no meter of it;
* ``gateway``: of the meter, since the station answered;
* ``timeout``: of the meter; where many in a row fall silent that were not before, of the station instead;
* everything else: both answered.

Each interval is drawn anew from [0, bound], and the bound doubles with each probe that failed: after an
outage a feeder's meters fail together and must not come back together. A breaker that closes is forgotten.

Probes cost the living: behind a station there is one at a time, and they may take a tenth of the time. After
a probe that took c seconds none begins there for 9c.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Final, NamedTuple

from headend.clock import utc_now
from headend.links.opened import BreakerOpen, Kind, Opened, State, Subject
from schemas.failure import OF_THE_LINK, Stage

#: Breakers that are remembered; the one that was touched least lately is forgotten.
MOST: Final = 200_000
#: The share of a station's or line's time that probes may take: one part in so many.
PROBES_SHARE: Final = 10


@dataclass(frozen=True, slots=True)
class Policy:
    """``failures`` in a row open a breaker; the first interval to a probe is drawn below ``first_s``, the
    bound doubles up to ``longest_s``. A station's opens also when ``silent`` of its meters fall silent and
    none answers in between."""

    failures: int = 3
    first_s: float = 300.0
    longest_s: float = 4 * 3600.0
    silent: int = 16


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    probes: int = 0  # that failed, since it opened
    opened: Opened | None = None
    probing: bool = False
    behind: Subject | None = None
    witness: Subject | None = None  # the meter whose failure opened a station's
    silent: set[Subject] = field(default_factory=set)  # meters that fell silent since the last answer

    @property
    def state(self) -> State:
        if self.opened is None:
            return State.CLOSED
        return State.HALF_OPEN if self.probing else State.OPEN


class Attempt(NamedTuple):
    """A conversation that is let through: with whom, behind what, which breakers it probes, and how many
    failures in a row open the breaker of whom it is with."""

    subject: Subject
    behind: Subject | None
    probes: tuple[Subject, ...]
    failures: int

    @property
    def is_probe(self) -> bool:
        """Whether nobody expects an answer."""
        return bool(self.probes)


class Breakers:
    """All breakers of one head-end.

    Args:
        now: aware, UTC. A step of this clock makes intervals longer or shorter, no more.
        draw: a number in [0, bound].
        most: breakers that are remembered.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        now: Callable[[], datetime] = utc_now,
        draw: Callable[[float], float] = lambda bound: random.uniform(0, bound),  # noqa: S311 - no secret
        most: int = MOST,
    ) -> None:
        self._policy = Policy() if policy is None else policy
        self._now = now
        self._draw = draw
        self._most = most
        self._breakers: OrderedDict[Subject, _Breaker] = OrderedDict()
        self._untils: list[tuple[datetime, Subject]] = []  # a heap: whose time comes next
        # when the next probe may begin behind a station or line; None while one is under way
        self._rested: dict[Subject | None, datetime | None] = {}
        #: breakers that opened, closed or moved since somebody last took them, and when: what is to be stored
        self.changed: dict[Subject, datetime] = {}

    def __len__(self) -> int:
        """Breakers that are remembered."""
        return len(self._breakers)

    def state(self, subject: Subject) -> State:
        """Closed too where nothing is remembered."""
        found = self._breakers.get(subject)
        return State.CLOSED if found is None else found.state

    def has_failed(self, subject: Subject) -> bool:
        """Whether its last conversation failed, as far as is remembered."""
        return subject in self._breakers

    def opened(self, subject: Subject) -> Opened | None:
        """Why and how long; None where it is closed."""
        found = self._breakers.get(subject)
        return None if found is None else found.opened

    def open_ones(self) -> Iterator[tuple[Subject, State]]:
        """Those that are not closed."""
        return ((subject, one.state) for subject, one in self._breakers.items() if one.opened is not None)

    def counts(self) -> dict[str, int]:
        """How many are in each state, of those that are remembered."""
        found = Counter(one.state.value for one in self._breakers.values())
        return {state.value: found[state.value] for state in State}

    def due(self, most: int) -> list[int]:
        """Numbers of meters with which a probe may be tried now: those that wait longest, one for each
        station or line, at most ``most``."""
        now = self._now()
        found: dict[Subject, int] = {}
        still: list[tuple[datetime, Subject]] = []
        while self._untils and self._untils[0][0] <= now and len(found) < most:
            entry = heappop(self._untils)
            until, subject = entry
            one = self._breakers.get(subject)
            if one is None or one.opened is None or one.opened.until != until:
                continue  # it closed, or its time moved: then it has another entry
            still.append(entry)
            meter = subject if subject.kind is Kind.METER else one.witness
            behind = subject if one.behind is None else one.behind
            rested = self._rested.get(behind, now)
            if not one.probing and meter is not None and rested is not None and rested <= now:
                found.setdefault(behind, int(meter.id))
        for entry in still:
            heappush(self._untils, entry)
        return list(dict.fromkeys(found.values()))

    # ---- around one conversation --------------------------------------------------------------------

    def check(self, subject: Subject, behind: Subject | None, *, force: bool = False) -> bool:
        """Whether a conversation now would be a probe, of which nobody expects an answer. Raises BreakerOpen
        where none is let through; with ``force`` all are.
        """
        return bool(self._to_probe(subject, behind, force=force))

    def admit(
        self, subject: Subject, behind: Subject | None, *, force: bool = False, failures: int | None = None
    ) -> Attempt:
        """Let a conversation through; exactly one of `answered`, `failed` and `abandoned` must follow.

        ``failures`` in a row open the breaker of ``subject`` instead of the policy's number. Raises
        BreakerOpen as `check`.
        """
        probes = self._to_probe(subject, behind, force=force)
        for one in probes:
            self._breakers[one].probing = True
        if probes and behind is not None:
            self._rested[behind] = None
        return Attempt(subject, behind, probes, failures or self._policy.failures)

    def _to_probe(self, subject: Subject, behind: Subject | None, *, force: bool) -> tuple[Subject, ...]:
        probes: tuple[Subject, ...] = ()
        for one in (subject,) if behind is None else (behind, subject):
            found = self._breakers.get(one)
            if found is None or found.opened is None:
                continue
            now = self._now()
            until = found.opened.until
            if subject in found.silent:  # a bad witness that its station is silent: the others go first
                until += timedelta(seconds=self._policy.first_s)
            rested = self._rested.get(behind, now)
            if rested is not None:
                until = max(until, rested)
            if not force and (found.probing or rested is None or now < until):
                found.behind = behind
                raise BreakerOpen(one, replace(found.opened, until=until))
            probes += (one,)
        return probes

    def answered(self, attempt: Attempt) -> None:
        """The meter answered, whatever it said."""
        self._rest(attempt, 0.0)
        self._close(attempt.subject)
        if attempt.behind is not None:
            self._close(attempt.behind)

    def failed(self, attempt: Attempt, stage: Stage, reason: str, *, took_s: float = 0.0) -> None:
        """The conversation ended with a failure of this stage, ``took_s`` after it began."""
        behind = attempt.behind
        if stage is Stage.SETTINGS:  # nothing was sent
            self.abandoned(attempt)
            return
        if stage not in OF_THE_LINK:
            self.answered(attempt)
            return
        self._rest(attempt, took_s)
        if stage in (Stage.DNS, Stage.CONNECT):
            if behind is None:
                self._fail(attempt.subject, stage, reason, attempt.failures)
            else:
                self._fail(behind, stage, reason)
                self._breakers[behind].witness = attempt.subject
                self._unprobe(attempt.subject)
        elif stage is Stage.GATEWAY:
            if behind is not None:
                self._close(behind)
            self._fail(attempt.subject, stage, reason, attempt.failures)
        elif behind is None:
            self._fail(attempt.subject, stage, reason, attempt.failures)
        else:
            self._silence(attempt, behind, stage, reason)
        if (found := self._breakers.get(attempt.subject)) is not None:
            found.behind = behind

    def abandoned(self, attempt: Attempt) -> None:
        """The conversation ended before it could show anything: cancelled, or by a failure of ours."""
        self._rest(attempt, 0.0)
        for subject in attempt.probes:
            self._unprobe(subject)

    def reset(self, subject: Subject) -> bool:
        """Close it, whatever it has seen; False where it was closed."""
        was_open = self.opened(subject) is not None
        self._close(subject)
        return was_open

    def restore(self, subject: Subject, opened: Opened, probes: int) -> None:
        """Open as it was stored."""
        self.changed.pop(subject, None)
        self._breakers[subject] = _Breaker(opened.failures, probes, opened)
        heappush(self._untils, (opened.until, subject))
        self._bound()

    def forget(self, subject: Subject) -> None:
        """Know nothing of it any more, and have nothing of it stored: it is another's business now."""
        self.changed.pop(subject, None)
        self._breakers.pop(subject, None)
        self._rested.pop(subject, None)

    def probes(self, subject: Subject) -> int:
        """Probes that failed since it opened."""
        found = self._breakers.get(subject)
        return 0 if found is None else found.probes

    def _rest(self, attempt: Attempt, took_s: float) -> None:
        """Behind the same station no other probe begins for a while."""
        if attempt.probes and attempt.behind is not None:
            pause = timedelta(seconds=took_s * (PROBES_SHARE - 1))
            self._rested[attempt.behind] = self._now() + pause

    # ---- one breaker --------------------------------------------------------------------------------

    def _silence(self, attempt: Attempt, behind: Subject, stage: Stage, reason: str) -> None:
        """A meter is silent: after many that were not before, it is what they are behind."""
        opened = self.opened(behind)
        if behind in attempt.probes and opened is not None:
            if opened.stage is Stage.TIMEOUT:
                self._fail(behind, stage, reason)
                self._breakers[behind].silent.add(attempt.subject)
                self._unprobe(attempt.subject)
                return
            self._close(behind)  # it took the connection
        self._fail(attempt.subject, stage, reason, attempt.failures)
        if self._breakers[attempt.subject].failures > 1:
            return
        silent = self._touch(behind).silent
        silent.add(attempt.subject)
        if len(silent) >= self._policy.silent and self.opened(behind) is None:
            for one in silent:  # nothing is known of them
                self._close(one)
            self._breakers[behind].failures = self._policy.failures - 1
            self._breakers[behind].witness = attempt.subject
            self._fail(behind, stage, f"{len(silent)} of its meters fell silent; the last: {reason}")

    def _fail(self, subject: Subject, stage: Stage, reason: str, most: int | None = None) -> None:
        breaker = self._touch(subject)
        breaker.failures += 1
        if breaker.opened is None:
            if breaker.failures >= (most or self._policy.failures):
                self._open(subject, breaker, self._now(), stage, reason)
        elif breaker.probing:
            breaker.probing = False
            breaker.probes += 1
            self._open(subject, breaker, breaker.opened.since, stage, reason)

    def _open(self, subject: Subject, breaker: _Breaker, since: datetime, stage: Stage, reason: str) -> None:
        bound = min(self._policy.longest_s, self._policy.first_s * 2 ** min(breaker.probes, 32))
        until = self._now() + timedelta(seconds=self._draw(bound))
        breaker.opened = Opened(since, until, breaker.failures, stage, reason.split("\n", 1)[0])
        heappush(self._untils, (until, subject))
        self.changed[subject] = self._now()

    def _unprobe(self, subject: Subject) -> None:
        found = self._breakers.get(subject)
        if found is not None:
            found.probing = False

    def _close(self, subject: Subject) -> None:
        found = self._breakers.pop(subject, None)
        if found is not None and found.opened is not None:
            self.changed[subject] = self._now()

    def _touch(self, subject: Subject) -> _Breaker:
        found = self._breakers.setdefault(subject, _Breaker())
        self._breakers.move_to_end(subject)
        self._bound()
        return found

    def _bound(self) -> None:
        while len(self._breakers) > self._most:
            forgotten, _ = self._breakers.popitem(last=False)
            self.changed[forgotten] = self._now()
