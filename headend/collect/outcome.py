"""What came of a collection: progress while it runs, failures by kind, totals at the end."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from headend.links.failures import stage_of
from headend.store.writer import Written
from protocols.errors import CommunicationError
from schemas.failure import Stage

#: Failures that are kept one by one; all are counted.
MOST_FAILURES: Final = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """A meter that could not be read: at which stage (None: no conversation failed), whose fault that is, and
    why; ``attempts`` were made."""

    asset_id: str
    stage: Stage | None
    fault: str
    kind: str
    reason: str
    attempts: int

    @classmethod
    def of(cls, asset_id: str, error: BaseException, attempts: int) -> "Failure":
        """From the error of the last attempt."""
        fault = error.fault.value if isinstance(error, CommunicationError) else "ours"
        return cls(
            asset_id, stage_of(error), fault, type(error).__name__, str(error).split("\n", 1)[0], attempts
        )

    @property
    def sort(self) -> "Sort":
        """What failures are counted by: stage, fault and kind."""
        return self.stage, self.fault, self.kind


Sort = tuple[Stage | None, str, str]


@dataclass(slots=True)
class Outcome:
    """One collection, counted as it goes on.

    ``due`` meters had something to read; each ends among ``read``, ``failed`` or ``away`` (it dials in and is
    not connected); ``answered`` have given all that was asked, which may still be on its way to the database.
    ``intervals`` are rows that came, ``retries`` attempts beyond the first. ``new`` to ``covered`` are the
    store's words (`headend.store.writer.Written`), counted when committed. ``seconds`` is the whole time.
    """

    due: int = 0
    answered: int = 0
    read: int = 0
    failed: int = 0
    away: int = 0
    retries: int = 0
    intervals: int = 0
    values: int = 0
    seconds: float = 0.0
    written: Written = field(default_factory=lambda: Written(None))
    failures: list[Failure] = field(default_factory=list)
    kinds: Counter[Sort] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Meters that are finished, one way or another."""
        return self.read + self.failed + self.away

    @property
    def heard(self) -> int:
        """Meters that need not be waited for any more: what a progress bar shows. Never below ``done``."""
        # one that answered and then could not be stored is counted in both
        return min(self.due, self.answered + self.failed + self.away)

    def fail(self, failure: Failure) -> None:
        """Count a meter that could not be read."""
        self.failed += 1
        self.kinds[failure.sort] += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(failure)
