"""Shelly, generation 2 and later: components in status topics and in RPC notifications.

``<prefix>/status/em:0`` carries one component; ``<prefix>/events/rpc`` a NotifyStatus or NotifyFullStatus
with several and a time. Components: em (three phases, instantaneous), emdata (their energies), em1 and
em1data (single inputs), switch, pm1, cover (power and energy of one output). The number of a component is the
channel, OBIS group B. Energies are in Wh.

An input whose clamp or voltage is not connected reports noise: 198 Hz at 0 V. Such values are told with a
doubt.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from protocols.errors import RemoteProtocolError
from protocols.mqtt import documents, quantities
from protocols.mqtt.quantities import Quantity
from protocols.mqtt.reading import Format, Presence, Reading, Readings

_COMPONENT: Final = re.compile(r"(em|emdata|em1|em1data|switch|pm1|cover):([0-9]{1,2})", re.ASCII)
_STATUS: Final = frozenset({"NotifyStatus", "NotifyFullStatus"})

_INSTANT: Final[dict[str, Quantity]] = {
    "act_power": quantities.ACTIVE_POWER,
    "aprt_power": quantities.APPARENT_POWER,
    "current": quantities.CURRENT,
    "voltage": quantities.VOLTAGE,
    "freq": quantities.FREQUENCY,
    "pf": quantities.POWER_FACTOR,
}
_TOTALS: Final[dict[str, Quantity]] = {
    "total_act_power": quantities.ACTIVE_POWER,
    "total_aprt_power": quantities.APPARENT_POWER,
    "total_current": quantities.TOTAL_CURRENT,
    "n_current": quantities.NEUTRAL_CURRENT,
}
_ENERGIES: Final[dict[str, Quantity]] = {
    "total_act_energy": quantities.ACTIVE_IMPORT,
    "total_act_ret_energy": quantities.ACTIVE_EXPORT,
}
_ENERGY_TOTALS: Final[dict[str, Quantity]] = {
    "total_act": quantities.ACTIVE_IMPORT,
    "total_act_ret": quantities.ACTIVE_EXPORT,
}
_OUTPUT: Final[dict[str, Quantity]] = {
    "apower": quantities.ACTIVE_POWER,
    "current": quantities.CURRENT,
    "voltage": quantities.VOLTAGE,
    "freq": quantities.FREQUENCY,
    "pf": quantities.POWER_FACTOR,
}
_OUTPUT_ENERGY: Final[dict[str, Quantity]] = {
    "aenergy": quantities.ACTIVE_IMPORT,
    "ret_aenergy": quantities.ACTIVE_EXPORT,
}
_PHASES: Final = (("a_", 1), ("b_", 2), ("c_", 3))
#: Four numbers rounded to 0.01 Wh differ by no more.
_ROUNDING: Final = Decimal("0.02")


def decode_status(topic: str, document: dict[str, Any]) -> Readings:
    """``<prefix>/status/<component>``. It carries no time.

    Raises:
        RemoteProtocolError: a value that should be a number is none, or the topic is no such topic.
    """
    prefix, status, name = topic.rpartition("/status/")
    if not status:
        raise RemoteProtocolError(f"{topic!r} is no status topic")
    found = _Components()
    found.add(name, document)
    return found.readings(prefix, documents.Time(None))


def decode_rpc(document: dict[str, Any]) -> Readings:
    """``<prefix>/events/rpc``: the meter is ``src``. Methods other than status have no readings.

    Raises:
        RemoteProtocolError: no src or method, or a value that should be a number is none.
    """
    source, method = document.get("src"), document.get("method")
    if not isinstance(source, str) or not isinstance(method, str) or not 0 < len(source) <= 128:
        raise RemoteProtocolError("a notification without src and method")
    params = documents.part(document, "params") or {}
    found = _Components()
    if method not in _STATUS:
        found.notes.append(f"{method[:40]} carries no readings")
        return found.readings(source, documents.Time(None))
    found.add_all(params)
    return found.readings(source, documents.unix_time(params.get("ts")))


def decode_answer(document: dict[str, Any]) -> Readings:
    """What the device answers to Shelly.GetStatus: all components, and among ``sys`` its time.

    Raises:
        RemoteProtocolError: no src, or a value that should be a number is none.
    """
    source = document.get("src")
    if not isinstance(source, str) or not 0 < len(source) <= 128:
        raise RemoteProtocolError("an answer without src")
    result = documents.part(document, "result") or {}
    found = _Components()
    found.add_all(result)
    time = (documents.part(result, "sys") or {}).get("unixtime")
    return found.readings(source, documents.unix_time(time))


def presence(topic: str, payload: bytes) -> Presence:
    """A last will: ``<prefix>/online`` with true or false.

    Raises:
        RemoteProtocolError: any other word.
    """
    if payload not in (b"true", b"false"):
        raise RemoteProtocolError("a last will that is neither true nor false")
    return Presence(Format.SHELLY, topic.rpartition("/")[0], payload == b"true")


def is_component(name: str) -> bool:
    """Whether a status topic's last level is a component that measures."""
    return _COMPONENT.fullmatch(name) is not None


