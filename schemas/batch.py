"""What concentrators of ours send over MQTT: batches of load curves, and the talk about those that were lost.

Five messages, each told by its ``format``. A batch has a sequence number, one more than the batch before
it in the same ``run`` (a run ends when a concentrator loses its count). Whoever misses one asks by range with
a request; what the concentrator no longer has, it declares lost. What the head-end has committed it
acknowledges by range, and only then may the concentrator forget it. Receiving a batch twice has no effect.
An announcement tells which meters are below the concentrator.

Values are integers with a power of ten, times are seconds since 1970-01-01 UTC: nothing in a batch can be
rounded or misread. ``batch.schema.json`` beside this file is the JSON Schema of it, made from these classes
(``python -m schemas.batch``) and held equal to them by a test.

The compact form is the same tree in CBOR (RFC 8949), each name replaced by its number in ``CBOR_KEYS``, which
the schema publishes as ``x-cbor-keys``. A message that begins with a CBOR map, or with the tag 55799 of
self-described CBOR, is in the compact form; one that begins with a brace is JSON.
"""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from schemas.event import EventLog, EventMeaning
from schemas.model import Scaler
from schemas.network import LinkKind
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
    """Something a meter, or its concentrator, reports.

    Without ``meter`` it speaks of the concentrator itself. ``code`` is the maker's, ``meaning`` the common
    word for it where the concentrator knows one; one of both is there. ``time`` is the meter's, or with log
    ``station`` the concentrator's; for something with a duration it is the end.
    """

    meter: Identity | None = None
    time: Seconds
    code: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    text: Annotated[str, Field(max_length=256)] | None = None
    log: EventLog = EventLog.STANDARD
    meaning: EventMeaning | None = None
    duration_s: Annotated[int, Field(ge=0, lt=2**31)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.code is None and self.meaning is None:
            raise ValueError("an event has a code or a meaning")
        return self


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


class BatchAck(_Range):
    """The head-end has the batches ``first`` to ``last`` (both included) in its database, for good."""

    format: Literal["headend.batch-ack.1"]


class AnnouncedMeter(_Part):
    """A meter below a concentrator: as what kind (a model's name), behind what, how well, heard when.

    ``parent`` is the meter that relays for it, None where it is reached without relay; ``hops`` counts the
    links up to the concentrator, ``quality`` is that of the last of them, 0 to 100.
    """

    meter: Identity
    model: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    title: Annotated[str, Field(max_length=128)] | None = None
    address: Annotated[str, Field(max_length=256)] | None = None
    parent: Identity | None = None
    link: LinkKind | None = None
    hops: Annotated[int, Field(ge=1, le=255)] | None = None
    quality: Annotated[int, Field(ge=0, le=100)] | None = None
    heard: Seconds | None = None


class BatchAnnounce(_Part):
    """The meters below a concentrator, all of them or those that are new. ``sent`` is its own time."""

    format: Literal["headend.batch-announce.1"]
    concentrator: Identity
    sent: Seconds
    meters: Annotated[tuple[AnnouncedMeter, ...], Field(max_length=MAX_SERIES)]


BatchMessage = Batch | BatchRequest | BatchLost | BatchAck | BatchAnnounce
BATCH: Final[TypeAdapter[BatchMessage]] = TypeAdapter(Annotated[BatchMessage, Field(discriminator="format")])


#: Number of each name in the compact form. Numbers are never used again for another name.
CBOR_KEYS: Final = {
    "format": 0, "concentrator": 1, "run": 2, "sequence": 3, "sent": 4, "layouts": 5, "series": 6,
    "registers": 7, "events": 8, "first": 9, "last": 10, "meters": 11, "meter": 12, "profile": 13,
    "period_s": 14, "layout": 15, "stamps": 16, "status": 17, "values": 18, "obis": 19, "scaler": 20,
    "unit": 21, "value": 22, "time": 23, "code": 24, "text": 25, "log": 26, "meaning": 27, "duration_s": 28,
    "model": 29, "title": 30, "address": 31, "parent": 32, "link": 33, "hops": 34, "quality": 35,
    "heard": 36,
}  # fmt: skip


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the five messages, with the numbers of the compact form."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headend batches over MQTT",
        "x-cbor-keys": CBOR_KEYS,
        **BATCH.json_schema(),
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))  # noqa: T201 - this is how the file is made
