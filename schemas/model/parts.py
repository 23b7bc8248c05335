"""What the parts of a profile are made of: checked texts and numbers, and tables that know their keys."""

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.obis_pattern import check_obis, check_pattern


class ModelError(ValueError):
    """A profile that cannot be used; the message says the file and the key."""


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of the IANA database") from error
    return name


def _check_hex(text: str) -> str:
    try:
        bytes.fromhex(text)
    except ValueError:
        raise ValueError("must be hexadecimal digits") from None
    return text


ObisText = Annotated[str, AfterValidator(check_obis)]
ObisPattern = Annotated[str, AfterValidator(check_pattern)]
ZoneName = Annotated[str, AfterValidator(_check_zone)]
HexText = Annotated[str, AfterValidator(_check_hex)]
#: Power of ten as COSEM's scaler_unit carries it (integer8).
Scaler = Annotated[int, Field(ge=-128, le=127)]


class Part(BaseModel):
    """A table of a profile: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scaling(Part):
    """Scaler and unit of a value whose message has neither: exact value = raw x 10**scaler in ``unit``."""

    scaler: Scaler = 0
    unit: str | None = None
