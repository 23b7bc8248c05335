"""JSON of a device's own making: numbers and the time by the paths that its profile lists."""

from collections.abc import Mapping
from datetime import tzinfo
from decimal import Decimal
from typing import Any, Final

from protocols.mqtt import documents, quantities
from protocols.mqtt.reading import Reading
from schemas.mqtt_model import JsonValue, OwnTime

#: What a path leads to that is not there; null is there.
_NOTHING: Final = object()
_MILLI: Final = Decimal("0.001")


def readings(document: dict[str, Any], values: Mapping[str, JsonValue]) -> tuple[list[Reading], list[str]]:
    """The readings that are there, and the quantities that are null.

    Raises:
        RemoteProtocolError: something is there that is no number.
    """
    found: list[Reading] = []
    missing: list[str] = []
    for path, meant in values.items():
        value = _at(document, path)
        if value is None:
            missing.append(meant.quantity)
        elif value is not _NOTHING:
            number = quantities.number_of(value, path, meant.scaler)
            found.append(Reading(meant.quantity, meant.obis, number, meant.unit))
    return found, missing


def time(document: dict[str, Any], where: OwnTime, zone: tzinfo | None) -> documents.Time:
    """The device's time.

    Raises:
        RemoteProtocolError: something is there that is no time.
    """
    value = _at(document, where.path)
    if value is _NOTHING:
        return documents.Time(None)
    if where.kind == "iso":
        return documents.text_time(value, zone)
    if where.kind == "milliseconds" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        value = quantities.number_of(value, where.path) * _MILLI
    return documents.unix_time(value)


def _at(item: Any, path: str) -> Any:
    """What ``path`` leads to. Names may have points, as OBIS codes do: the whole rest is tried first."""
    if isinstance(item, list):
        place, _, rest = path.partition(".")
        if not place.isascii() or not place.isdecimal() or len(place) > 4 or int(place) >= len(item):
            return _NOTHING
        return _at(item[int(place)], rest) if rest else item[int(place)]
    if not isinstance(item, dict):
        return _NOTHING
    if path in item:
        return item[path]
    point = path.find(".")
    while point >= 0:
        if path[:point] in item:
            found = _at(item[path[:point]], path[point + 1 :])
            if found is not _NOTHING:
                return found
        point = path.find(".", point + 1)
    return _NOTHING
