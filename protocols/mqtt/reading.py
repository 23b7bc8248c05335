"""What an MQTT payload tells, whatever device sent it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from protocols.dlms.decode import Message
from protocols.zigbee.metering import Scaling


class Format(StrEnum):
    """Languages of payloads. A subscription names one, or leaves it to `decode.recognise`."""

    ZIGBEE2MQTT = "zigbee2mqtt"
    TASMOTA = "tasmota"
    SHELLY = "shelly"
    ZCL = "zcl"
    DLMS = "dlms"
    BATCH = "batch"
    JSON = "json"


class Fraction(NamedTuple):
    """What a Zigbee meter sent: an integer, and the multiplier and divisor known of it."""

    raw: int
    multiplier: int | None
    divisor: int | None


class Reading(NamedTuple):
    """One value. ``quantity`` is a word of ours, ``obis`` its code where certain, ``unit`` a DLMS symbol.

    ``value`` has every digit of the payload; None only with a ``fraction`` that has no decimal. ``doubt``
    says why the value must not be believed: it is told so that somebody sees it, never stored as measured.
    """

    quantity: str
    obis: str | None
    value: Decimal | None
    unit: str | None
    doubt: str | None = None
    fraction: Fraction | None = None


class Readings(NamedTuple):
    """The values of one message, none where it had nothing of a meter (a gateway's own state).

    ``meter`` is the identity that topic or payload tells. ``time`` is the device's own, aware; None where it
    tells none or one that is no time: then only the receiver's clock is left. ``missing`` are quantities that
    are present and null; ``notes`` what else a person should know. ``scaling`` is what is known of a Zigbee
    meter after this message, to be handed in with its next.
    """

    format: Format
    meter: str
    time: datetime | None
    readings: tuple[Reading, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scaling: Scaling | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """A device's availability, as its last will or its gateway tells it."""

    format: Format
    meter: str
    online: bool


@dataclass(frozen=True, slots=True)
class DlmsFrames:
    """Raw DLMS frames: ``data`` is the bytes (freed of a hexadecimal dress), ``messages`` what they say
    without any key."""

    topic: str
    data: bytes
    messages: tuple[Message, ...]
