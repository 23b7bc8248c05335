"""A device's availability, told by its last will or its gateway, as an event of the link.

The event has no time but ours: a last will is published by the broker, seconds or minutes after the device
fell silent. What is retained tells how things are and not when they became so: it is no event.
"""

from typing import Final

from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.told import Readings
from protocols.errors import RemoteProtocolError
from protocols.mqtt import shelly, tasmota, zigbee2mqtt
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.mqtt_model import Form, MqttModel

_READERS: Final = {
    Form.ZIGBEE2MQTT: zigbee2mqtt.presence,
    Form.TASMOTA: tasmota.presence,
    Form.SHELLY: shelly.presence,
}


def read(whose: Known | str, model: MqttModel, topic: str, payload: bytes, received_us: int) -> Readings:
    """The event, of a meter or of the station with that code.

    Raises:
        RemoteProtocolError: a word that means neither.
    """
    meaning = EventMeaning.LINK_RESTORED if _online(model, topic, payload) else EventMeaning.LINK_LOST
    meter_id, node = (None, whose) if isinstance(whose, str) else (whose.meter_id, None)
    event = MeterEvent(
        meter_id, EventLog.PRESENCE, meaning, None, None, received_us, source=f"mqtt:{topic}", node=node
    )
    return Readings(meter_id, events=(event,))


def _online(model: MqttModel, topic: str, payload: bytes) -> bool:
    if model.presence is not None:
        if payload == model.presence.online.encode():
            return True
        if payload == model.presence.offline.encode():
            return False
        raise RemoteProtocolError(f"neither {model.presence.online} nor {model.presence.offline}")
    reader = _READERS.get(model.form)
    if reader is None:
        raise RemoteProtocolError(f"model {model.name} does not say what presence looks like")
    return reader(topic, payload).online
