"""What a load curve's answer looks like, for OpenAPI; rendering writes the answer itself, row by row."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headend.store.consumption import Reason

Quantity = Literal["active_import", "active_export", "reactive_import", "reactive_export"]
QualityName = Literal["measured", "pushed", "sampled", "manual", "handheld", "estimated", "billing"]

_CHANNEL = {"obis": "1-0:1.8.0*255", "unit": "Wh", "scaler": -3, "kind": "cumulative", "modulus": None}
_ROW = {
    "start": "2026-03-01T00:00:00Z",
    "end": "2026-03-01T00:15:00Z",
    "stamp": "2026-03-01T00:15:00Z",
    "layout": "1",
    "values": {"active_import": "12048.950"},
    "consumption": {"active_import": "0.125"},
    "quality": "measured",
    "amr_status": 0,
    "clock_status": 0,
}
_HEAD = {
    "profile": 1,
    "from": "2026-03-01T00:00:00Z",
    "to": "2026-03-01T00:15:00Z",
    "count": 1,
    "layouts": {"1": {"active_import": _CHANNEL}},
}
_METER_EXAMPLE: dict[str, Any] = {"meter": "SIM00000001", **_HEAD, "rows": [_ROW]}
_POINT_EXAMPLE: dict[str, Any] = {
    "point": "MP-000001",
    **_HEAD,
    "installations": [{"meter": "SIM00000001", "from": "2026-01-01T00:00:00Z", "to": None}],
    "rows": [{**_ROW, "meter": "SIM00000001", "ratio": "20", "values": {"active_import": "240979.000"},
              "consumption": {"active_import": None}, "reasons": {"active_import": "gap"}}],
}  # fmt: skip


class ChannelModel(BaseModel):
    """What a quantity's column holds: value = integer of the meter x 10**scaler, in unit."""

    obis: str
    unit: str
    scaler: int
    kind: Literal["cumulative", "interval"]
    modulus: int | None = Field(description="raw value at which the register rolls over; null where not told")


class RowModel(BaseModel):
    """One interval [start, end). Values are decimal strings with all digits of the meter; null: missing."""

    start: str
    end: str
    stamp: str = Field(description="the meter's own stamp of the row")
    layout: str = Field(description="key into layouts")
    values: dict[Quantity, str | None]
    consumption: dict[Quantity, str | None]
    reasons: dict[Quantity, Reason] | None = Field(default=None, description="why a consumption is null")
    quality: QualityName
    amr_status: int | None = Field(
        description="the meter's own status word, unsigned; null where it has none"
    )
    clock_status: int | None
    clock_changed: bool = Field(
        default=False,
        description="the meter's clock was shifted or set in this interval, or nobody knows whether it was: "
        "it may be longer or shorter than it says; there only where true",
    )


class LoadCurve(BaseModel):
    """A meter's load curve, as metered."""

    model_config = ConfigDict(json_schema_extra={"examples": [_METER_EXAMPLE]})

    meter: str
    profile: int
    from_: str = Field(alias="from")
    to: str
    count: int
    layouts: dict[str, dict[Quantity, ChannelModel]]
    rows: list[RowModel]


class PointRowModel(RowModel):
    """As of a meter, multiplied by ``ratio``; ``rounded`` where that is no finite decimal."""

    meter: str
    ratio: str | None = Field(
        description="CT x VT, as an integer or a fraction such as 200/7; null: it changed"
    )
    rounded: bool = False


class InstallationModel(BaseModel):
    """A meter at the point during [from, to); ``to`` null while it is there."""

    meter: str
    from_: str = Field(alias="from")
    to: str | None


class PointLoadCurve(BaseModel):
    """A metering point's load curve on the primary side."""

    model_config = ConfigDict(json_schema_extra={"examples": [_POINT_EXAMPLE]})

    point: str
    profile: int
    from_: str = Field(alias="from")
    to: str
    count: int
    layouts: dict[str, dict[Quantity, ChannelModel]]
    installations: list[InstallationModel]
    rows: list[PointRowModel]


def curve_responses(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of 200 (JSON and CSV) and 304."""
    csv_example = (
        "start,end,stamp,active_import,active_import_unit,active_import_consumption,active_import_reason,...,"
        "quality,amr_status,clock_status,clock_changed\r\n"
        "2026-03-01T00:00:00Z,2026-03-01T00:15:00Z,2026-03-01T00:15:00Z,12048.950,Wh,0.125,,...,"
        "measured,0,0,false\r\n"
    )
    return {
        200: {
            "model": model,
            "description": "The curve; CSV with a header line where format=csv. `clock_changed` (true or "
            "false in CSV) marks intervals in which the meter's clock was changed; a mark that comes or goes "
            "later changes the ETag",
            "headers": {"ETag": {"description": "strong", "schema": {"type": "string"}}},
            "content": {"text/csv": {"schema": {"type": "string"}, "example": csv_example}},
        },
        304: {"description": "The caller's copy still holds (If-None-Match)"},
    }
