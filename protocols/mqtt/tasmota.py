"""Tasmota: ``ENERGY`` in telemetry (``tele/<device>/SENSOR``) and status (``stat/<device>/STATUS10``).

A value is a number; a list, one element for each phase or channel, which of the two the device does not say;
an object by phase; or null. So elements of a list are told as channels 1, 2, 3 (OBIS group B), never as
phases, and what an object names Phase1 is phase 1. A list that ends in ``Tariff`` is by tariff. Energies are
in kWh. ``Total`` is Tasmota's own count; what a meter behind it counts (``ImportActive``) is told apart from
it, since the two differ and the second is absent until that meter answered. ``Today``, ``Yesterday`` and
``Period`` are derived, and passed over.
"""

import re
from collections.abc import Iterator
from datetime import tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from protocols.errors import RemoteProtocolError
from protocols.mqtt import documents, quantities
from protocols.mqtt.quantities import Quantity
from protocols.mqtt.reading import Format, Presence, Reading, Readings

#: Key -> quantity, power of ten to its unit, whether a list is by tariff.
_KEYS: Final[dict[str, tuple[Quantity, int, bool]]] = {
    "Total": (quantities.ACTIVE_IMPORT, 3, False),
    "TotalTariff": (quantities.ACTIVE_IMPORT, 3, True),
    "ImportActive": (quantities.ACTIVE_IMPORT_BEHIND, 3, False),
    "ExportActive": (quantities.ACTIVE_EXPORT, 3, False),
    "ExportTariff": (quantities.ACTIVE_EXPORT, 3, True),
    "ImportReactive": (quantities.REACTIVE_IMPORT, 3, False),
    "ExportReactive": (quantities.REACTIVE_EXPORT, 3, False),
    "Power": (quantities.ACTIVE_POWER, 0, False),
    "ApparentPower": (quantities.APPARENT_POWER, 0, False),
    "ReactivePower": (quantities.REACTIVE_POWER, 0, False),
    "Factor": (quantities.POWER_FACTOR, 0, False),
    "Frequency": (quantities.FREQUENCY, 0, False),
    "Voltage": (quantities.VOLTAGE, 0, False),
    "Current": (quantities.CURRENT, 0, False),
    "PhaseAngle": (quantities.PHASE_ANGLE, 0, False),
}
_PHASE: Final = re.compile(r"Phase([123])")
_PREFIXES: Final = frozenset({"tele", "stat"})
#: No Tasmota device has more phases, channels or tariffs.
_MAX_ELEMENTS: Final = 8


def decode(topic: str, document: dict[str, Any], zone: tzinfo | None = None) -> Readings:
    """The readings of a SENSOR or STATUS document. ``zone`` is the device's, whose times have no offset.

    Raises:
        RemoteProtocolError: a value is neither number, list, object nor null, or a time is none.
    """
    sensors = documents.part(document, "StatusSNS") or document
    energy = documents.part(sensors, "ENERGY")
    time = documents.text_time(sensors.get("Time"), zone)
    notes = [] if time.note is None else [time.note]
    readings: list[Reading] = []
    missing: list[str] = []
    for key, value in (energy or {}).items():
        meaning = _KEYS.get(key)
        if meaning is None:
            continue
        if type(value) is Decimal:  # what most values are
            readings.append(quantities.reading(meaning[0], value, power=meaning[1]))
        else:
            for found in _values(key, value, *meaning):
                if isinstance(found, Reading):
                    readings.append(found)
                else:
                    missing.append(found)
    if energy is None:
        notes.append("no ENERGY in it")
    return Readings(Format.TASMOTA, device(topic), time.value, tuple(readings), tuple(missing), tuple(notes))


def presence(topic: str, payload: bytes) -> Presence:
    """A last will: ``tele/<device>/LWT`` with Online or Offline.

    Raises:
        RemoteProtocolError: any other word.
    """
    if payload not in (b"Online", b"Offline"):
        raise RemoteProtocolError("a last will that is neither Online nor Offline")
    return Presence(Format.TASMOTA, device(topic), payload == b"Online")


@lru_cache(maxsize=65_536)
def device(topic: str) -> str:
    """The device's name in a topic: all but the prefix, wherever it stands, and the last level."""
    levels = topic.split("/")[:-1]
    for at, level in enumerate(levels):
        if level in _PREFIXES:
            del levels[at]
            break
    return "/".join(levels)


def _values(
    key: str, value: object, quantity: Quantity, power: int, by_tariff: bool
) -> Iterator[Reading | str]:
    """Readings, and names of what is null."""
    if isinstance(value, list):
        if len(value) > _MAX_ELEMENTS:
            raise RemoteProtocolError(f"{key} has {len(value)} elements")
        for number, element in enumerate(value, 1):
            yield _one(quantity, element, power, **{"tariff" if by_tariff else "channel": number})
    elif isinstance(value, dict):
        for name, element in value.items():
            phase = _PHASE.fullmatch(name)
            if phase is None:
                raise RemoteProtocolError(f"{key} has an element that is no phase")
            yield _one(quantity, element, power, phase=int(phase[1]))
    else:
        yield _one(quantity, value, power)


def _one(
    quantity: Quantity, value: object, power: int, phase: int = 0, channel: int = 0, tariff: int = 0
) -> Reading | str:
    if value is None:
        return quantities.name_of(quantity, phase=phase, channel=channel, tariff=tariff)
    return quantities.reading(quantity, value, power=power, phase=phase, channel=channel, tariff=tariff)
