"""Addresses of meters at the head-end's link, in one written form.

==============================================  ==========================================================
``tcp://host:port?server=1&client=16``          DLMS wrapper over TCP, dialled by us; port 4059 by default
``udp://host:port?server=1``                    DLMS wrapper over UDP
``hdlc+tcp://host:port?physical=17``            HDLC over TCP
``hdlc+serial:///dev/ttyUSB0?baud=9600``        HDLC over a serial line, 8N1
``via:?gateway=0:0A0B0C0D``                     DLMS through the concentrator above the meter in the network
``inbound:``                                    the meter dials in, known by what it proves, not by an address
``modbus+tcp://host:502?unit=1``                Modbus TCP
``modbus+rtu+tcp://host:port?unit=1``           Modbus RTU frames through a TCP gateway
``modbus+rtu:///dev/ttyUSB0?unit=1&parity=N``   Modbus RTU on a serial line
``dlt645+tcp://host:port?meter=000000000001``   DL/T 645 behind a transparent TCP gateway
``dlt645+serial:///dev/ttyUSB0?meter=...``      DL/T 645 on a serial line, 2400 8E1 by default
``dlt645+mqtt:///plant/gw7?meter=...``          DL/T 645 behind an MQTT gateway (topics .../down, .../up)
``iec62056+tcp://host:port?meter=...``          IEC 62056-21 readout through a TCP gateway
``iec62056+serial:///dev/ttyUSB0``              IEC 62056-21 on a serial line, opened at 300 7E1
``p1+tcp://host:port``                          a P1 port behind a TCP gateway
``p1+serial:///dev/ttyUSB0``                    a P1 port, 115200 8N1 by default
``mqtt:identity``                               a device of an MQTT broker, as its topic or payload names it
==============================================  ==========================================================

``server`` and ``client`` are SAPs that override the model's, ``physical`` the HDLC lower address. ``gateway``
is network id and physical device address (hexadecimal) of the DLMS gateway protocol, for meters behind a
concentrator: with ``tcp:`` and ``hdlc+tcp:`` the concentrator's host is written, with ``via:`` the network
tells it, so that a meter that moves needs no other address. ``unit`` is a Modbus slave, ``meter`` the address
that the meter's own language has (12 digits in DL/T 645).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

#: Registered for DLMS/COSEM over TCP and UDP.
DLMS_PORT: Final = 4059
#: Registered for Modbus TCP.
MODBUS_PORT: Final = 502


class AddressError(ValueError):
    """An address that cannot be understood; the message says what to change."""


class Scheme(StrEnum):
    """Kinds of link, and the language where that goes with the link."""

    TCP = "tcp"
    UDP = "udp"
    HDLC_TCP = "hdlc+tcp"
    HDLC_SERIAL = "hdlc+serial"
    VIA = "via"
    INBOUND = "inbound"
    MODBUS_TCP = "modbus+tcp"
    MODBUS_RTU_TCP = "modbus+rtu+tcp"
    MODBUS_RTU = "modbus+rtu"
    DLT645_TCP = "dlt645+tcp"
    DLT645_SERIAL = "dlt645+serial"
    DLT645_MQTT = "dlt645+mqtt"
    IEC62056_TCP = "iec62056+tcp"
    IEC62056_SERIAL = "iec62056+serial"
    P1_TCP = "p1+tcp"
    P1_SERIAL = "p1+serial"
    MQTT = "mqtt"


class GatewayAddress(NamedTuple):
    """Where a meter is behind a concentrator: the header of the DLMS gateway protocol."""

    network: int
    physical: bytes

    def __str__(self) -> str:
        return f"{self.network}:{self.physical.hex().upper()}"


class _Place(StrEnum):
    """What stands between the scheme and the query."""

    ENDPOINT = "host and port"
    PATH = "a path"
    IDENTITY = "an identity"
    NOTHING = "nothing"


class _Form(NamedTuple):
    """How addresses of one scheme are written. ``shared``: one conversation at a time on the whole link."""

    place: _Place
    parameters: frozenset[str]
    port: int | None = None
    shared: bool = False


_SAPS: Final = frozenset({"server", "client"})
_LINE: Final = frozenset({"baud", "parity"})
_FORMS: Final = {
    Scheme.TCP: _Form(_Place.ENDPOINT, _SAPS | {"gateway"}, DLMS_PORT),
    Scheme.UDP: _Form(_Place.ENDPOINT, _SAPS, DLMS_PORT),
    Scheme.HDLC_TCP: _Form(_Place.ENDPOINT, _SAPS | {"physical", "gateway"}, shared=True),
    Scheme.HDLC_SERIAL: _Form(_Place.PATH, _SAPS | {"physical", "baud"}, shared=True),
    Scheme.VIA: _Form(_Place.NOTHING, _SAPS | {"gateway"}),
    Scheme.INBOUND: _Form(_Place.NOTHING, _SAPS),
    Scheme.MODBUS_TCP: _Form(_Place.ENDPOINT, frozenset({"unit"}), MODBUS_PORT, shared=True),
    Scheme.MODBUS_RTU_TCP: _Form(_Place.ENDPOINT, frozenset({"unit"}), shared=True),
    Scheme.MODBUS_RTU: _Form(_Place.PATH, _LINE | {"unit"}, shared=True),
    Scheme.DLT645_TCP: _Form(_Place.ENDPOINT, frozenset({"meter"}), shared=True),
    Scheme.DLT645_SERIAL: _Form(_Place.PATH, _LINE | {"meter"}, shared=True),
    Scheme.DLT645_MQTT: _Form(_Place.PATH, frozenset({"meter"}), shared=True),
    Scheme.IEC62056_TCP: _Form(_Place.ENDPOINT, frozenset({"meter"}), shared=True),
    Scheme.IEC62056_SERIAL: _Form(_Place.PATH, frozenset({"meter", "baud"}), shared=True),
    Scheme.P1_TCP: _Form(_Place.ENDPOINT, frozenset(), shared=True),
    Scheme.P1_SERIAL: _Form(_Place.PATH, _LINE, shared=True),
    Scheme.MQTT: _Form(_Place.IDENTITY, frozenset()),
}
#: Schemes whose port has no usual number, and one that explains.
_EXAMPLE_PORT: Final = 4001
_LIMITS: Final = {"server": 0xFFFF, "client": 0xFFFF, "physical": 0x3FFF, "baud": 4_000_000, "unit": 247}
_PARITIES: Final = ("N", "E", "O")
#: Characters of a meter's own address in IEC 62056-21 and DL/T 645.
_METER: Final = re.compile(r"[0-9A-Za-z]{1,32}")
_IDENTITY: Final = re.compile(r"[!-~]{1,128}")
#: Bytes of a physical device address: its length stands in one byte, real ones have 1 to 8.
_MAX_PHYSICAL: Final = 16


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """A parsed address. ``str()`` gives the written form back; parts that the scheme has not are None.

    ``device`` is the path of a serial device, or the topics' common part of a transparent MQTT gateway.
    """

    scheme: Scheme
    host: str | None = None
    port: int | None = None
    device: str | None = None
    server: int | None = None
    client: int | None = None
    physical: int | None = None
    baud: int | None = None
    gateway: GatewayAddress | None = None
    unit: int | None = None
    parity: str | None = None
    meter: str | None = None
    identity: str | None = None

    @classmethod
    def parse(cls, text: str) -> "LinkAddress":
        """Raises AddressError."""
        if text != text.strip() or not text.isprintable() or " " in text:
            raise AddressError("an address has no blanks and no control characters")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise AddressError(f"{text!r}: {error}") from error
        try:
            scheme = Scheme(parts.scheme)
        except ValueError:
            known = ", ".join(f"{s}:" for s in Scheme)
            raise AddressError(f"{text!r} begins with none of {known}") from None
        if "#" in text or "@" in parts.netloc:
            raise AddressError(f"{scheme}: address has no user, password or fragment")
        form = _FORMS[scheme]
        place: dict[str, Any] = {}
        match form.place:
            case _Place.ENDPOINT:
                place["host"], place["port"] = _endpoint(scheme, parts, port, form.port)
            case _Place.PATH:
                place["device"] = _path(scheme, parts)
            case _Place.IDENTITY:
                place["identity"] = _identity(scheme, parts)
            case _Place.NOTHING:
                if parts.netloc or parts.path:
                    raise AddressError(f"{scheme}: has no host; {_WHY_NO_HOST[scheme]}")
        found = cls(scheme, **place, **_parameters(scheme, form, parts.query))
        if scheme is Scheme.VIA and found.gateway is None:
            raise AddressError("via: needs gateway=NETWORK:HEX, the meter's place behind the concentrator")
        return found

    @property
    def is_shared(self) -> bool:
        """Whether the link carries one conversation at a time, whatever meters are on it: a line, a bus."""
        return _FORMS[self.scheme].shared

    @property
    def line(self) -> tuple[object, ...] | None:
        """What names the shared link, without the meter; None where the link is the meter's alone."""
        return (self.scheme, self.host, self.port, self.device) if self.is_shared else None

    def through(self, station: "LinkAddress") -> "LinkAddress":
        """The link that is opened for this ``via:`` address where ``station`` is the concentrator's own one.

        SAPs are the meter's: those of the station's address are not taken over. Raises AddressError where no
        meter is reached through such a link.
        """
        if "gateway" not in _FORMS[station.scheme].parameters or station.scheme is Scheme.VIA:
            raise AddressError(
                f"no meter is reached through {station}: the gateway protocol needs tcp: or hdlc+tcp:"
            )
        # All that stations have; to copy one field by field costs a third of a meter's plan.
        return LinkAddress(
            station.scheme,
            station.host,
            station.port,
            station.device,
            server=self.server,
            client=self.client,
            physical=station.physical,
            baud=station.baud,
            gateway=self.gateway,
        )

    def __str__(self) -> str:
        form = _FORMS[self.scheme]
        query = "&".join([
            f"{name}={value if isinstance(value, int) else quote(str(value), safe=':')}"
            for name in _ORDER
            if (value := getattr(self, name)) is not None and name in form.parameters
        ])  # fmt: skip
        tail = f"?{query}" if query else ""
        match form.place:
            case _Place.NOTHING:
                return f"{self.scheme}:{tail}"
            case _Place.PATH:
                return f"{self.scheme}://{quote(self.device or '')}{tail}"
            case _Place.IDENTITY:
                return f"{self.scheme}:{quote(self.identity or '', safe=_SAFE)}{tail}"
            case _Place.ENDPOINT:
                host = f"[{self.host}]" if self.host is not None and ":" in self.host else self.host
                return f"{self.scheme}://{host}:{self.port}{tail}"


