"""What all kinds of programs are to those who apply them: a procedure, a journal, an outcome.

A procedure is run anew at each visit of the meter, from its beginning. What it did before it learns from its
journal, and from the meter:

* a step with an effect is written down as *intended* before it, and as *done* behind it, each committed
  before anything further happens;
* a step that is intended and not done may have taken effect: the procedure then looks at the meter before it
  does it again, and where that cannot tell, says `Unsure` instead of doing it twice.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from headend.drivers.contract import Conversation, Target
from headend.store.sql import Connection
from schemas.program import Program, ProgramKind
from schemas.reading import ReadingBatch

Commit = Callable[[ReadingBatch], Awaitable[None]]
#: What is stored in the transaction of a step, or not at all.
Also = Callable[[Connection], Awaitable[None]]


async def _not_here(batch: ReadingBatch) -> None:
    raise NotImplementedError("nobody takes readings of this task")


class Halted(Exception):
    """The campaign goes on no more, or not now: nothing further is to be done at the meter."""


@dataclass(frozen=True, slots=True)
class Task:
    """A program for one meter, as of one campaign. ``actor`` asked for it, ``now`` is aware UTC.

    ``commit`` stores what was read of the meter, under the lane's fence; it is there when the call returns.
    Raises LaneLost, UnavailableError.
    """

    campaign_id: int
    target: Target
    program: Program
    actor: str
    now: datetime
    commit: Commit = field(default=_not_here, repr=False, compare=False)

    @property
    def meter_id(self) -> int:
        """Which meter (a concentrator: the negative number of its node)."""
        return self.target.meter.meter_id


class Journal(Protocol):
    """What is known of one meter in one campaign; what is written is committed when the call returns.

    Each write raises Halted where the campaign goes on no more (`intend` alone), LaneLost where somebody else
    works at the meter now, and UnavailableError. ``also`` is done in its transaction.
    """

    @property
    def facts(self) -> Mapping[str, Any]:
        """All that was remembered: JSON. Never a key."""

    def is_intended(self, step: str) -> bool:
        """Whether it was begun, and nobody knows whether it took effect."""

    def is_done(self, step: str) -> bool:
        """Whether it was done."""

    async def intend(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        """Before a step with an effect."""

    async def done(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        """Behind it, its effect being known."""

    async def note(self, what: str, also: Also | None = None, /, **facts: Any) -> None:
        """Remember something that changed nothing at the meter."""

    def fenced(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction under the lane's fence, for what meters of the lane share. Raises LaneLost."""

    def must_yield(self) -> bool:
        """Whether somebody waits for the line, or this visit has taken its share: then `Later` is due."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The meter is as it shall be. ``proof`` is what was read back: JSON, never a key."""

    proof: Mapping[str, Any]
    changed: bool = True  # False: it was so already


@dataclass(frozen=True, slots=True)
class Later:
    """To be gone on with, not before ``at`` (aware), in another visit."""

    at: datetime
    why: str
    #: whether it counts as an attempt of those that the campaign's policy allows: it got nowhere
    counts: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """It is not as it shall be, and trying again would not help: whose fault, where, what to do."""

    reason: str
    proof: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsure:
    """A step may have taken effect or not, and the meter cannot tell: a person must look."""

    reason: str
    proof: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unfit:
    """The meter is not touched: its model, hardware or version do not fit, or a policy forbids it."""

    reason: str
    proof: Mapping[str, Any] = field(default_factory=dict)


Outcome = Finished | Later | Failed | Unsure | Unfit


class Procedure(Protocol):
    """How one kind of program is applied to one meter."""

    @property
    def kind(self) -> ProgramKind:
        """Which kind."""

    def unfit(self, program: Program, target: Target) -> str | None:
        """Why this meter cannot have it, as far as can be told without talking with it; None where it can.

        Pure, and quick: a campaign asks for each of its meters when it is proposed.
        """

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """Take it as far as one visit gets. Raises the tree of `protocols.errors`, and what journals raise;
        a link that breaks is tried again as the campaign's policy says."""


class Barred(Exception):
    """A rule of the house forbids the step that was about to be taken: nothing was sent. What it comes to."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(getattr(outcome, "reason", None) or getattr(outcome, "why", ""))
        self.outcome = outcome


@runtime_checkable
class Guarded(Procedure, Protocol):
    """A procedure under rules that the database knows: who must not be touched, how many at once, whether
    somebody stopped it all."""

    async def forbidden(
        self, connection: Connection, program: Program, meters: Sequence[int], now: datetime
    ) -> Mapping[int, str]:
        """Which meters may not have it, and why: asked when a campaign is proposed. Raises ConflictError
        where the whole campaign may not be."""

    async def admit(self, connection: Connection, task: Task) -> None:
        """Whether a step with an effect may be taken now: asked in the very transaction that writes it down
        as intended. Raises Barred."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom else a step at a meter reaches: all that share ``together`` are in one wave of a campaign;
    ``forbidden`` says why it may not be taken."""

    together: str
    forbidden: str | None


@runtime_checkable
class Joint(Procedure, Protocol):
    """A procedure whose steps reach other meters than the one that it talks with."""

    async def reach(
        self, connection: Connection, program: Program, targets: Mapping[int, Target]
    ) -> Mapping[int, Reach]:
        """For those of the campaign's meters of which a step reaches others: asked when it is proposed."""


@runtime_checkable
class AtStations(Procedure, Protocol):
    """A procedure some of whose visits are made at the concentrator that the meter is behind."""

    async def where(
        self, connection: Connection, target: Target, campaign_id: int, now: datetime
    ) -> Target | Later | None:
        """Asked before each visit: the concentrator that is talked with instead of the meter, `Later` where
        nothing is to be done but to wait for it, None for the meter. `apply` is then called with the
        conversation of whichever it was; its task is of the meter."""

    async def turned_away(self, connection: Connection, campaign_id: int, meter_id: int, why: str) -> None:
        """The concentrator cannot be talked with, and not for its link's sake: the meter does without it. In
        a transaction under the lane's fence."""

    async def ways(self, connection: Connection, program: Program, campaign_id: int) -> Mapping[str, int]:
        """How many meters of a proposed campaign are served through concentrators, and how: shown to whoever
        approves of it."""
