"""What stands in a field beside meters that answer directly: a network, and stations with meters."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from concentrator_sim.security import MODES
from schemas.network import LinkKind, NodeKind
from schemas.register_model import register_model_names


class StationKind(StrEnum):
    """What stands above meters, and the language that the head-end speaks with it."""

    PASS_THROUGH = "pass_through"  # noqa: S105 - no password
    STORE_AND_FORWARD = "store_and_forward"
    MQTT = "mqtt"
    ZIGBEE = "zigbee"
    WIFI = "wifi"
    MODBUS_TCP = "modbus_tcp"
    MODBUS_RTU_TCP = "modbus_rtu_tcp"
    MODBUS_RTU = "modbus_rtu"
    DLT645_TCP = "dlt645_tcp"
    IEC62056_TCP = "iec62056_tcp"
    P1_TCP = "p1_tcp"


class Usual(NamedTuple):
    """What a kind of station has where the plan says nothing. ``node`` None: there is no station."""

    node: NodeKind | None
    link: LinkKind
    spread_m: float
    meters: int
    models: tuple[str, ...]


_BUS: Final = ("eastron-sdm630", "schneider-iem3000", "eastron-sdm120", "carlogavazzi-em24")
USUAL: Final[Mapping[StationKind, Usual]] = MappingProxyType(
    {
        StationKind.PASS_THROUGH: Usual(
            NodeKind.CONCENTRATOR, LinkKind.PLC_NARROWBAND, 500, 20, ("hls5", "hls5", "lls", "none")
        ),
        StationKind.STORE_AND_FORWARD: Usual(
            NodeKind.CONCENTRATOR, LinkKind.PLC_BROADBAND, 220, 20, ("hls5", "hls5", "lls", "none")
        ),
        StationKind.MQTT: Usual(NodeKind.CONCENTRATOR, LinkKind.PLC_NARROWBAND, 500, 20, ("none",)),
        StationKind.ZIGBEE: Usual(NodeKind.GATEWAY, LinkKind.ZIGBEE, 90, 8, ("none",)),
        StationKind.WIFI: Usual(None, LinkKind.WIFI, 40, 4, ("tasmota", "shelly")),
        StationKind.MODBUS_TCP: Usual(NodeKind.GATEWAY, LinkKind.SERIAL, 60, 4, _BUS),
        StationKind.MODBUS_RTU_TCP: Usual(NodeKind.GATEWAY, LinkKind.SERIAL, 60, 4, _BUS),
        StationKind.MODBUS_RTU: Usual(NodeKind.GATEWAY, LinkKind.SERIAL, 60, 4, _BUS),
        StationKind.DLT645_TCP: Usual(NodeKind.GATEWAY, LinkKind.SERIAL, 60, 3, ("none",)),
        StationKind.IEC62056_TCP: Usual(NodeKind.GATEWAY, LinkKind.SERIAL, 60, 2, ("none",)),
        StationKind.P1_TCP: Usual(NodeKind.GATEWAY, LinkKind.SERIAL, 5, 1, ("none",)),
    }
)
#: Kinds that publish to an MQTT broker.
PUBLISHING: Final = frozenset({StationKind.MQTT, StationKind.ZIGBEE, StationKind.WIFI})
_DLMS: Final = frozenset({StationKind.PASS_THROUGH, StationKind.STORE_AND_FORWARD})
_MODBUS: Final = frozenset({StationKind.MODBUS_TCP, StationKind.MODBUS_RTU_TCP, StationKind.MODBUS_RTU})
_WIFI_FORMS: Final = ("tasmota", "shelly")
#: Ten days of 15 minutes.
SHELF_ROWS: Final = 10 * 96
#: Slaves on one Modbus line.
_MAX_UNITS: Final = 247


class Form(StrEnum):
    """How an MQTT concentrator writes its batches."""

    JSON = "json"
    CBOR = "cbor"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _decibels(table: dict[LinkKind, float]) -> dict[LinkKind, float]:
    for kind, noise in table.items():
        if not -40 <= noise <= 60:
            raise ValueError(f"{kind}: noise of {noise} dB is not within -40 to 60")
    return table


class NetworkPlan(_Part):
    """The network above the stations, which are dealt out to the transformers in turn.

    ``noise_db`` is noise above the usual by kind of link; each link has up to ``own_noise_db`` more.
    ``takes_direct`` hangs meters that answer directly on the same transformers in turn, else they have their
    own.
    """

    substations: int = Field(default=1, ge=1, le=1000)
    feeders: int = Field(default=2, ge=1, le=10_000)
    transformers: int = Field(default=6, ge=1, le=100_000)
    noise_db: Annotated[dict[LinkKind, float], AfterValidator(_decibels)] = {}
    own_noise_db: float = Field(default=6.0, ge=0, le=40)
    takes_direct: bool = False

    @model_validator(mode="after")
    def _each_has_one(self) -> Self:
        if not self.substations <= self.feeders <= self.transformers:
            raise ValueError("each substation needs a feeder, and each feeder a transformer")
        return self


class StationPlan(_Part):
    """``count`` stations of one kind, each with ``meters`` meters within ``spread_m`` metres.

    ``rate_bps`` is what the links of meters carry, net, where it is not the usual of their kind: at 530 a day
    of 96 rows takes 59 seconds.

    ``models`` are taken by the meters in turn: security modes of DLMS meters, register models on Modbus,
    ``tasmota`` or ``shelly`` on WiFi. ``history_days`` is how many days back a publishing station has data
    to deliver at its start, ``batch_quarters`` how many quarter-hours a batch of an MQTT concentrator has at
    most, ``buffer`` how many batches it keeps; ``shelf_rows`` is how many rows of 15 minutes one that stores
    and forwards keeps of each meter. Every ``dead_every``-th meter never answers (0: none).
    """

    kind: StationKind
    count: int = Field(default=1, ge=1, le=100_000)
    meters: int = Field(default=0, ge=0, le=10_000)
    link: LinkKind | None = None
    spread_m: float = Field(default=0, ge=0, le=20_000)
    rate_bps: int | None = Field(default=None, ge=50, le=1_000_000_000)
    models: tuple[str, ...] = ()
    form: Form = Form.JSON
    history_days: int = Field(default=2, ge=0, le=60)
    batch_quarters: int = Field(default=96, ge=1, le=960)
    buffer: int = Field(default=512, ge=1, le=100_000)
    shelf_rows: int = Field(default=SHELF_ROWS, ge=1, le=100_000)
    dead_every: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known: tuple[str, ...] | None = None
        if self.kind in _DLMS:
            known = tuple(MODES)
        elif self.kind is StationKind.WIFI:
            known = _WIFI_FORMS
        elif self.kind in _MODBUS:
            known = register_model_names()
            if self.meters > _MAX_UNITS:
                raise ValueError(f"a Modbus line has at most {_MAX_UNITS} slaves")
        elif self.models:
            raise ValueError(f"{self.kind} has no models")
        if self.kind is StationKind.P1_TCP and self.meters > 1:
            raise ValueError("a P1 port has one meter")
        for model in self.models:
            if known is not None and model not in known:
                raise ValueError(f"models of {self.kind} are {', '.join(known)}")
        return self

    @property
    def usual(self) -> Usual:
        """What its kind has."""
        return USUAL[self.kind]

    @property
    def link_kind(self) -> LinkKind:
        """Between station and meters."""
        return self.link or self.usual.link

    @property
    def meter_count(self) -> int:
        """Meters of one station."""
        return self.meters or self.usual.meters

    @property
    def reach_m(self) -> float:
        """How far the meters are away."""
        return self.spread_m or self.usual.spread_m

    def model(self, place: int) -> str:
        """Of the meter at ``place``, from 0."""
        models = self.models or self.usual.models
        return models[place % len(models)]

    def is_dead(self, place: int) -> bool:
        """Whether the meter at ``place``, from 0, never answers."""
        return self.dead_every > 0 and (place + 1) % self.dead_every == 0
