"""From a topic to the device: which form its payloads have, what they are about, and who it is.

The patterns of all models are one table. Stations' own presence goes first, then what is ignored, then the
pattern with the most letters of its own. Two models may share a pattern if they share the form, since the
device's own model is looked up by its identity afterwards. A topic is looked at once and remembered.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from protocols.mqtt import zcl_report
from schemas.mqtt_model import IDENTITY, Form, MqttModel

#: Topics that are remembered; beyond that all are forgotten, and found again.
_REMEMBERED: Final = 200_000
#: Characters of an identity, as in addresses.
_LONGEST: Final = 128


class Role(StrEnum):
    """What the messages of a topic are about."""

    STATION = "station"  # presence of a gateway or concentrator
    READINGS = "readings"
    PRESENCE = "presence"
    IGNORED = "ignored"


_FIRST: Final = {Role.STATION: 0, Role.IGNORED: 1}


class Route(NamedTuple):
    """``model`` is the first that names the topic: the device's own may be another of the same form."""

    form: Form
    role: Role
    identity: str
    model: MqttModel


class _Pattern(NamedTuple):
    text: str
    expression: re.Pattern[str]
    form: Form
    role: Role
    model: MqttModel


class Topics:
    """The topics of ``models``."""

    def __init__(self, models: Iterable[MqttModel]) -> None:
        found: dict[tuple[str, Form, Role], MqttModel] = {}
        for model in models:
            for role, patterns in (
                (Role.STATION, model.topics.station),
                (Role.IGNORED, model.topics.ignored),
                (Role.READINGS, model.topics.readings),
                (Role.PRESENCE, model.topics.presence),
            ):
                for pattern in patterns:
                    found.setdefault((pattern, model.form, role), model)
        ordered = sorted(found.items(), key=lambda item: _rank(*item[0]))
        self._patterns = [
            _Pattern(pattern, _expression(pattern), form, role, model)
            for (pattern, form, role), model in ordered
        ]
        self._known: dict[str, Route | None] = {}

    def route(self, topic: str) -> Route | None:
        """Where the topic leads; None where no model has it."""
        try:
            return self._known[topic]
        except KeyError:
            pass
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        found = self._known[topic] = self._find(topic)
        return found

    def filters(self) -> tuple[str, ...]:
        """Subscriptions that together bring all readings and presence. A device's name of several levels is
        only met where it stands last in the pattern (the filter then ends in #)."""
        wanted = {_filter(one.text) for one in self._patterns if one.role is not Role.IGNORED}
        trees = tuple(one[:-1] for one in wanted if one.endswith("/#"))
        return tuple(sorted(one for one in wanted if one.endswith("/#") or not one.startswith(trees)))

    def _find(self, topic: str) -> Route | None:
        for pattern in self._patterns:
            found = pattern.expression.fullmatch(topic)
            if found is None:
                continue
            identity = found.groupdict().get("identity", "")
            if len(identity) > _LONGEST or not identity.isprintable():
                continue
            if pattern.form is Form.ZCL:
                identity = zcl_report.device(identity) or identity
            return Route(pattern.form, pattern.role, identity, pattern.model)
        return None


def fill(pattern: str, identity: str) -> str:
    """The topic of a device."""
    return pattern.replace(IDENTITY, identity)


def _rank(pattern: str, form: Form, role: Role) -> tuple[int, int, str, str]:
    letters = len(pattern.replace(IDENTITY, "").replace("*", ""))
    return _FIRST.get(role, len(_FIRST)), -letters, pattern, form


def _expression(pattern: str) -> re.Pattern[str]:
    parts = [
        "(?P<identity>[^+#]+)" if part == IDENTITY else "[^/]+" if part == "*" else re.escape(part)
        for part in re.split(rf"({re.escape(IDENTITY)}|\*)", pattern)
    ]
    return re.compile("".join(parts))


def _filter(pattern: str) -> str:
    levels = ["+" if IDENTITY in level or "*" in level else level for level in pattern.split("/")]
    if pattern.endswith("/" + IDENTITY):
        levels[-1] = "#"
    return "/".join(levels)
