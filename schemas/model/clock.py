"""How a profile says that the clock of its meters runs."""

from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import model_validator

from schemas.model.parts import Part, ZoneName


class Clock(Part):
    """How the meter's clock runs.

    ``time_zone`` serves stamps without a deviation; with ``follows_dst = false`` the clock keeps the zone's
    standard time all year. ``deviation``: ``standard`` is UTC = local time + deviation, ``inverted`` the
    maker's other sign, ``unspecified`` says that what the meter sends there means nothing.

    ``changes``: how it can be moved, best first: ``shift`` by seconds, ``preset`` and adjust, ``set``. Where
    a time zone is named, programs for clocks hold the meter's own rules of summer time against it.
    """

    time_zone: ZoneName | None = None
    follows_dst: bool = True
    deviation: Literal["standard", "inverted", "unspecified"] = "standard"
    changes: tuple[Literal["shift", "preset", "set"], ...] = ("shift", "set")

    @model_validator(mode="after")
    def _has_zone(self) -> Self:
        if self.deviation == "unspecified" and self.time_zone is None:
            raise ValueError('deviation = "unspecified" needs a time_zone')
        return self

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone, None where the profile names none."""
        return None if self.time_zone is None else ZoneInfo(self.time_zone)
