"""What needs a second person, as the settings say."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from headend.switching.rules import MASS
from schemas.config import Settings
from schemas.program import ProgramKind


@dataclass(frozen=True, slots=True)
class Policy:
    """``four_eyes``: kinds of programs and 'role'; what waits for a second person does for ``waits``."""

    four_eyes: frozenset[str]
    waits: timedelta = timedelta(days=3)
    #: disconnections that an hour may have; more need a second person whatever ``four_eyes`` says
    disconnections_per_hour: int = 50

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(
            frozenset(settings.four_eyes),
            timedelta(hours=settings.approval_hours),
            settings.disconnections_per_hour,
        )

    def needs(self, kind: str) -> bool:
        """Whether something of this kind needs a second person."""
        return kind in self.four_eyes or kind == MASS


#: Whatever is done to a meter needs a second person.
EVERYTHING: Final = Policy(frozenset({*ProgramKind, "role"}))
