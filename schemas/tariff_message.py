"""What is said over MQTT where a device is given a tariff program: tables beside what counts, then activated.

The convention is ours: no device of a maker speaks it. The head-end asks and the device answers, each told by
its ``format``. Every request has an ``id`` of its own, and its answer has the same one: whatever has another
is no answer to it. Three requests: how it stands (state), a program that is to wait (write), when the waiting
one counts (activate). Two answers: how it stands then (told), or that it will not, and why (refused).

What a device holds outlives its connections. A program comes whole, with its special days, in one message,
and replaces what waited before; it then has no time of activation. Activated it counts, and waits no more; to
activate where nothing waits is refused. What changes something is good ``until`` a moment: a device that
hears of it later, as from a broker that kept it, refuses, and so does one whose clock is not set. Nothing
here is published retained, and what comes retained is passed over.

Switches follow the device's own local time. ``tariff.schema.json`` beside this file is the JSON Schema of it,
made from these classes (``python -m schemas.tariff_message``) and held equal to them by a test.
"""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from schemas.image_message import RequestId

#: Of names; numbers of days, and of tariffs.
Name = Annotated[str, Field(max_length=64)]
DayNumber = Annotated[int, Field(ge=0, le=255)]
Tariff = Annotated[int, Field(ge=0, le=65_535)]
#: HH:MM, 00:00 to 23:59.
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
#: MM-DD of each year.
YearDay = Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
#: MM-DD of each year, or YYYY-MM-DD once.
Date = Annotated[str, Field(pattern=r"^([0-9]{4}-)?(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
#: Seconds since 1970, UTC.
Seconds = Annotated[int, Field(ge=0, lt=1 << 32)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProgramSwitch(_Part):
    """From this time of day on this tariff counts, until the next switch or midnight."""

    start: TimeOfDay
    tariff: Tariff


class ProgramDay(_Part):
    """A kind of day."""

    number: DayNumber
    switches: Annotated[tuple[ProgramSwitch, ...], Field(max_length=1440)]


class ProgramWeek(_Part):
    """Numbers of seven days, Monday first."""

    name: Name
    days: Annotated[tuple[DayNumber, ...], Field(min_length=7, max_length=7)]


class ProgramSeason(_Part):
    """From this day of each year on this week counts, until another season begins."""

    name: Name
    start: YearDay
    week: Name


class ProgramSpecialDay(_Part):
    """On this date this day counts, whatever the week says."""

    date: Date
    day: DayNumber


class TariffTables(_Part):
    """A tariff program as a device keeps it. Numbers of days, names of weeks and dates are each there once; a
    week or special day may only have a day, a season only a week, that is there."""

    name: Name
    seasons: Annotated[tuple[ProgramSeason, ...], Field(max_length=255)]
    weeks: Annotated[tuple[ProgramWeek, ...], Field(max_length=255)]
    days: Annotated[tuple[ProgramDay, ...], Field(max_length=255)]
    special_days: Annotated[tuple[ProgramSpecialDay, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _closed(self) -> Self:
        days, weeks = [one.number for one in self.days], [one.name for one in self.weeks]
        for what, names in (
            ("days", days), ("weeks", weeks), ("special days", [one.date for one in self.special_days])
        ):  # fmt: skip
            if len(set(names)) < len(names):
                raise ValueError(f"two {what} have the same number, name or date")
        used = {day for one in self.weeks for day in one.days} | {one.day for one in self.special_days}
        if not used <= set(days):
            raise ValueError(f"day {min(used - set(days))} is used and not there")
        if not {one.week for one in self.seasons} <= set(weeks):
            raise ValueError("a season has a week that is not there")
        return self


class TariffAsk(_Part):
    """How does it stand?"""

    format: Literal["headend.tariff-state.1"] = "headend.tariff-state.1"
    id: RequestId


class TariffWrite(_Part):
    """Keep this program beside the one that counts, and activate it when told."""

    format: Literal["headend.tariff-write.1"] = "headend.tariff-write.1"
    id: RequestId
    until: Seconds
    program: TariffTables


class TariffActivate(_Part):
    """The waiting program counts from ``at`` on. ``never``: it has no time any more."""

    format: Literal["headend.tariff-activate.1"] = "headend.tariff-activate.1"
    id: RequestId
    until: Seconds
    at: Seconds | Literal["now", "never"]


class TariffTold(_Part):
    """How it stands: the program that counts, the one that waits, and from when on that will count."""

    format: Literal["headend.tariff-told.1"] = "headend.tariff-told.1"
    id: RequestId
    active: TariffTables
    passive: TariffTables | None = None
    activates_at: Seconds | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.activates_at is not None and self.passive is None:
            raise ValueError("a time of activation, and nothing that waits for it")
        return self


class TariffRefused(_Part):
    """It will not, and why. Nothing has changed."""

    format: Literal["headend.tariff-refused.1"] = "headend.tariff-refused.1"
    id: RequestId
    reason: Annotated[str, Field(min_length=1, max_length=256)]


TariffRequest = TariffAsk | TariffWrite | TariffActivate
TariffAnswer = TariffTold | TariffRefused
TariffMessage = TariffRequest | TariffAnswer
MESSAGE: Final[TypeAdapter[TariffMessage]] = TypeAdapter(
    Annotated[TariffMessage, Field(discriminator="format")]
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the five messages."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headend tariff programs over MQTT",
        **MESSAGE.json_schema(),
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))  # noqa: T201 - this is how the file is made
