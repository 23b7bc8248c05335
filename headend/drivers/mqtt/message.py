"""One MQTT message: who it is from, by its topic, and what it tells, by the device's model.

::

    topic ──Topics──> form, role, identity ──Meters──> meter and model ──form's decoder──> readings
                                                                          ──Sampler──> rows and registers

Decoding never waits and never raises for what a message is: a wrong one is a `Problem`. It remembers what a
decoder has to (which value counted for a boundary, a Zigbee meter's multiplier), so there is one for all
messages of a process.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from headend.drivers.mqtt import presence
from headend.drivers.mqtt.batches import Batches
from headend.drivers.mqtt.meters import Known, Meters
from headend.drivers.mqtt.sampling import Sampler
from headend.drivers.mqtt.told import Frames, Ignored, Problem, Told, Unknown
from headend.drivers.mqtt.topics import Role, Route, Topics
from protocols.errors import RemoteProtocolError
from protocols.mqtt import documents, listed, shelly, tasmota, zcl_report, zigbee2mqtt
from protocols.mqtt.hexadecimal import undressed
from protocols.mqtt.reading import Format, Readings
from protocols.zigbee.metering import Scaling
from schemas.mqtt_model import Form, MqttModel, load_mqtt_model, mqtt_model_names

#: A gateway passes on one message at a time; a longer payload is none.
_LONGEST_FRAMES: Final = 16_384


class Decoder:
    """Decodes the messages of all devices of ``models``, which ``meters`` knows."""

    def __init__(self, models: Iterable[MqttModel], meters: Meters) -> None:
        self.topics = Topics(models)
        self.meters = meters
        self._sampler = Sampler()
        self._scalings: dict[int, Scaling] = {}
        self._batches = Batches(meters)

    def decode(self, topic: str, payload: bytes, *, retained: bool, received_us: int) -> Told:
        """What the message tells. ``received_us``: microseconds since 1970-01-01 UTC, our time.

        `Unknown` is the answer as long as the identity was not learnt; then decode again.
        """
        self.meters.age()
        route = self.topics.route(topic)
        if route is None:
            return Ignored("no meter model has this topic")
        if route.role is Role.IGNORED:
            return Ignored(f"{route.model.name} has nothing to tell here")
        if retained and route.role is not Role.READINGS:
            return Ignored("a retained presence does not tell when it began")
        try:
            documents.check_size(payload)
            if route.role is Role.STATION:
                return presence.read(route.identity, route.model, topic, payload, received_us)
            if route.form is Form.BATCH:
                return self._batches.read(payload, route.identity, received_us)
            if route.form is Form.DLMS:
                return _frames(route.identity, payload)
            known = self.meters.of(route.identity)
            if known is None:
                return Unknown((route.identity,), route.form)
            if known.model is None or known.model.form is not route.form:
                other = "is none that can be used" if known.model is None else f"has form {known.model.form}"
                return Problem(f"the topic is of form {route.form}, the model of {known.asset_id} {other}")
            return self._of(known, known.model, route, topic, payload, retained, received_us)
        except RemoteProtocolError as error:
            return Problem(str(error))

    def _of(
        self,
        known: Known,
        model: MqttModel,
        route: Route,
        topic: str,
        payload: bytes,
        retained: bool,
        received_us: int,
    ) -> Told:
        if route.role is Role.PRESENCE:
            return presence.read(known, model, topic, payload, received_us)
        if model.form is Form.ZCL:
            found = self._zcl(known, model, route.identity, payload)
        else:
            found = read_object(model, topic, documents.load(payload))
        if retained and found.time is None:
            return Ignored("a retained reading without a time of its own")
        told = self._sampler.explain(known, model, found, received_us)
        if told.registers or told.intervals:
            return told
        if found.readings:  # whatever stands in the way, the bytes are worth keeping until it is put right
            return Problem("; ".join(told.notes))
        null = (f"{', '.join(found.missing[:4])}: null",) if found.missing else ()
        return Ignored("; ".join((*told.notes, *null)) or "no reading in it")

    def _zcl(self, known: Known, model: MqttModel, identity: str, payload: bytes) -> Readings:
        scaling = self._scalings.get(known.meter_id)
        if scaling is None and model.zcl is not None:
            scaling = Scaling(model.zcl.multiplier, model.zcl.divisor, model.zcl.unit)
        found = zcl_report.decode(identity, payload, scaling)
        if found.scaling is not None:
            self._scalings[known.meter_id] = found.scaling
        return found


def read_object(model: MqttModel, topic: str, document: dict[str, Any]) -> Readings:
    """The readings of a JSON object by the model's form, and by the paths that the model lists.

    Raises:
        RemoteProtocolError: a value is none of its kind.
    """
    zone = model.time_zone
    match model.form:
        case Form.TASMOTA:
            found = tasmota.decode(topic, document, zone)
        case Form.ZIGBEE2MQTT:
            found = zigbee2mqtt.decode(topic, document)
        case Form.SHELLY if "/status/" in topic:
            found = shelly.decode_status(topic, document)
        case Form.SHELLY if "result" in document:
            found = shelly.decode_answer(document)
        case Form.SHELLY:
            found = shelly.decode_rpc(document)
        case _:
            found = Readings(Format.JSON, topic, None, ())
    if not model.values and model.time is None:
        return found
    own = documents.Time(found.time) if model.time is None else listed.time(document, model.time, zone)
    readings, missing = listed.readings(document, model.values)
    notes = found.notes if own.note is None else (*found.notes, own.note)
    return Readings(
        found.format, found.meter, own.value, (*found.readings, *readings), (*found.missing, *missing), notes
    )


def load_decoder(meters: Meters, *, profile_folders: tuple[Path, ...] = ()) -> Decoder:
    """A decoder of all MQTT models, the operator's folders first. Raises ModelError."""
    names = mqtt_model_names(profile_folders)
    return Decoder([load_mqtt_model(name, profile_folders) for name in names], meters)


def _frames(identity: str, payload: bytes) -> Told:
    data = undressed(payload)
    if not data or len(data) > _LONGEST_FRAMES:
        raise RemoteProtocolError(f"{len(data)} bytes: a DLMS payload has 1 to {_LONGEST_FRAMES}")
    return Frames(identity, data)
