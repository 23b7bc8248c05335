"""Meter models whose language is MQTT: which topics a kind of device publishes to, and what its words mean.

A profile names the form of the payloads, the topics with the device's identity in them, and the load curves
that come of readings pushed near a boundary. What a form's own decoder does not know is added by path
(``[values]``), so that a device with JSON of its own needs no code. ``inherit`` works as for other models.
The files are in ``schemas/profiles/mqtt``; a folder ``mqtt`` in the operator's own is looked at first.
"""

import re
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationError, model_validator

from schemas.image_message import LEAST_CHUNK, MAX_CHUNK
from schemas.model import ModelError, ObisText, Scaler, explain, model_names, read_profile
from schemas.model.parts import Part, ZoneName
from schemas.model.tariff import TariffLimits
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout

FAMILY: Final = "mqtt"

#: Where the device's name stands in a topic: one level or several.
IDENTITY: Final = "{identity}"
#: Where an answer's topic has the word of its asking.
ASK: Final = "{ask}"
#: Column of the load curve -> its usual code and unit.
_USUAL: Final = {
    "active_import": ("1-0:1.8.0*255", "Wh"),
    "active_export": ("1-0:2.8.0*255", "Wh"),
    "reactive_import": ("1-0:3.8.0*255", "varh"),
    "reactive_export": ("1-0:4.8.0*255", "varh"),
}
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Form(StrEnum):
    """The form of a device's payloads. ``json``: nothing but what ``[values]`` says."""

    ZIGBEE2MQTT = "zigbee2mqtt"
    TASMOTA = "tasmota"
    SHELLY = "shelly-gen2"
    ZCL = "zigbee-zcl"
    DLMS = "dlms"
    BATCH = "batch"
    JSON = "json"


#: Forms whose payloads are JSON objects of one device.
_OBJECTS: Final = frozenset({Form.ZIGBEE2MQTT, Form.TASMOTA, Form.SHELLY, Form.JSON})


def _check_topic(pattern: str) -> str:
    if not pattern.isprintable() or pattern != pattern.strip("/ ") or set("+#") & set(pattern):
        raise ValueError("a topic pattern has no blanks around it, no +, no #; * stands for one level")
    if pattern.count(IDENTITY) > 1 or set("{}") & set(pattern.replace(IDENTITY, "")):
        raise ValueError(f"a topic pattern has {IDENTITY} once at most, and no other braces")
    return pattern


def _check_named(pattern: str) -> str:
    if IDENTITY not in pattern:
        raise ValueError(f"this topic must name the device: {IDENTITY}")
    return pattern


def _check_word(word: str) -> str:
    if not _WORD.fullmatch(word):
        raise ValueError("a quantity is a word of small letters, digits and _")
    return word


def _check_column(name: str) -> str:
    if name not in INTERVAL_QUANTITIES:
        raise ValueError(f"a column is one of {', '.join(INTERVAL_QUANTITIES)}")
    return name


ColumnName = Annotated[str, AfterValidator(_check_column)]


def _check_answer(pattern: str) -> str:
    _check_named(_check_topic(pattern.replace(ASK, "ask")))
    return pattern


TopicPattern = Annotated[str, AfterValidator(_check_topic)]
NamedTopic = Annotated[TopicPattern, AfterValidator(_check_named)]
Word = Annotated[str, AfterValidator(_check_word)]
#: Names of nested objects with points between; a number is a place in a list, from 0.
ValuePath = Annotated[str, Field(min_length=1, max_length=200)]


class Topics(Part):
    """Where the device publishes. ``{identity}`` is its name, ``*`` any one level. ``station`` is where a
    gateway or concentrator tells its own presence, ``{identity}`` being its code in the network. ``station``
    and ``ignored`` go first."""

    readings: tuple[NamedTopic, ...]
    presence: tuple[NamedTopic, ...] = ()
    station: tuple[NamedTopic, ...] = ()
    ignored: tuple[TopicPattern, ...] = ()


class Presence(Part):
    """Payloads of the presence topics, where the form's own words are not meant."""

    online: str
    offline: str


class JsonValue(Part):
    """A number in the payload: exact value = number x 10**scaler in ``unit`` (a DLMS symbol)."""

    quantity: Word
    obis: ObisText | None = None
    scaler: Scaler = 0
    unit: str | None = None


class OwnTime(Part):
    """Where the payload has the device's time; local times are of the model's ``zone``."""

    path: ValuePath
    kind: Literal["iso", "seconds", "milliseconds"] = "iso"


class CurveColumn(Part):
    """A column of a load curve: which word fills it, and how it is kept (raw x 10**scaler in ``unit``)."""

    value: Word
    obis: ObisText | None = None
    scaler: Scaler = -3
    unit: str | None = None
    modulus: int | None = Field(default=None, gt=0)


