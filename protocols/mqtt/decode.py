"""Which language a payload is, and its decoder. The one entrance for what a broker delivers."""

from datetime import tzinfo
from typing import Any, Final

from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches, dlms_frames, documents, shelly, tasmota, zcl_report, zigbee2mqtt
from protocols.mqtt.reading import DlmsFrames, Format, Presence, Readings
from protocols.zigbee.metering import Scaling
from schemas.batch import BatchMessage

Payload = Readings | Presence | DlmsFrames | BatchMessage

_SENSOR: Final = frozenset({"SENSOR", "STATUS8", "STATUS10"})
_TASMOTA: Final = frozenset({"tele", "stat"})


def decode(
    topic: str,
    payload: bytes,
    *,
    language: Format | None = None,
    zone: tzinfo | None = None,
    scaling: Scaling | None = None,
) -> Payload:
    """What the payload says.

    Args:
        topic: the topic it was published to.
        payload: at most `documents.MAX_PAYLOAD` bytes.
        language: where the subscription knows it; else topic and payload are looked at.
        zone: the device's time zone, for devices that write local times.
        scaling: what is known of a Zigbee meter, for raw ZCL frames.

    Raises:
        RemoteProtocolError: a wrong payload, with the reason: it belongs into the quarantine.
    """
    documents.check_size(payload)
    match language or recognise(topic, payload):
        case Format.BATCH:
            return batches.decode(payload)
        case Format.ZIGBEE2MQTT:
            return _zigbee2mqtt(topic, payload)
        case Format.TASMOTA:
            if topic.endswith("/LWT"):
                return tasmota.presence(topic, payload)
            return tasmota.decode(topic, documents.load(payload), zone)
        case Format.SHELLY:
            return _shelly(topic, payload)
        case Format.ZCL:
            return zcl_report.decode(topic, payload, scaling)
        case Format.DLMS:
            return dlms_frames.decode(topic, payload)
        case Format.JSON | None:
            raise RemoteProtocolError("no language that is known here")


def recognise(topic: str, payload: bytes) -> Format | None:
    """The language by the topic where that is clear, else by the payload; None where neither tells."""
    return _by_topic(topic) or _by_payload(payload)


def _by_topic(topic: str) -> Format | None:
    levels = topic.split("/")
    last = levels[-1]
    if levels[0] == "zigbee2mqtt":
        return Format.ZIGBEE2MQTT
    if last in _SENSOR or (last == "LWT" and not _TASMOTA.isdisjoint(levels)):
        return Format.TASMOTA
    if levels[-2:] == ["events", "rpc"] or last == "online":
        return Format.SHELLY
    if levels[-2:-1] == ["status"] and shelly.is_component(last):
        return Format.SHELLY
    return Format.ZCL if zcl_report.is_report(topic) else None


def _by_payload(payload: bytes) -> Format | None:
    if batches.is_compact(payload):
        return Format.BATCH
    if payload.lstrip()[:1] != b"{":
        # Nothing else of ours comes as bytes or as hexadecimal digits without its topic saying so.
        return Format.DLMS if payload else None
    if b'"headend.batch' in payload:
        return Format.BATCH
    document = documents.load(payload)
    if "ENERGY" in document or "StatusSNS" in document:
        return Format.TASMOTA
    if "src" in document and "method" in document:
        return Format.SHELLY
    return Format.ZIGBEE2MQTT if "linkquality" in document else None


def _zigbee2mqtt(topic: str, payload: bytes) -> Readings | Presence:
    if topic.endswith("/availability"):
        return zigbee2mqtt.presence(topic, payload)
    name = zigbee2mqtt.device(topic)
    if name == "bridge" or name.startswith("bridge/"):
        return Readings(Format.ZIGBEE2MQTT, name, None, (), notes=("the gateway speaks of itself",))
    return zigbee2mqtt.decode(topic, documents.load(payload))


def _shelly(topic: str, payload: bytes) -> Readings | Presence:
    if topic.endswith("/online"):
        return shelly.presence(topic, payload)
    document: dict[str, Any] = documents.load(payload)
    return shelly.decode_rpc(document) if "method" in document else shelly.decode_status(topic, document)