#: Parameters as they are written.
_ORDER: Final = tuple(one.name for one in fields(LinkAddress))
_SAFE: Final = "/:@!$&'()*+,;=-._~"
_WHY_NO_HOST: Final = {
    Scheme.INBOUND: "the meter is known by what it proves",
    Scheme.VIA: "the network tells the concentrator",
}


def _endpoint(scheme: Scheme, parts: SplitResult, port: int | None, usual: int | None) -> tuple[str, int]:
    if not parts.hostname or parts.path not in ("", "/"):
        example = usual or _EXAMPLE_PORT
        raise AddressError(f"{scheme}: names host and port, as in {scheme}://10.1.2.3:{example}")
    if port == 0:
        raise AddressError(f"{scheme}: port must be 1..65535")
    if port is None:
        if usual is None:
            raise AddressError(
                f"{scheme}: has no usual port; write one, as in {scheme}://10.1.2.3:{_EXAMPLE_PORT}"
            )
        port = usual
    return parts.hostname, port


def _path(scheme: Scheme, parts: SplitResult) -> str:
    if parts.netloc or not parts.path.startswith("/") or parts.path == "/":
        if scheme is Scheme.DLT645_MQTT:
            raise AddressError(f"{scheme}: names the gateway's topics, as in {scheme}:///plant/gw7")
        raise AddressError(f"{scheme}: names a device, as in {scheme}:///dev/ttyUSB0")
    return unquote(parts.path)


