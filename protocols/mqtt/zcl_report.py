"""Raw ZCL frames of the Metering cluster, in hexadecimal or as bytes.

The topic names the device, and may name the cluster: a level of 16 hexadecimal digits is the EUI-64 (a ``0x``
before it is ignored), a level ``0702`` the cluster.
"""

import re
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.mqtt import quantities
from protocols.mqtt.hexadecimal import undressed
from protocols.mqtt.reading import Format, Fraction, Readings
from protocols.zigbee import metering, zcl

_EUI64: Final = re.compile(r"(?:0x)?([0-9a-f]{16})", re.IGNORECASE)
_CLUSTER: Final = re.compile(r"(?:0x)?0?702", re.IGNORECASE)
_QUANTITIES: Final = {
    "active_import": quantities.ACTIVE_IMPORT,
    "active_export": quantities.ACTIVE_EXPORT,
    "active_power": quantities.ACTIVE_POWER,
}


def decode(topic: str, payload: bytes, scaling: metering.Scaling | None = None) -> Readings:
    """The readings of a report or a read answer. ``scaling`` is what is known of the meter so far.

    Raises:
        RemoteProtocolError: no EUI-64 in the topic, or no ZCL frame with attributes.
    """
    meter = device(topic)
    if meter is None:
        raise RemoteProtocolError("no EUI-64 in the topic")
    frame = zcl.parse_frame(undressed(payload))
    attributes = zcl.attributes(frame)
    if frame.manufacturer is not None:
        note = f"attributes of manufacturer {frame.manufacturer:04x}, whose meaning is its own"
        return Readings(Format.ZCL, meter, None, (), notes=(note,), scaling=scaling)
    report = metering.read(attributes, scaling)
    readings = tuple(
        quantities.fraction(
            _QUANTITIES[one.quantity],
            Fraction(one.raw, one.multiplier, one.divisor),
            one.value,
            one.tariff,
            one.reason,
        )
        for one in report.values
    )
    notes = () if not report.status else (f"metering status {report.status:02x}",)
    return Readings(Format.ZCL, meter, report.time, readings, report.missing, notes, report.scaling)


def device(topic: str) -> str | None:
    """The EUI-64 in a topic, in lower case; None where there is none."""
    return next((found[1].lower() for level in topic.split("/") if (found := _EUI64.fullmatch(level))), None)


def is_report(topic: str) -> bool:
    """Whether the topic is of a device's Metering cluster."""
    return device(topic) is not None and any(_CLUSTER.fullmatch(level) for level in topic.split("/"))
