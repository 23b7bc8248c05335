"""Bodies and answers about metering points."""

from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from api.shapes import Exact, Name, ObisText, obis, plain_decimal
from api.times import Instant, rfc3339
from schemas.meter import Installation, Ratio

_REGISTERS: Final = {"1-0:1.8.0*255": "12048.950"}
_RATIO: Final = {"since": "2026-01-01T00:00:00Z", "ct_numerator": "100", "ct_denominator": "5"}
_TOLD_RATIO: Final = {**_RATIO, "until": None, "vt_numerator": "1", "vt_denominator": "1"}
_INSTALLATION: Final = {
    "meter": "SIM00000001",
    "since": "2026-01-01T00:00:00Z",
    "until": None,
    "start_registers": _REGISTERS,
    "removal_registers": None,
}
_DETAIL: Final[dict[str, Any]] = {
    "code": "MP-000001",
    "installations": [_INSTALLATION],
    "ratios": [_TOLD_RATIO],
}


def _body(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


def _once(value: object) -> object:
    """Two written forms of one code would leave one of two readings, and nobody knows which."""
    if isinstance(value, dict):
        seen: dict[str, str] = {}
        for text in value:
            try:
                code = obis(text)
            except (TypeError, ValueError):
                continue  # told with its place when the key is checked
            if code in seen:
                raise ValueError(f"{text!r} and {seen[code]!r} are the same register: give it once")
            seen[code] = text
    return value


#: OBIS code -> exact reading, as a decimal string in the unit of the meter's channel (Wh, not kWh).
Readings = Annotated[dict[ObisText, Exact], Field(max_length=64), BeforeValidator(_once)]

#: One side of a ratio: greater than 0.
Side = Annotated[Exact, Field(gt=0)]


class RatioBody(BaseModel):
    """CT/VT ratio from ``since`` on: primary = metered x ct x vt. The ratio that is open ends there."""

    model_config = _body(_RATIO)

    since: Instant
    until: Instant | None = None
    ct_numerator: Side
    ct_denominator: Side
    vt_numerator: Side = Decimal(1)
    vt_denominator: Side = Decimal(1)

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.until is not None and self.until <= self.since:
            raise ValueError("until must be later than since")
        return self

    def ratio(self) -> Ratio:
        return Ratio(
            self.since,
            self.until,
            self.ct_numerator,
            self.ct_denominator,
            self.vt_numerator,
            self.vt_denominator,
        )


class PointBody(BaseModel):
    """A new metering point, with a transformer ratio where it has one."""

    model_config = _body({"code": "MP-000001", "ratio": _RATIO})

    code: Name
    ratio: RatioBody | None = None


class InstallationBody(BaseModel):
    """A meter put where none is, with its readings at that moment."""

    model_config = _body(
        {"meter": "SIM00000001", "since": "2026-01-01T00:00:00Z", "start_registers": _REGISTERS}
    )

    meter: Name
    since: Instant
    start_registers: Readings = Field(default_factory=dict)


class ExchangeBody(BaseModel):
    """The meter at a point taken off and another put there, at the same moment."""

    model_config = _body(
        {
            "meter": "SIM00000002",
            "at": "2026-03-01T08:00:00Z",
            "removal_registers": _REGISTERS,
            "start_registers": {"1-0:1.8.0*255": "0.000"},
        }
    )

    meter: Name = Field(description="asset id of the new meter")
    at: Instant
    removal_registers: Readings = Field(default_factory=dict)
    start_registers: Readings = Field(default_factory=dict)


class InstallationModel(BaseModel):
    """A meter at the point during [since, until)."""

    meter: str
    since: str
    until: str | None
    start_registers: dict[str, str]
    removal_registers: dict[str, str] | None

    @classmethod
    def of(cls, one: Installation, asset_id: str) -> Self:
        removal = one.removal_registers
        return cls(
            meter=asset_id,
            since=rfc3339(one.since),
            until=None if one.until is None else rfc3339(one.until),
            start_registers={code: format(value, "f") for code, value in one.start_registers.items()},
            removal_registers=None
            if removal is None
            else {code: format(v, "f") for code, v in removal.items()},
        )


class RatioModel(BaseModel):
    """A ratio during [since, until)."""

    since: str
    until: str | None
    ct_numerator: str | None
    ct_denominator: str | None
    vt_numerator: str | None
    vt_denominator: str | None

    @classmethod
    def of(cls, ratio: Ratio) -> Self:
        return cls(
            since=rfc3339(ratio.since),
            until=None if ratio.until is None else rfc3339(ratio.until),
            ct_numerator=plain_decimal(ratio.ct_numerator),
            ct_denominator=plain_decimal(ratio.ct_denominator),
            vt_numerator=plain_decimal(ratio.vt_numerator),
            vt_denominator=plain_decimal(ratio.vt_denominator),
        )


class PointDetail(BaseModel):
    """A metering point: who was there when, and its ratios; oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DETAIL]})

    code: str
    installations: list[InstallationModel]
    ratios: list[RatioModel]


class PointPage(BaseModel):
    """Codes of metering points, in order; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"points": ["MP-000001"], "next": None}]})

    points: list[str]
    next: str | None
