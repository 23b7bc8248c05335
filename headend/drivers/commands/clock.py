"""What programs ask of clocks."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

from headend.drivers.contract import Conversation, Target
from schemas.clock import ClockReading


class ClockChange(StrEnum):
    """How a clock can be moved."""

    SHIFT = "shift"  # by some seconds; doing it twice is another thing than doing it once
    PRESET = "preset"  # to a time that was told before
    SET = "set"  # to the time of now
    BROADCAST = "broadcast"  # a whole line to the time of now, unanswered, within narrow bounds


@dataclass(frozen=True, slots=True)
class ClockRules:
    """How a model's clocks are changed: the ways, best first, and how far a shift or a broadcast goes."""

    changes: tuple[ClockChange, ...]
    most: timedelta


@runtime_checkable
class ClockConversation(Conversation, Protocol):
    """A conversation with a device whose clock can be read and changed (`Feature.CLOCK`).

    Raises the tree of `protocols.errors`.
    """

    @property
    def clock_rules(self) -> ClockRules:
        """Of the device's model."""

    async def read_clock(self) -> ClockReading:
        """Its clock, the best of a few readings where the round trips are long."""

    async def shift_clock(self, by: timedelta) -> None:
        """Move it by whole seconds. Raises LocalProtocolError beyond `ClockRules.most`."""

    async def set_clock(self, known: ClockReading, change: ClockChange) -> None:
        """Set it to the time of now, by SET or PRESET; ``known`` is its last reading."""


@runtime_checkable
class LineClockConversation(ClockConversation, Protocol):
    """A conversation on a line whose meters can be told the time all at once (`ClockChange.BROADCAST`):
    nobody answers, and each takes it once a day, only within `ClockRules.most` and not around midnight."""

    def of(self, target: Target) -> ClockConversation:
        """A conversation with another meter of the line, over the same link; one at a time is asked.

        Raises LocalProtocolError for a meter of another line, or of which the settings are wrong.
        """

    def day_began(self, moment: datetime) -> datetime:
        """When the day of the meters' zone began."""

    def takes_broadcast(self, moment: datetime) -> datetime:
        """From when on the meters take it: the moment itself, or when it is no longer around midnight."""

    async def broadcast_clock(self) -> None:
        """Tell all meters of the line the time of now."""


@runtime_checkable
class SummerTimeConversation(Conversation, Protocol):
    """A conversation with a device that has rules of summer time of its own."""

    async def summer_time(self) -> tuple[str, bool]:
        """What its rules are, in words, and whether they are what its model wants (true, where it wants
        nothing)."""

    async def set_summer_time(self) -> None:
        """Give it the rules that its model wants."""
