"""What tariff programs ask of a meter: its calendars, table by table."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from schemas.model.tariff import TariffLimits
from schemas.tariff.calendar import Compiled, MeterTariff


class TariffPart(StrEnum):
    """A table that is written by itself, in the order of writing."""

    DAYS = "days"
    WEEKS = "weeks"
    SEASONS = "seasons"
    NAME = "name"
    SPECIAL_DAYS = "special_days"  # of both calendars, where they have not their own
    REST_DAYS = "rest_days"  # of both calendars


@runtime_checkable
class TariffConversation(Protocol):
    """A conversation with a meter that keeps an active and a passive tariff calendar."""

    async def read_tariff(self, days: Collection[int] | None = None) -> MeterTariff:
        """What it has. Languages in which each day is asked for by itself ask for those that seasons use and
        for ``days``; None: for those that special days and rest days use. Raises DataAccessRefused, and as
        all reads."""

    def tariff_as_stored(self, wanted: Compiled) -> Compiled:
        """What `read_tariff` gives where the meter has stored ``wanted`` rightly: languages that know no
        names, or no weeks, have others in their place."""

    async def tariff_misfits(self, wanted: Compiled, tariffs: Mapping[int, int]) -> list[str]:
        """What in the meter does not do what the calendar's scripts are meant to; ``tariffs`` are the
        selectors' tariffs. Empty where all does, and where the meter has nothing to be asked."""

    async def write_tariff(self, parts: Sequence[TariffPart], wanted: Compiled) -> None:
        """Write these tables of the passive calendar, in this order, and what is of both; languages that know
        no single tables write all. Raises DataAccessRefused."""

    async def disarm_tariff(self) -> None:
        """No passive calendar is to become active by itself. Raises DataAccessRefused."""

    async def activate_tariff(self, at: datetime | None) -> datetime | None:
        """Have the passive calendar activated at ``at`` (aware), or now; when that will be, None where it is
        done. Raises PeerRefused."""


def limits_of(model: object) -> TariffLimits | None:
    """How much of a tariff program meters of a model keep; None where none can be applied."""
    found = getattr(model, "tariff", None)
    return found if isinstance(found, TariffLimits) else None