def _identity(scheme: Scheme, parts: SplitResult) -> str:
    identity = unquote(parts.path)
    if parts.netloc or not _IDENTITY.fullmatch(identity):
        raise AddressError(f"{scheme}: names a device of 1 to 128 characters, as in {scheme}:plug-17")
    return identity


def _parameters(scheme: Scheme, form: _Form, query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise AddressError(f"{scheme}: {error}") from error
    for name, value in pairs:
        if name not in form.parameters:
            known = (
                f"known: {', '.join(sorted(form.parameters))}" if form.parameters else "it has no parameters"
            )
            raise AddressError(f"{scheme}: has no {name!r}; {known}")
        if name in found:
            raise AddressError(f"{scheme}: {name} is there twice")
        read = _READ.get(name)
        found[name] = _number(scheme, name, value) if read is None else read(scheme, value)
    return found


def _number(scheme: Scheme, name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9 or int(value) > _LIMITS[name]:
        raise AddressError(f"{scheme}: {name} must be a number of 0..{_LIMITS[name]}")
    return int(value)


def _gateway(scheme: Scheme, value: str) -> GatewayAddress:
    network, colon, physical = value.partition(":")
    try:
        address = bytes.fromhex(physical)
    except ValueError:
        address = b""
    is_network = network.isascii() and network.isdigit() and len(network) <= 3 and int(network) <= 0xFF
    if not colon or not is_network or not 0 < len(address) <= _MAX_PHYSICAL or " " in physical:
        raise AddressError(
            f"{scheme}: gateway is network id and physical address in hexadecimal, as in gateway=0:0A0B0C0D"
        )
    return GatewayAddress(int(network), address)


def _parity(scheme: Scheme, value: str) -> str:
    if value not in _PARITIES:
        raise AddressError(f"{scheme}: parity must be N, E or O")
    return value


def _meter(scheme: Scheme, value: str) -> str:
    if not _METER.fullmatch(value):
        raise AddressError(f"{scheme}: meter is 1 to 32 letters and digits")
    return value


_READ: Final[dict[str, Callable[[Scheme, str], Any]]] = {
    "gateway": _gateway,
    "parity": _parity,
    "meter": _meter,
}
