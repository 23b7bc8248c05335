"""What reading a meter's clock gave."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A clock shows ``offset`` more than it was at ``at`` (aware UTC, the middle of the round trip), give or
    take ``uncertainty``: half the round trip and the resolution of the stamp.

    ``deviation_min`` and ``status`` are the stamp's own, None where it has none.
    """

    at: datetime
    offset: timedelta
    uncertainty: timedelta
    deviation_min: int | None = None
    status: int | None = None

    @property
    def shown(self) -> datetime:
        """What the clock showed, in UTC."""
        return self.at + self.offset


@dataclass(frozen=True, slots=True)
class MeterClockReading:
    """The reading of one meter (a concentrator: the negative number of its node), by ``source``."""

    meter_id: int
    reading: ClockReading
    source: str
