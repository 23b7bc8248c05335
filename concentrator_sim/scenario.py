"""What a simulated field consists of: settings from a TOML file or the command line, and mixes of meters."""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from concentrator_sim.faults import Fault
from concentrator_sim.image_plan import DEFAULT_PLAN, ImagePlan
from concentrator_sim.meter import PROFILE_ROWS
from concentrator_sim.plan import PUBLISHING, NetworkPlan, StationPlan
from concentrator_sim.security import MODES


class ScenarioError(ValueError):
    """A scenario that cannot be used; the message names the file and the key."""


class Framing(StrEnum):
    """How a meter's port is spoken to."""

    WRAPPER = "wrapper"
    HDLC = "hdlc"
    UDP = "udp"
    SERIAL = "serial"


class Kind(NamedTuple):
    """Security mode (a name of MODES) and framing of one meter."""

    mode: str
    framing: Framing = Framing.WRAPPER


_W, _H, _U = Framing.WRAPPER, Framing.HDLC, Framing.UDP
#: Mixes by name: the meters take these kinds in turn.
MIXES: Final[Mapping[str, tuple[Kind, ...]]] = MappingProxyType(
    {
        # As fields are: most ciphered over the wrapper, the rest what was bought in other years.
        "demo": (
            Kind("hls5"), Kind("hls5"), Kind("lls"), Kind("hls5"), Kind("hls5", _H),
            Kind("hls5"), Kind("hls5-general"), Kind("none"), Kind("hls5"), Kind("hls5"),
            Kind("lls", _H), Kind("hls5"), Kind("hls5-suite2"), Kind("hls5", _H), Kind("hls5"),
            Kind("hls5-dedicated"), Kind("hls6"), Kind("hls5"), Kind("none", _H), Kind("lls"),
        ),
        "all": tuple(Kind(mode, framing) for mode in MODES for framing in (_W, _H, _U)),
    }
)  # fmt: skip


def _known_mode(name: str) -> str:
    if name not in MODES:
        raise ValueError(f"must be one of {', '.join(MODES)}")
    return name


def _known_mix(name: str) -> str:
    if name not in MIXES:
        raise ValueError(f"must be one of {', '.join(MIXES)}")
    return name


def _endpoint(text: str) -> str:
    split_endpoint(text)
    return text


def _push_target(text: str) -> str:
    scheme, found, rest = text.partition("://")
    if not found or scheme not in ("tcp", "udp"):
        raise ValueError("must be tcp://host:port or udp://host:port")
    split_endpoint(rest)
    return text


def _broker(text: str) -> str:
    scheme, found, rest = text.partition("://")
    if not found or scheme != "mqtt":
        raise ValueError("must be mqtt://host:port")
    split_endpoint(rest)
    return text


