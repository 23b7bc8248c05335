"""Addresses of meters at the head-end's link, in one written form.

========================================  ================================================================
``tcp://host:port?server=1&client=16``    wrapper over TCP, dialled by us; port 4059 where none is written
``udp://host:port?server=1``              wrapper over UDP
``hdlc+tcp://host:port?physical=17``      HDLC over TCP
``hdlc+serial:///dev/ttyUSB0?baud=9600``  HDLC over a serial line, 8N1
``inbound:``                              the meter dials in, known by what it proves, never by an address
========================================  ================================================================

``server`` and ``client`` are SAPs that override the model's, ``physical`` the HDLC lower address.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

#: Registered for DLMS/COSEM over TCP and UDP.
DLMS_PORT: Final = 4059


class AddressError(ValueError):
    """An address that cannot be understood; the message says what to change."""


class Scheme(StrEnum):
    """Kinds of link."""

    TCP = "tcp"
    UDP = "udp"
    HDLC_TCP = "hdlc+tcp"
    HDLC_SERIAL = "hdlc+serial"
    INBOUND = "inbound"


_LIMITS: Final = {"server": 0xFFFF, "client": 0xFFFF, "physical": 0x3FFF, "baud": 4_000_000}
_ALLOWED: Final = {
    Scheme.TCP: frozenset({"server", "client"}),
    Scheme.UDP: frozenset({"server", "client"}),
    Scheme.HDLC_TCP: frozenset({"server", "client", "physical"}),
    Scheme.HDLC_SERIAL: frozenset({"server", "client", "physical", "baud"}),
    Scheme.INBOUND: frozenset({"server", "client"}),
}


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """A parsed address. ``str()`` gives the written form back; parts that the scheme has not are None."""

    scheme: Scheme
    host: str | None = None
    port: int | None = None
    device: str | None = None
    server: int | None = None
    client: int | None = None
    physical: int | None = None
    baud: int | None = None

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
        if parts.fragment or "#" in text or parts.username is not None or parts.password is not None:
            raise AddressError(f"{scheme}: address has no user, password or fragment")
        host = device = None
        if scheme is Scheme.INBOUND:
            if parts.netloc or parts.path:
                raise AddressError("inbound: has no host; the meter is known by what it proves")
            port = None
        elif scheme is Scheme.HDLC_SERIAL:
            if parts.netloc or not parts.path.startswith("/") or parts.path == "/":
                raise AddressError("hdlc+serial: names a device, as in hdlc+serial:///dev/ttyUSB0")
            port, device = None, unquote(parts.path)
        else:
            host, port = _endpoint(scheme, parts, port)
        number = _numbers(scheme, parts.query).get
        return cls(
            scheme, host, port, device, number("server"), number("client"), number("physical"), number("baud")
        )

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name in _LIMITS if (value := getattr(self, name)) is not None)
        tail = f"?{query}" if query else ""
        if self.scheme is Scheme.INBOUND:
            return f"inbound:{tail}"
        if self.scheme is Scheme.HDLC_SERIAL:
            return f"hdlc+serial://{quote(self.device or '')}{tail}"
        host = f"[{self.host}]" if self.host is not None and ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{tail}"


def _endpoint(scheme: Scheme, parts: SplitResult, port: int | None) -> tuple[str, int]:
    if not parts.hostname or parts.path not in ("", "/"):
        raise AddressError(f"{scheme}: names host and port, as in {scheme}://10.1.2.3:{DLMS_PORT}")
    if port == 0:
        raise AddressError(f"{scheme}: port must be 1..65535")
    if port is None:
        if scheme is Scheme.HDLC_TCP:
            raise AddressError("hdlc+tcp: has no usual port; write one, as in hdlc+tcp://10.1.2.3:4001")
        port = DLMS_PORT
    return parts.hostname, port


def _numbers(scheme: Scheme, query: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise AddressError(f"{scheme}: {error}") from error
    for name, value in pairs:
        if name not in _ALLOWED[scheme]:
            raise AddressError(f"{scheme}: has no {name!r}; known: {', '.join(sorted(_ALLOWED[scheme]))}")
        if name in numbers:
            raise AddressError(f"{scheme}: {name} is there twice")
        if not (value.isascii() and value.isdigit()) or len(value) > 9 or int(value) > _LIMITS[name]:
            raise AddressError(f"{scheme}: {name} must be a number of 0..{_LIMITS[name]}")
        numbers[name] = int(value)
    return numbers
