"""zigbee2mqtt: the state of a Zigbee device as one JSON object, ``zigbee2mqtt/<friendly name>``.

Names may carry a channel (``power_a``: a meter of two clamps) or a phase (``voltage_phase_b``; where phases
are named, the bare name is phase A). Energies are in kWh. Null is missing. The gateway publishes the state it
remembers with every change of any part of it, so a value may be older than ``last_seen``: an energy that did
not change is no proof of a reading.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from protocols.errors import RemoteProtocolError
from protocols.mqtt import documents, quantities
from protocols.mqtt.quantities import Quantity
from protocols.mqtt.reading import Format, Presence, Reading, Readings

_KEYS: Final[dict[str, tuple[Quantity, int]]] = {
    "energy": (quantities.ACTIVE_IMPORT, 3),
    "produced_energy": (quantities.ACTIVE_EXPORT, 3),
    "energy_produced": (quantities.ACTIVE_EXPORT, 3),
    "power": (quantities.ACTIVE_POWER, 0),
    "power_apparent": (quantities.APPARENT_POWER, 0),
    "power_reactive": (quantities.REACTIVE_POWER, 0),
    "power_factor": (quantities.POWER_FACTOR, 0),
    "voltage": (quantities.VOLTAGE, 0),
    "current": (quantities.CURRENT, 0),
    "ac_frequency": (quantities.FREQUENCY, 0),
}
_NAME: Final = re.compile(rf"({'|'.join(_KEYS)})(?:_(phase_)?([abc]))?")
_FLOWS: Final = {
    "consuming": quantities.ACTIVE_POWER_IMPORT,
    "producing": quantities.ACTIVE_POWER_EXPORT,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def decode(topic: str, document: dict[str, Any]) -> Readings:
    """The readings of a device's state.

    Raises:
        RemoteProtocolError: a value that should be a number is none, or last_seen is no time.
    """
    phases = any("_phase_" in name for name in document)
    time = _last_seen(document.get("last_seen"))
    notes = [] if time.note is None else [time.note]
    readings: list[Reading] = []
    missing: list[str] = []
    for name, value in document.items():
        found = _NAME.fullmatch(name)
        if found is None:
            continue
        quantity, power = _KEYS[found[1]]
        number = ord(found[3]) - ord("a") + 1 if found[3] else 0
        phase = number if found[2] else 1 if phases and not number and not quantity.energy else 0
        channel = 0 if found[2] else number
        if value is None:
            missing.append(quantities.name_of(quantity, phase=phase, channel=channel))
            continue
        if quantity is quantities.ACTIVE_POWER:
            flow = document.get("energy_flow" + name.removeprefix("power"))
            quantity = _directed(quantity, flow, value)
        doubt = None
        if quantity is quantities.POWER_FACTOR:
            power, doubt = _percent(value)
        readings.append(
            quantities.reading(quantity, value, power=power, phase=phase, channel=channel, doubt=doubt)
        )
    if not readings and not missing:
        notes.append("nothing in it that a meter measures")
    return Readings(
        Format.ZIGBEE2MQTT, device(topic), time.value, tuple(readings), tuple(missing), tuple(notes)
    )


def presence(topic: str, payload: bytes) -> Presence:
    """``<device>/availability``: the word online or offline, or an object with it as ``state``.

    Raises:
        RemoteProtocolError: anything else.
    """
    word: object = payload.decode("ascii", "replace") if len(payload) < 16 else ""
    if payload[:1] == b"{":
        word = documents.load(payload).get("state")
    if word not in ("online", "offline"):
        raise RemoteProtocolError("an availability that is neither online nor offline")
    return Presence(Format.ZIGBEE2MQTT, device(topic.rpartition("/")[0]), word == "online")


def device(topic: str) -> str:
    """The friendly name: all levels behind the base topic. A name may itself have levels."""
    return topic.partition("/")[2] or topic


def _directed(quantity: Quantity, flow: object, value: object) -> Quantity:
    """Power without sign, whose direction stands beside it, is power of that direction."""
    if not isinstance(flow, str) or not isinstance(value, int | Decimal) or value < 0:
        return quantity
    return _FLOWS.get(flow, quantity)


def _percent(value: object) -> tuple[int, str | None]:
    """Power factors are sent as -1 to 1 or as percent, and nothing says which: power of ten, doubt."""
    size = abs(quantities.number_of(value, "power_factor"))
    if size == 1:
        return 0, "a power factor of 1 or of 1 %"
    return (-2 if 1 < size <= 100 else 0), None


def _last_seen(value: object) -> documents.Time:
    """ISO 8601 with offset, or milliseconds since 1970, as the gateway is set up."""
    if isinstance(value, bool) or not isinstance(value, int):
        return documents.text_time(value, None)
    if abs(value) > 10**14:
        return documents.Time(None, "last_seen beyond all bounds")
    return documents.believed(_EPOCH + timedelta(milliseconds=value))
