"""What may be asked of meters now, and what is answered at once."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from api.shapes import Name, ObisText
from headend.moment.secrets import LONGEST, SHORTEST
from schemas.job import Billing, CurveRange, Curves, Events, Registers, Selection
from schemas.read_result import RefusedObject, RegisterValue, StoredRows

#: One request's share of a meter's time: a profile of 31 days is 2,976 quarter-hours.
MAX_PROFILE_RANGE: Final = timedelta(days=31)
#: Meters that one request may name; a selection may mean any number.
MOST_METERS: Final = 20_000
_FIRST: Final = datetime(1990, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_REGISTER: Final[dict[str, Any]] = {
    "obis": "1-0:1.8.0*255",
    "attribute": 2,
    "read_at": "2026-03-01T08:00:00Z",
    "meter_time": None,
    "value": "12048950",
    "text": None,
    "unit": "Wh",
    "quality": "measured",
    "from_float": False,
}

WorkAsk = Annotated[Curves | CurveRange | Registers | Events | Billing, Field(discriminator="kind")]


class WebhookAsk(BaseModel):
    """Who is told of the end: a POST of a summary, signed (``Headend-Signature: t=...,v1=...``)."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2048, description="https, or a host that webhook_hosts names")]
    secret: SecretStr | None = Field(
        default=None,
        description="signs it, 16 to 256 bytes; kept sealed, never told. None: the settings' webhook_secret",
    )

    @model_validator(mode="after")
    def _signs(self) -> Self:
        if self.secret is not None:
            try:
                length = len(self.secret.get_secret_value().encode())
            except UnicodeEncodeError:
                raise ValueError("secret is no text that UTF-8 can hold") from None
            if not SHORTEST <= length <= LONGEST:
                raise ValueError(f"secret must have {SHORTEST} to {LONGEST} bytes")
        return self


class ReadsAsk(BaseModel):
    """What to read of which meters: ``meters`` by asset id or a ``selection``, one of the two."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "meters": ["SIM00000001", "SIM00000002"],
                    "works": [
                        {"kind": "registers", "obis": ["1-0:1.8.0*255"]},
                        {
                            "kind": "range",
                            "profile": 1,
                            "since": "2026-03-01T00:00:00Z",
                            "until": "2026-03-02T00:00:00Z",
                        },
                    ],
                    "wait_s": 10,
                }
            ]
        },
    )

    meters: list[Name] | None = Field(default=None, min_length=1, max_length=MOST_METERS)
    selection: Selection | None = None
    works: list[WorkAsk] = Field(min_length=1, max_length=16, description="what is read of each meter")
    wait_s: float = Field(
        default=10, ge=0, le=60, allow_inf_nan=False, description="how long the call waits for the end"
    )
    within_s: int = Field(
        default=3600, ge=1, le=7 * 86_400, description="no attempt begins later than that from now"
    )
    attempts: int = Field(default=3, ge=1, le=20, description="attempts at one meter in all")
    priority: int = Field(default=5, ge=0, le=9, description="of two reads that wait, the higher goes first")
    webhook: WebhookAsk | None = Field(default=None, description="None: the settings' webhook_url, if any")

    @model_validator(mode="after")
    def _whom(self) -> Self:
        if (self.meters is None) == (self.selection is None):
            raise ValueError("name meters in 'meters', or select them by 'selection': one of the two")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it the same request: neither how long its sender waits, nor the secret itself."""
        return self.model_dump(mode="json", exclude={"wait_s": True, "webhook": {"secret"}})


class ProfileAsk(BaseModel):
    """A range of a load profile: intervals that start in [from, to), at most 31 days."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(
        default=1, ge=0, le=32767, description="number of the load profile in the meter's model"
    )
    from_: str = Field(alias="from", max_length=64, description="RFC 3339 with an offset")
    to: str = Field(max_length=64, description="RFC 3339 with an offset")


class ReadAsk(BaseModel):
    """What to read now; at least one of the two."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "obis": ["1-0:1.8.0*255", "0-0:1.0.0*255"],
                    "profile": {"number": 1, "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"},
                }
            ]
        },
    )

    obis: list[ObisText] = Field(
        default_factory=list, max_length=64, description="OBIS codes in any written form"
    )
    profile: ProfileAsk | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.obis and self.profile is None:
            raise ValueError("name at least one OBIS code in 'obis', or a range in 'profile'")
        return self


class ReadAnswer(BaseModel):
    """What came of a read now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "meter": "SIM00000001",
                    "job": 4711,
                    "registers": [_REGISTER],
                    "refused": [{"obis": "0-0:1.0.0*255", "reason": "read-write-denied"}],
                    "intervals": 96,
                    "stored": {
                        "new": 96,
                        "completed": 0,
                        "corrected": 0,
                        "repeated": 0,
                        "fragments": 0,
                        "registers": 1,
                        "quarantined": 0,
                    },
                }
            ]
        }
    )

    meter: str
    job: int = Field(description="number of the job that read it")
    registers: list[RegisterValue]
    refused: list[RefusedObject]
    intervals: int = Field(description="rows that the load profile gave")
    stored: StoredRows | None = Field(
        description="null where what came was stored together with what others gave"
    )


def bad_range(work: CurveRange) -> tuple[str, str] | None:
    """Member and reason, where a range is none that a meter could have."""
    if work.since < _FIRST:
        return "since", "lies before 1990"
    if work.until > _LAST:
        return "until", "lies behind 2200"
    if work.until - work.since > MAX_PROFILE_RANGE:
        return "until", f"ask for at most {MAX_PROFILE_RANGE.days} days at a time"
    return None
