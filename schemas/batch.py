"""What concentrators of ours send over MQTT: batches of load curves, and the talk about those that were lost.

Three messages, each told by its ``format``. A batch has a sequence number, one more than the batch before
it in the same ``run`` (a run ends when a concentrator loses its count). Whoever misses one asks by range with
a request; what the concentrator no longer has, it declares lost. Receiving a batch twice has no effect.

Values are integers with a power of ten, times are seconds since 1970-01-01 UTC: nothing in a batch can be
rounded or misread. ``batch.schema.json`` beside this file is the JSON Schema of it, made from these classes
(``python -m schemas.batch``) and held equal to them by a test.
"""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from schemas.model import Scaler
from schemas.obis_pattern import check_obis

MAX_ROWS: Final = 20_000
MAX_SERIES: Final = 10_000
MAX_LAYOUTS: Final = 256
MAX_CHANNELS: Final = 16

Identity = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-~]+$")]
ObisCode = Annotated[
    str,
    Field(pattern=r"^[0-9]{1,3}-[0-9]{1,3}:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\*[0-9]{1,3}$"),
    AfterValidator(check_obis),
]
Run = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z_.-]+$")]
Sequence = Annotated[int, Field(ge=0, lt=2**63)]
#: Seconds since 1970-01-01 UTC.
Seconds = Annotated[int, Field(ge=0, lt=2**32)]
StatusWord = Annotated[int, Field(ge=0, lt=2**31)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
#: A plain decimal number as text, so that no JSON reader makes a binary float of it.
DecimalText = Annotated[str, Field(max_length=40, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BatchChannel(_Part):
    """One column: exact value = integer x 10**scaler in ``unit`` (a DLMS unit's symbol)."""

    obis: ObisCode
    scaler: Scaler = 0
    unit: Annotated[str, Field(min_length=1, max_length=16)]


Layout = Annotated[tuple[BatchChannel, ...], Field(min_length=1, max_length=MAX_CHANNELS)]


class Series(_Part):
    """Rows of one meter's profile, column by column.

    ``layout`` says which of the batch's layouts the columns have. ``stamps`` are the ends of the intervals;
    ``values`` has one list for each channel of the layout, as long as ``stamps``; null is missing. ``status``
    is the meter's own status word of each row, where it has one.
    """

    meter: Identity
    profile: Annotated[int, Field(ge=1, le=32767)] = 1
    period_s: Annotated[int, Field(gt=0, le=366 * 86400)]
    layout: Annotated[int, Field(ge=0, lt=MAX_LAYOUTS)] = 0
    stamps: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=MAX_ROWS)]
    status: Annotated[tuple[StatusWord | None, ...], Field(max_length=MAX_ROWS)] | None = None
    values: Annotated[
        tuple[Annotated[tuple[Int64 | None, ...], Field(max_length=MAX_ROWS)], ...],
        Field(min_length=1, max_length=MAX_CHANNELS),
    ]


class BatchRegister(_Part):
    """One value of any OBIS code. ``time`` is the meter's."""

    meter: Identity
    obis: ObisCode
    value: DecimalText
    unit: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    time: Seconds


class BatchEvent(_Part):
    """Something a meter, or its concentrator, reports. ``code`` is the maker's, ``time`` the meter's."""

    meter: Identity
    time: Seconds
    code: Annotated[int, Field(ge=0, lt=2**31)]
    text: Annotated[str, Field(max_length=256)] | None = None


class Batch(_Part):
    """One batch of one concentrator. ``sent`` is its own time, ``layouts`` serve the series by index."""

    format: Literal["headend.batch.1"]
    concentrator: Identity
    run: Run
    sequence: Sequence
    sent: Seconds
    layouts: Annotated[tuple[Layout, ...], Field(max_length=MAX_LAYOUTS)] = ()
    series: Annotated[tuple[Series, ...], Field(max_length=MAX_SERIES)] = ()
    registers: Annotated[tuple[BatchRegister, ...], Field(max_length=MAX_ROWS)] = ()
    events: Annotated[tuple[BatchEvent, ...], Field(max_length=MAX_ROWS)] = ()

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        for channels in self.layouts:
            codes = {channel.obis for channel in channels}
            if len(codes) != len(channels):
                raise ValueError("two channels of a layout have the same OBIS code")
        for one in self.series:
            if one.layout >= len(self.layouts):
                raise ValueError(f"series of {one.meter}: there is no layout {one.layout}")
            wide, rows = len(self.layouts[one.layout]), len(one.stamps)
            if len(one.values) != wide:
                raise ValueError(f"series of {one.meter}: {len(one.values)} columns for {wide} channels")
            if any(len(column) != rows for column in one.values):
                raise ValueError(f"series of {one.meter}: a column is not as long as stamps")
            if one.status is not None and len(one.status) != rows:
                raise ValueError(f"series of {one.meter}: status is not as long as stamps")
        return self


class _Range(_Part):
    concentrator: Identity
    run: Run
    first: Sequence
    last: Sequence

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("last is before first")
        return self


class BatchRequest(_Range):
    """The head-end asks for the batches ``first`` to ``last`` (both included) again."""

    format: Literal["headend.batch-request.1"]


class BatchLost(_Range):
    """The concentrator no longer has the batches ``first`` to ``last`` (both included)."""

    format: Literal["headend.batch-lost.1"]


BatchMessage = Batch | BatchRequest | BatchLost
BATCH: Final[TypeAdapter[BatchMessage]] = TypeAdapter(Annotated[BatchMessage, Field(discriminator="format")])


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the three messages."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headend batches over MQTT",
        **BATCH.json_schema(),
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))  # noqa: T201 - this is how the file is made
