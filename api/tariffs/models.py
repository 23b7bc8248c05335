"""What is told of tariff documents and of meters' histories."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.times import rfc3339
from headend.store.tariffs import MeterProgram
from schemas.tariff.finding import Finding, Severity

_WEEK: Final = dict.fromkeys(
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"), "every"
)
_DOCUMENT: Final[dict[str, Any]] = {
    "name": "DAYNIGHT",
    "zone": "Europe/Berlin",
    "activation": "at once",
    "periods": {"day": 1, "night": 2},
    "days": [
        {
            "name": "every",
            "switches": [
                {"from": "00:00", "period": "night"},
                {"from": "06:00", "period": "day"},
                {"from": "25:00", "period": "night"},
            ],
        }
    ],
    "weeks": [{"name": "W", **_WEEK}],
    "seasons": [{"name": "S", "from": "01-01", "week": "W"}],
}
_FINDING: Final[dict[str, Any]] = {
    "line": None,
    "place": "days[0].switches[2].from",
    "severity": "error",
    "message": "'25:00' is no time of day: 00:00 to 23:59",
}


class CheckBody(BaseModel):
    """A document as an object, or as the text of a file (TOML or JSON), which gives findings their lines."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"document": _DOCUMENT, "model": "headend-sim"}]}
    )

    document: dict[str, Any] | None = None
    text: str | None = Field(default=None, max_length=1 << 20)
    model: str | None = Field(
        default=None, max_length=128, description="meter model that is to take the program"
    )

    @model_validator(mode="after")
    def _one(self) -> "CheckBody":
        if (self.document is None) == (self.text is None):
            raise ValueError("give document or text, and not both")
        return self


class FindingModel(BaseModel):
    """One thing that is wrong, or that its author should look at."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FINDING]})

    line: int | None = Field(description="in the text, from 1")
    place: str
    severity: Severity
    message: str

    @classmethod
    def of(cls, one: Finding) -> "FindingModel":
        return cls(line=one.line, place=one.place, severity=one.severity, message=one.message)


class CheckAnswer(BaseModel):
    """All findings at once. ``is_right``: there is no error among them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"is_right": False, "findings": [_FINDING]}]})

    is_right: bool
    findings: list[FindingModel]


_ROW: Final[dict[str, Any]] = {
    "program": "DAYNIGHT",
    "program_id": 3,
    "campaign": 7,
    "calendar": "DAYNIGHT",
    "content": {"calendar": ["DAYNIGHT", [["S", 1, 1, "W", None]], [], []], "special_days": []},
    "from": "2026-10-01T00:00:00Z",
    "to": None,
    "is_exact": True,
}


class MeterTariffModel(BaseModel):
    """What a meter had in [from, to)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ROW]}, serialize_by_alias=True)

    program: str | None = Field(description="name of the program; null: a calendar that is not ours")
    program_id: int | None
    campaign: int | None = Field(description="number of the campaign that brought it")
    calendar: str = Field(description="name of the calendar in the meter")
    content: dict[str, Any] = Field(description="calendar and special days as they were read")
    from_: str = Field(alias="from")
    to: str | None = Field(description="null: it has it still, as far as is known")
    is_exact: bool = Field(description="false: it was found then, and may have been there before")

    @classmethod
    def of(cls, one: MeterProgram) -> "MeterTariffModel":
        return cls.model_validate(
            {
                "program": one.program,
                "program_id": one.program_id,
                "campaign": one.campaign_id,
                "calendar": one.calendar,
                "content": dict(one.content),
                "from": rfc3339(one.since),
                "to": None if one.until is None else rfc3339(one.until),
                "is_exact": one.is_exact,
            }
        )


class MeterTariffs(BaseModel):
    """Newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tariffs": [_ROW]}]})

    tariffs: list[MeterTariffModel]
