"""How one visit goes: what is still asked of the meter, and what came of it and is not handed on yet."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from headend.drivers.contract import Target
from headend.jobs.asked import Asked
from headend.jobs.reading import Gathered
from headend.programs.applier import Begun
from headend.programs.contract import Failed, Later, Outcome, Unfit, Unsure
from headend.store.attempts import Attempt
from headend.store.lanes import Lease
from headend.store.requests import Settled
from headend.store.settlement import Settlement
from protocols.errors import PeerRefused
from schemas.job import RequestState
from schemas.reading import ReadingBatch, concatenate, registers_only


@dataclass(slots=True)
class Course:
    """See the module.

    ``over`` are requests that need not be looked at until that is committed; ``refusal`` is the first of the
    meter's."""

    todo: deque[Asked]
    began_us: int
    began: float
    got: list[Gathered] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    over: list[Asked] = field(default_factory=list)
    rows: int = 0
    traffic: tuple[int, int] = (0, 0)
    refusal: PeerRefused | None = None
    #: by request: which campaign's program it applies, and the visit of it that has begun
    programs: dict[int, int] = field(default_factory=dict)
    begun: dict[int, Begun] = field(default_factory=dict)
    target: Target | None = None
    crowded: Callable[[], bool] = bool

    def take(self, got: Gathered) -> None:
        """Something came."""
        self.got.append(got)
        self.rows += got.rows

    def finish(self, asked: Asked, got: Gathered, *, talked: bool) -> None:
        """The request got what it asked for, or its program came to something; ``talked``: by talking with
        the meter."""
        if got.outcome is not None:
            self.take(got)
            self.settled.append(_after_program(asked, got.outcome, talked=talked))
            self.over.append(asked)
            return
        result = got.result() if asked.is_waited_for or got.station is not None else None
        self.take(got)
        self.settled.append(Settled(asked.waiting.request_id, result=result))
        self.over.append(asked)

    def rest(self, settled: list[Settled]) -> None:
        """What became of the requests that are left."""
        self.settled += settled
        self.over += self.todo
        self.todo.clear()

    def turn_to_station(self) -> Target | None:
        """The concentrator to visit instead of the meter, where a program has to do with that: what else is
        asked of the meter gives way."""
        for asked in self.todo:
            begun = self.begun.get(asked.waiting.request_id)
            if begun is not None and begun.at is not None:
                self.over += [one for one in self.todo if one is not asked]
                self.todo = deque([asked])
                return begun.at
        return None

    def hand_on(
        self, lease: Lease, lease_s: float, attempt: Attempt | None
    ) -> tuple[ReadingBatch, Settlement, list[Asked]]:
        """What has come, how it is settled under the lease, and the requests that this is about: it is the
        pipeline's from here on."""
        settlement = Settlement(
            frozenset([lease]),
            tuple(self.settled),
            () if attempt is None else (attempt,),
            tuple(cursor for got in self.got for cursor in got.cursors),
            lease_s,
            any(one.is_waited_for for one in self.over),
            tuple(clock for got in self.got for clock in got.clocks),
            tuple(breaker for got in self.got for breaker in got.breakers),
        )
        batch, over = _one([batch for got in self.got for batch in got.batches]), self.over
        self.got, self.settled, self.over = [], [], []
        return batch, settlement, over


def _one(batches: list[ReadingBatch]) -> ReadingBatch:
    if not batches:
        return _NO_ROWS
    return batches[0] if len(batches) == 1 else concatenate(batches, source=batches[0].source)


_NO_ROWS: Final = registers_only((), source="lane")


def _after_program(asked: Asked, outcome: Outcome, *, talked: bool) -> Settled:
    """What becomes of the request of a program; ``talked``: the meter was."""
    number = asked.waiting.request_id
    match outcome:
        case Later(_, why, counts=True) if asked.waiting.attempts + 1 >= asked.retry.attempts:
            return Settled(number, RequestState.FAILED, reason=f"given up after the last attempt: {why}")
        case Later(at, why, counts):
            # a program of many visits is given up for attempts in a row, not for all that failed on the way
            anew = talked and not counts
            return Settled(number, RequestState.OPEN, counts=counts, anew=anew, next_at=at, reason=why)
        case Failed(reason) | Unsure(reason) | Unfit(reason):
            return Settled(number, RequestState.FAILED, reason=reason)
        case _:
            return Settled(number, result={"proof": dict(outcome.proof)} if asked.is_waited_for else None)