class _Components:
    def __init__(self) -> None:
        self._readings: list[Reading] = []
        self._missing: list[str] = []
        self.notes: list[str] = []

    def readings(self, meter: str, time: documents.Time) -> Readings:
        if time.note is not None:
            self.notes.append(time.note)
        return Readings(
            Format.SHELLY,
            meter,
            time.value,
            tuple(self._readings),
            tuple(self._missing),
            tuple(self.notes),
        )

    def add_all(self, components: dict[str, Any]) -> None:
        for name, component in components.items():
            if _COMPONENT.fullmatch(name):
                if not isinstance(component, dict):
                    raise RemoteProtocolError(f"{name} is no object")
                self.add(name, component)

    def add(self, name: str, component: dict[str, Any]) -> None:
        found = _COMPONENT.fullmatch(name)
        if found is None:
            self.notes.append(f"{name[:40]} measures nothing")
            return
        kind, channel = found[1], int(found[2])
        if kind == "em":
            for prefix, phase in _PHASES:
                self._input(component, prefix, channel, phase)
            self._values(component, _TOTALS, channel=channel)
        elif kind == "emdata":
            doubts = dict(_sums(component))
            for prefix, phase in _PHASES:
                self._values(component, _ENERGIES, prefix, channel=channel, phase=phase)
            for key, quantity in _ENERGY_TOTALS.items():
                self._values(component, {key: quantity}, channel=channel, doubt=doubts.get(key))
        elif kind == "em1":
            self._input(component, "", channel, 0)
        elif kind == "em1data":
            self._values(component, _ENERGIES, channel=channel)
        else:
            self._values(component, _OUTPUT, channel=channel)
            for key, quantity in _OUTPUT_ENERGY.items():
                counter = documents.part(component, key)
                if counter is not None:
                    self._values(counter, {"total": quantity}, channel=channel)

    def _input(self, component: dict[str, Any], prefix: str, channel: int, phase: int) -> None:
        errors = component.get(prefix + "errors")
        doubt = None
        if isinstance(errors, list) and errors:
            doubt = f"the device reports {str(errors[0])[:60]}"
        dead = component.get(prefix + "voltage") == 0
        for key, quantity in _INSTANT.items():
            why = doubt
            if dead and key in ("freq", "pf") and why is None:
                why = "no voltage at this input"
            self._values(component, {key: quantity}, prefix, channel=channel, phase=phase, doubt=why)

    def _values(
        self,
        component: dict[str, Any],
        keys: dict[str, Quantity],
        prefix: str = "",
        *,
        channel: int,
        phase: int = 0,
        doubt: str | None = None,
    ) -> None:
        for key, quantity in keys.items():
            key = prefix + key
            if key not in component:
                continue
            if component[key] is None:
                self._missing.append(quantities.name_of(quantity, phase=phase, channel=channel))
            else:
                self._readings.append(
                    quantities.reading(quantity, component[key], phase=phase, channel=channel, doubt=doubt)
                )


def _sums(component: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Totals that are not the sum of their phases, and why they are doubted."""
    for key, phase_key in (("total_act", "total_act_energy"), ("total_act_ret", "total_act_ret_energy")):
        names = [key, *(prefix + phase_key for prefix, _ in _PHASES)]
        sent = [
            quantities.number_of(component[name], name) for name in names if component.get(name) is not None
        ]
        if len(sent) == len(names) and abs(sent[0] - sum(sent[1:])) > _ROUNDING:
            yield key, "the phases do not sum up to the total"
