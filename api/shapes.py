"""Types that several slices use in paths, queries and bodies: bounded, without NUL, exact."""

import re
from decimal import Decimal
from typing import Annotated, Final

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator, Field

from api.errors import BadValue
from protocols.dlms.obis import Obis
from schemas.text import Name as Name

AssetId = Annotated[
    str,
    Path(
        description="the meter's asset id: serial number or barcode", max_length=128, examples=["SIM00000001"]
    ),
]
PointCode = Annotated[
    str, Path(description="the metering point's code", max_length=128, examples=["MP-000001"])
]
Profile = Annotated[
    int, Query(ge=0, le=32767, description="number of the load profile in the meter's model", examples=[1])
]
From = Annotated[
    str,
    Query(
        alias="from",
        max_length=64,
        description="start of the half-open range [from, to): RFC 3339 with an offset (write + as %2B)",
        examples=["2026-03-01T00:00:00Z"],
    ),
]
To = Annotated[
    str,
    Query(
        max_length=64,
        description="end of the half-open range [from, to), at most 400 days after its start",
        examples=["2026-03-02T00:00:00Z"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many items in one answer")]

#: Digits that PostgreSQL's numeric and any meter's register hold with ease.
_MOST_DIGITS: Final = 40
#: Neither exponent nor underscore nor another script's digits: what is not how a register shows is a mistake.
_DECIMAL: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


def _text_only(value: object) -> object:
    if isinstance(value, bool | float):
        raise ValueError('write it as a string, "12048.950": a JSON number loses digits on its way')  # noqa: TRY004
    if isinstance(value, str) and (len(value) > _MOST_DIGITS + 2 or _DECIMAL.fullmatch(value) is None):
        raise ValueError(f"must be digits with a point, 12048.950, at most {_MOST_DIGITS}")
    return value


def _bounded(value: Decimal) -> Decimal:
    if len(value.as_tuple().digits) > _MOST_DIGITS:
        raise ValueError(f"must be a decimal of at most {_MOST_DIGITS} digits")
    return value


#: A decimal that arrives as a string, or as an integer.
Exact = Annotated[Decimal, BeforeValidator(_text_only), AfterValidator(_bounded)]


def obis(text: str) -> str:
    """The full written form of an OBIS code in any written form. Raises ValueError."""
    return str(Obis.parse(text))


#: An OBIS code in a body, in any written form; becomes the full one.
ObisText = Annotated[str, Field(max_length=32), AfterValidator(obis)]


def obis_parameter(text: str, name: str) -> str:
    """As ``obis``, for a parameter: BadValue with its name."""
    try:
        return obis(text)
    except ValueError as exc:
        raise BadValue.parameter(name, str(exc)) from exc


def plain_decimal(value: Decimal | None) -> str | None:
    """Every digit, never with an exponent."""
    return None if value is None else format(value, "f")
