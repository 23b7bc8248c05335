"""What a meter model says of tariff programs: how much of one its meters keep, and where."""

from pydantic import Field

from schemas.model.parts import ObisText, Part


class TariffLimits(Part):
    """How much of a tariff program a meter keeps.

    ``selectors``: number of a tariff -> selector of the script that switches to it. ``day_ids`` are those
    that it takes; where there are not twice as many as days, the special days of a new calendar can only be
    written when it is active. ``one_day_weeks``: it knows no weeks, each season is one day; but
    for rest days with ``rest_days`` (`schemas.tariff.rest_days`). ``special_years``: special days have a
    year, first to last here; None: they may be of each year.
    """

    seasons: int = Field(default=4, ge=1, le=255)
    weeks: int = Field(default=4, ge=1, le=255)
    days: int = Field(default=8, ge=1, le=255)
    switches: int = Field(default=8, ge=1, le=1440)
    special_days: int = Field(default=30, ge=0, le=1000)
    name_length: int = Field(default=8, ge=1, le=64)
    day_ids: tuple[int, int] = (1, 255)
    selectors: dict[int, int] = Field(default={1: 1, 2: 2}, min_length=1)
    one_day_weeks: bool = False
    rest_days: bool = False
    special_years: tuple[int, int] | None = None

    def selector(self, tariff: int) -> int | None:
        """The script selector of a tariff; None where the meter has not so many."""
        return self.selectors.get(tariff)

    def tariff_of(self, selector: int) -> int | None:
        """The tariff that a script selects; None where it is none of the model's."""
        return next((tariff for tariff, one in self.selectors.items() if one == selector), None)


class Tariff(TariffLimits):
    """The same of a COSEM meter, and which objects keep it. Without ``scripts`` or ``registers`` the meter
    has no such object, and what stands in it is not checked."""

    calendar: ObisText = "0-0:13.0.0*255"
    specials: ObisText = "0-0:11.0.0*255"
    scripts: ObisText | None = "0-0:10.0.100*255"
    registers: ObisText | None = "0-0:14.0.1*255"