def split_endpoint(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``. Raises ValueError."""
    host, found, port = text.rpartition(":")
    if not found or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65_535:
        raise ValueError("must be host:port")
    return host.strip("[]"), int(port)


#: Model of the head-end for meters that dial in over HDLC, by mode.
HDLC_INBOUND: Final[Mapping[str, str]] = MappingProxyType(
    {"none": "headend-sim-hdlc", "hls5": "headend-sim-hls5-hdlc"}
)


#: Ports of stations, where not set, begin at the next multiple of this above those of direct meters.
_STATIONS_ABOVE: Final = 1_000
_PORTS: Final = 65_536


class Scenario(BaseModel):
    """A field: ``meters`` that answer directly, and ``stations`` with meters below them in a ``network``.

    With ``mix`` each meter takes its kind from there, else all have ``security`` and ``framing``.

    ``base_port`` is the first meter's, the next ones follow; 0 lets the system choose. After so many as
    ``ports_per_host`` the next address after ``host`` goes on, from ``base_port`` again (on Linux all of
    127.0.0.0/8 is this machine). ``shared_port`` puts
    all meters behind the first port, told apart by server SAP. Delays are in milliseconds; every
    ``silent_every``-th meter is dead: it takes connections and never answers (0: none is).

    ``profile_rows`` is how many rows of 15 minutes the load profile of a DLMS meter has, wherever it hangs;
    then the newest overwrites the oldest.

    ``dial_in`` (``host:port``): the meters listen nowhere but dial there, say their heartbeat, and are served
    on that connection. ``push_to`` (``tcp://host:port`` or ``udp://host:port``): each meter sends a
    Data-Notification there every ``push_every_s`` seconds, the meters spread over that time; with
    ``push_confirm`` over TCP it waits for the confirmation.

    Stations listen from ``station_base_port`` on (0: the system chooses; default: the next full thousand
    above ``base_port`` that direct meters leave).
    ``mqtt_url`` (``mqtt://host:port``) is the broker of those that publish, ``publish_after_s`` seconds after
    their start, so that who starts with the field has subscribed; without a broker they are silent.
    ``device_dir`` is a folder for the names of pseudo-terminals, so that a line keeps its name; without one
    their own names are told. ``faults`` strike direct meters, stations and the meters below them by name.

    ``image`` says how meters take new programs.

    ``scales`` says that `scaled` may make the field smaller or larger in proportion.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = ""
    meters: int = Field(default=200, ge=0, le=100_000)
    seed: int = Field(default=1, ge=0, le=0xFFFF)
    host: str = "127.0.0.1"
    base_port: int = Field(default=20_000, ge=0, le=65_535)
    ports_per_host: int = Field(default=_PORTS, ge=1, le=_PORTS)
    shared_port: bool = False
    mix: Annotated[str, AfterValidator(_known_mix)] | None = None
    security: Annotated[str, AfterValidator(_known_mode)] = "hls5"
    framing: Framing = Framing.WRAPPER
    further_devices: int = Field(default=0, ge=0, le=15)
    max_pdu: int = Field(default=1024, ge=128, le=0xFFFF)
    profile_rows: int = Field(default=PROFILE_ROWS, ge=1, le=1_000_000)
    block_size: int = Field(default=0, ge=0, le=0xFFFF)
    hdlc_max_info: int = Field(default=128, ge=32, le=2030)
    hdlc_window: int = Field(default=1, ge=1, le=7)
    hdlc_physical: int = Field(default=17, ge=0, le=0x3FFF)
    delay_ms: int = Field(default=0, ge=0, le=600_000)
    silent_every: int = Field(default=0, ge=0)
    dial_in: Annotated[str, AfterValidator(_endpoint)] | None = None
    push_to: Annotated[str, AfterValidator(_push_target)] | None = None
    push_every_s: int = Field(default=900, ge=1, le=86_400)
    push_confirm: bool = False
    network: NetworkPlan = NetworkPlan()
    stations: tuple[StationPlan, ...] = ()
    station_base_port: int | None = Field(default=None, ge=0, le=65_535)
    mqtt_url: Annotated[str, AfterValidator(_broker)] | None = None
    publish_after_s: float = Field(default=0, ge=0, le=3600)
    device_dir: Path | None = None
    image: ImagePlan = DEFAULT_PLAN
    faults: tuple[Fault, ...] = ()
    scales: bool = False

    @model_validator(mode="after")
    def _somebody_is_there(self) -> Self:
        if not self.meters and not self.stations:
            raise ValueError("without stations a field has at least one of its own meters")
        if self.station_port(sum(plan.count for plan in self.stations)) > _PORTS:
            raise ValueError("the ports of the stations go beyond 65535: station_base_port names others")
        if self.stations and self.dial_in is not None:
            raise ValueError("stations do not go with dial_in")
        return self

    @model_validator(mode="after")
    def _ports_suffice(self) -> Self:
        highest = self.base_port + min(self.meters, self.ports_per_host) - 1
        if self.base_port and not self.shared_port and highest > 65_535:
            raise ValueError(f"{self.meters} meters from port {self.base_port} on go beyond 65535")
        if self.shared_port and (1 + self.further_devices) * self.meters > 0x3FFF:
            raise ValueError("one port has at most 16383 server SAPs")
        if self.shared_port and (self.mix is not None or self.dial_in is not None):
            raise ValueError("shared_port goes with one framing, and not with dial_in")
        if self.dial_in is not None:
            for number in range(1, min(self.meters, 64) + 1):
                kind = self.kind(number)
                if kind.framing in (Framing.UDP, Framing.SERIAL):
                    raise ValueError(f"meters with framing {kind.framing} cannot dial in")
                if kind.framing is Framing.HDLC and kind.mode not in HDLC_INBOUND:
                    raise ValueError(f"meters that dial in over HDLC have mode {' or '.join(HDLC_INBOUND)}")
        return self

    def kind(self, number: int) -> Kind:
        """The kind of meter ``number``, from 1."""
        if self.mix is None:
            return Kind(self.security, self.framing)
        kinds = MIXES[self.mix]
        return kinds[(number - 1) % len(kinds)]

    def place_of(self, number: int) -> tuple[str, int]:
        """Host and port of the direct meter ``number``, from 1; port 0 where the system chooses."""
        if self.shared_port:
            return self.host, self.base_port
        hosts, place = divmod(number - 1, self.ports_per_host)
        host = str(ip_address(self.host) + hosts) if hosts else self.host
        return host, self.base_port and self.base_port + place

    def station_port(self, place: int) -> int:
        """Port of the station at ``place``, from 0; 0 where the system chooses."""
        first = self.station_base_port
        if first is None:
            direct = min(self.meters, self.ports_per_host)
            above = (direct // _STATIONS_ABOVE + 1) * _STATIONS_ABOVE
            first = self.base_port and self.base_port + above
        return first and first + place

    @property
    def publishes(self) -> bool:
        """Whether a station of it needs a broker."""
        return any(plan.kind in PUBLISHING for plan in self.stations)

    def is_silent(self, number: int) -> bool:
        """Whether meter ``number`` is dead."""
        return self.silent_every > 0 and number % self.silent_every == 0


def find_scenario(text: str) -> Path:
    """The file of that path, or the packaged scenario of that name. Raises ScenarioError."""
    path = Path(text)
    if path.suffix or path.exists():
        return path
    folder = files("concentrator_sim") / "scenarios"
    packaged = {
        Path(item.name).stem: Path(str(item)) for item in folder.iterdir() if item.name.endswith(".toml")
    }
    if text not in packaged:
        raise ScenarioError(f"{text!r} is no file, and no scenario: {', '.join(sorted(packaged))}")
    return packaged[text]


def load_scenario(path: Path, **overrides: object) -> Scenario:
    """The scenario of a TOML file, ``overrides`` that are not None put on top; of one that ``scales``,
    ``meters`` is the number of all meters. Raises ScenarioError."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    given = {k: v for k, v in overrides.items() if v is not None}
    wanted = given.pop("meters", None) if table.get("scales") is True else None
    found = make_scenario(table | given, str(path))
    return scaled(found, wanted) if isinstance(wanted, int) else found


def scaled(scenario: Scenario, meters: int) -> Scenario:
    """The same field with ``meters`` in all: fewer or more stations of about the same size, one of each at
    least; the rest of the meters answers directly. So a meter costs the same in a field of any size.

    Raises ScenarioError where there are not so many.
    """
    below = sum(plan.count * plan.meter_count for plan in scenario.stations)
    plans, direct = [], meters
    for plan in scenario.stations:
        wanted = plan.count * plan.meter_count * meters // (scenario.meters + below)
        count = max(1, round(wanted / plan.meter_count))
        each = max(1, wanted // count)
        plans.append(plan.model_copy(update={"count": count, "meters": each}))
        direct -= count * each
    return make_scenario(scenario.model_dump() | {"meters": direct, "stations": plans}, f"{meters} meters")


def make_scenario(table: Mapping[str, object], source: str = "scenario") -> Scenario:
    """A checked scenario. Raises ScenarioError naming every wrong key."""
    try:
        return Scenario.model_validate(table)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'scenario'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False)
        )
        raise ScenarioError(f"{source}: {told}") from error
