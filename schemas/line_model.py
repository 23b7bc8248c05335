"""Meter models whose language tells values by name: DL/T 645, readouts of IEC 62056-21, P1 telegrams.

What a value is called, its unit and its digits come from the language; a model says which of them to ask for,
which make the columns of a load curve, and in what time zone the meter's clock runs. The files are in folders
of ``schemas/profiles`` named after the language; the same folders of the operator's own are looked at first.
"""

from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from schemas.model import ModelError, ObisText, Scaler, explain, read_profile
from schemas.model.parts import HexText, ZoneName
from schemas.model.tariff import TariffLimits
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout
from schemas.register_model import Sampling

#: Language, as profiles call it in ``driver = "..."`` -> folder of its models.
FAMILIES: Final = {"dlt645": "dlt645", "iec62056-21": "iec62056_21", "p1": "p1"}
_UNITS: Final = {
    "active_import": "Wh",
    "active_export": "Wh",
    "reactive_import": "varh",
    "reactive_export": "varh",
}
Quantity = Literal["active_import", "active_export", "reactive_import", "reactive_export"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LineColumn(_Part):
    """A column of the load curve: raw x 10**scaler in Wh or varh.

    ``values`` are names of the language (OBIS codes; identifiers in DL/T 645); of several the sum is meant,
    as where a meter tells its tariffs and no total. ``modulus`` is the raw value at which it rolls over.
    """

    values: tuple[str, ...] = Field(min_length=1)
    obis: ObisText
    scaler: Scaler = 0
    modulus: int | None = Field(default=None, gt=0)


class LoadRecords(_Part):
    """The curve that a DL/T 645 meter keeps itself: load records behind ``identifier`` (06-cc-00-01), one
    every ``period_s``, stamped with the end of their interval in the meter's local time; ``at_once`` are
    asked for in one request."""

    profile: int = Field(default=2, ge=1, le=32767)
    identifier: str
    period_s: int = Field(default=900, gt=0, le=86400)
    at_once: int = Field(default=8, ge=1, le=255)


class Dlt645Clock(_Part):
    """How clocks of DL/T 645 meters are put right.

    ``broadcast``: with all others of their line, within 5 minutes and once a day. Where the model has a
    ``password`` (level and three bytes, as they go on the wire; with the ``operator``'s code) date and time
    are written, however far off they are.
    """

    broadcast: bool = True
    password: SecretStr | None = None
    operator: HexText = "00000000"

    @model_validator(mode="after")
    def _four_bytes(self) -> "Dlt645Clock":
        told = self.operator if self.password is None else self.password.get_secret_value() + self.operator
        try:
            size = len(bytes.fromhex(told))
        except ValueError:
            raise ValueError("password must be hexadecimal digits") from None
        if size != (4 if self.password is None else 8):
            raise ValueError("password and operator have four bytes each")
        return self


class Dlt645Switch(_Part):
    """The ``password`` (level and three bytes, as they go on the wire) and ``operator``'s code with which
    relays of DL/T 645 meters are opened and closed (control code 1C)."""

    password: SecretStr
    operator: HexText = "00000000"

    @model_validator(mode="after")
    def _four_bytes(self) -> "Dlt645Switch":
        try:
            sizes = [len(bytes.fromhex(one)) for one in (self.password.get_secret_value(), self.operator)]
        except ValueError:
            raise ValueError("password must be hexadecimal digits") from None
        if sizes != [4, 4]:
            raise ValueError("password and operator have four bytes each")
        return self


class Dlt645Tariff(TariffLimits):
    """How much of a tariff program DL/T 645 meters keep, and the password (level and three bytes, as they go
    on the wire) and operator's code that they take it with. They know rest days in place of weeks, and public
    holidays with their year in place of special days. Meters keep fewer of these than the standard's 254."""

    seasons: int = Field(default=14, ge=1, le=14)
    weeks: int = Field(default=14, ge=1, le=255)
    days: int = Field(default=8, ge=1, le=8)
    switches: int = Field(default=14, ge=1, le=14)
    special_days: int = Field(default=254, ge=0, le=254)
    special_years: tuple[int, int] | None = (2000, 2099)
    name_length: int = Field(default=64, ge=1, le=64)
    day_ids: tuple[int, int] = (1, 8)
    selectors: dict[int, int] = Field(default={n: n for n in range(1, 64)}, min_length=1)
    one_day_weeks: bool = True
    rest_days: bool = True
    password: SecretStr
    operator: HexText = "00000000"

    @model_validator(mode="after")
    def _four_bytes(self) -> "Dlt645Tariff":
        try:
            sizes = [len(bytes.fromhex(one)) for one in (self.password.get_secret_value(), self.operator)]
        except ValueError:
            raise ValueError("password must be hexadecimal digits") from None
        if sizes != [4, 4]:
            raise ValueError("password and operator have four bytes each")
        return self


class LineModel(_Part):
    """A kind of meter that tells values by name.

    ``identifiers`` is what is asked for where nothing is named (DL/T 645; readouts and telegrams tell all
    that they have). ``codes`` gives names an OBIS code where the language knows none, or another. ``zone`` is
    that of the meter's clock where its times carry no offset.
    """

    name: str
    title: str
    maker: str | None = None
    driver: Literal["dlt645", "iec62056-21", "p1"]
    zone: ZoneName | None = None
    sampling: Sampling = Sampling()
    columns: dict[Quantity, LineColumn] = {}
    identifiers: tuple[str, ...] = ()
    codes: dict[str, ObisText] = {}
    load_records: LoadRecords | None = None
    clock: Dlt645Clock = Dlt645Clock()
    #: how its relay is switched; None: it has none, or nobody may
    switch: Dlt645Switch | None = None
    #: how its meters take tariff programs; None: they do not
    tariff: Dlt645Tariff | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "LineModel":
        programs = self.clock != Dlt645Clock() or self.switch or self.tariff
        if self.driver != "dlt645" and (self.identifiers or self.load_records or programs):
            raise ValueError("identifiers, load_records, clock, switch and tariff are for driver dlt645")
        if self.load_records is not None:
            if self.zone is None:
                raise ValueError("load_records need a zone: their times are the meter's local ones")
            if self.load_records.profile == self.sampling.profile:
                raise ValueError("load_records and sampling have the same profile number")
        return self

    @cached_property
    def tz(self) -> ZoneInfo | None:
        """The zone of the meter's clock."""
        return None if self.zone is None else ZoneInfo(self.zone)

    @cached_property
    def layout(self) -> ChannelLayout:
        """The row layout of its load curves."""
        made: list[Channel | None] = []
        for quantity in INTERVAL_QUANTITIES:
            column = self.columns.get(quantity)
            made.append(
                None
                if column is None
                else Channel(quantity, column.obis, column.scaler, _UNITS[quantity], modulus=column.modulus)
            )
        return ChannelLayout((made[0], made[1], made[2], made[3]))


@lru_cache(maxsize=256)
def load_line_model(name: str, folders: tuple[Path, ...] = (), *, language: str) -> LineModel:
    """The model ``name`` of ``language``, one of `FAMILIES`; packaged ones come behind those of ``folders``.

    Raises ModelError naming the file and every wrong key (unknown keys too).
    """
    family = FAMILIES[language]
    table: dict[str, Any] = read_profile(name, folders, family=family)
    try:
        model = LineModel.model_validate({**table, "name": name})
    except ValidationError as error:
        raise ModelError(f"{family}/{name}.toml: {explain(error)}") from error
    if model.driver != language:
        raise ModelError(f"{family}/{name}.toml: driver: must be {language!r} in this folder")
    return model


#: Folder -> how its models are loaded.
LOADERS: Final = {
    folder: partial(load_line_model, language=language) for language, folder in FAMILIES.items()
}