class SampledCurve(Part):
    """A load curve of readings that count for the boundary within ``tolerance_s``. Boundaries are multiples
    of ``period_s`` since midnight UTC."""

    number: int = Field(default=1, ge=1, le=32767)
    period_s: int = Field(default=900, gt=0, le=86400)
    tolerance_s: int = Field(default=30, ge=0, le=3600)
    columns: dict[ColumnName, CurveColumn] = Field(min_length=1)

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        if self.tolerance_s * 2 >= self.period_s:
            raise ValueError(
                "tolerance_s must be less than half of period_s, or a sample fits two boundaries"
            )
        if 86400 % self.period_s:
            raise ValueError("period_s must divide a day")
        return self

    @cached_property
    def slots(self) -> tuple[tuple[int, str, str, int], ...]:
        """Of each column: its place in the row, the word that fills it, unit, and scaler."""
        return tuple(
            (place, self.columns[channel.quantity].value, channel.unit, channel.scaler)
            for place, channel in enumerate(self.layout.channels)
            if channel is not None
        )

    @cached_property
    def layout(self) -> ChannelLayout:
        """The row layout for ReadingBatch."""
        made: list[Channel | None] = []
        for quantity in INTERVAL_QUANTITIES:
            column = self.columns.get(quantity)
            obis, unit = _USUAL[quantity]
            made.append(
                None
                if column is None
                else Channel(
                    quantity,
                    column.obis or obis,
                    column.scaler,
                    column.unit or unit,
                    modulus=column.modulus,
                )
            )
        return ChannelLayout((made[0], made[1], made[2], made[3]))


class ZclScaling(Part):
    """What is known of a Zigbee meter before it told: attributes 0x0301, 0x0302 and 0x0300 of 0x0702."""

    multiplier: int | None = Field(default=None, ge=0, lt=1 << 24)
    divisor: int | None = Field(default=None, ge=0, lt=1 << 24)
    unit: int | None = Field(default=None, ge=0, le=0xFF)


class Ask(Part):
    """How the device is asked for its values now: what is published where, and where it answers.

    ``{identity}`` stands for the device also in the payload; ``{ask}``, in payload and answer, for a word
    that is another one each time.
    """

    topic: NamedTopic
    payload: str
    answer: Annotated[str, AfterValidator(_check_answer)]


class Firmware(Part):
    """How the device is given another program: by the messages of `schemas.image_message`.

    It listens at ``topic`` and answers at ``answer``. ``chunk_size`` is how many bytes a chunk of an image
    has, ``restart_s`` how long the device is away when it activates, ``verify_s`` how long it verifies at
    most.
    """

    topic: NamedTopic
    answer: NamedTopic
    chunk_size: int = Field(default=4096, ge=LEAST_CHUNK, le=MAX_CHUNK)
    restart_s: float = Field(default=60, ge=0, le=86_400)
    verify_s: float = Field(default=1_800, gt=0, le=86_400)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.topic == self.answer:
            raise ValueError("the device must answer elsewhere than it listens")
        return self


class MqttTariff(TariffLimits):
    """How much of a tariff program the device keeps, and where it is told of it, by the messages of
    `schemas.tariff_message`: it listens at ``topic`` and answers at ``answer``."""

    topic: NamedTopic
    answer: NamedTopic
    name_length: int = Field(default=64, ge=1, le=64)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.topic == self.answer:
            raise ValueError("the device must answer elsewhere than it listens")
        return self


class MqttModel(Part):
    """A kind of device that pushes by MQTT.

    ``zone`` is that of local times in the payload; without it they are not believed. ``codes`` gives words of
    the form's decoder an OBIS code, or another than usual.
    """

    name: str
    title: str
    maker: str | None = None
    driver: Literal["mqtt"]
    form: Form
    topics: Topics
    zone: ZoneName | None = None
    time: OwnTime | None = None
    presence: Presence | None = None
    values: dict[ValuePath, JsonValue] = Field(default_factory=dict)
    codes: dict[Word, ObisText] = Field(default_factory=dict)
    curves: tuple[SampledCurve, ...] = ()
    zcl: ZclScaling | None = None
    ask: Ask | None = None
    firmware: Firmware | None = None
    tariff: MqttTariff | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        numbers = [curve.number for curve in self.curves]
        if len(numbers) != len(set(numbers)):
            raise ValueError("two curves have the same number")
        if (self.values or self.time) and self.form not in _OBJECTS:
            raise ValueError(f"values and time are for JSON objects, not for {self.form}")
        if self.form is Form.JSON and not self.values:
            raise ValueError("form json needs values")
        if self.curves and self.form in (Form.BATCH, Form.DLMS):
            raise ValueError(f"curves are sampled; {self.form} brings its own intervals")
        if self.zcl is not None and self.form is not Form.ZCL:
            raise ValueError(f"zcl is for {Form.ZCL}")
        words = [value.quantity for value in self.values.values()]
        if len(words) != len(set(words)):
            raise ValueError("two values have the same quantity")
        return self

    @cached_property
    def time_zone(self) -> ZoneInfo | None:
        """The zone of local times."""
        return None if self.zone is None else ZoneInfo(self.zone)


@lru_cache(maxsize=256)
def load_mqtt_model(name: str, folders: tuple[Path, ...] = ()) -> MqttModel:
    """The MQTT model ``name``, looked for in ``mqtt`` of ``folders`` and then among the packaged ones.

    Raises ModelError naming the file and every wrong key (unknown keys too).
    """
    table = read_profile(name, folders, family=FAMILY)
    try:
        return MqttModel.model_validate({**table, "name": name})
    except ValidationError as error:
        raise ModelError(f"{FAMILY}/{name}.toml: {explain(error)}") from error


def mqtt_model_names(folders: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Names of all MQTT models, sorted."""
    return model_names(folders, FAMILY)
