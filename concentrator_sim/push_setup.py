"""What a meter was set up to push, class 40: listed attributes, to a destination, when it is told to push.

::

    method push, or script 1 ─▶ values of push_object_list, of now ─▶ `Push` ─▶ the field sends it
                                                    (behind a wait by chance, and again where nobody takes it)

A destination is ``host:port`` on this machine, by TCP or UDP: a simulated meter sends nothing anywhere else,
and refuses to. Windows are kept and not looked at. Whose address is its concentrator's sends nothing.
"""

import ipaddress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from concentrator_sim.meter_clock import stamp_of
from concentrator_sim.object_model import Asked, CosemObject, Meter
from concentrator_sim.parameters import kept_object, kept_value
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute, CaptureObject, ClassId, capture_objects, script_table
from protocols.dlms.cosem.forms import fields_of, natural_of
from protocols.dlms.enums import ActionResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

PUSH_SETUP: Final = Obis.parse("0-0:25.9.0*255")
PUSH_SCRIPTS: Final = Obis.parse("0-0:10.0.108*255")
#: Attributes, and the method.
OBJECTS: Final = 2
DESTINATION: Final = 3
_WITHIN, _RETRIES, _AGAIN = 5, 6, 7
PUSH: Final = 1
_SERVICES: Final = {0: "tcp", 1: "udp"}
#: Message type: an APDU in A-XDR.
_APDU: Final = 0
_CONTAINERS: Final = frozenset({DataType.ARRAY, DataType.STRUCTURE})
_NULL: Final = Data(DataType.NULL, None)


class Push(NamedTuple):
    """One push that is due: ``body`` (A-XDR) and the time that it tells, sent within ``within_s`` seconds,
    and up to ``retries`` times more, ``again_s`` after a failure."""

    scheme: str
    host: str
    port: int
    body: bytes
    stamp: bytes
    within_s: int
    retries: int
    again_s: int


class PushSetup:
    """What of one meter is ``due`` to be sent, until its station takes it."""

    __slots__ = ("due",)

    def __init__(self, meter: Meter) -> None:
        self.due: Push | None = None


def take_due(meter: Meter) -> Push | None:
    """What the meter was just told to push."""
    setup = meter.part_if_any(PushSetup)
    if setup is None:
        return None
    push, setup.due = setup.due, None
    return push


def _push(asked: Asked, parameter: bytes | None) -> ActionResult:
    if parameter is None or axdr.decode_exact(parameter).type is not DataType.INTEGER:
        return ActionResult.TYPE_UNMATCHED
    meter = asked.device.meter
    destination = _destination(_kept(meter, DESTINATION))
    objects = capture_objects(_kept(meter, OBJECTS))
    if destination is None or not objects:
        return ActionResult.OTHER_REASON
    body = axdr.encode(axdr.structure(*(_value(asked, one) for one in objects)))
    within_s, retries, again_s = (_kept(meter, index).value for index in (_WITHIN, _RETRIES, _AGAIN))
    stamp = stamp_of(meter, asked.now_s)
    meter.part(PushSetup).due = Push(*destination, body, stamp, within_s, retries, again_s)
    return ActionResult.SUCCESS


def _run(asked: Asked, parameter: bytes | None) -> ActionResult:
    if parameter is None or axdr.decode_exact(parameter) != axdr.u16(1):
        return ActionResult.OBJECT_UNDEFINED
    return _push(asked, _NO_MEANING)


def _kept(meter: Meter, index: int) -> Data:
    return axdr.decode_exact(kept_value(meter, PUSH_SETUP, index, _DEFAULTS[index]))


def _destination(data: Data) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no listener on this machine."""
    service, address, message = fields_of(data, 3, "send_destination_and_method")
    if address.type is not DataType.OCTET_STRING:
        raise RemoteProtocolError(f"destination is {address.type.name}, not an octet-string")
    scheme = _SERVICES.get(natural_of(service, "transport_service"))
    if scheme is None or natural_of(message, "message") != _APDU:
        return None
    try:
        told = urlsplit("//" + address.value.decode("ascii"))
        host, port = told.hostname or "", told.port or 0
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, too: whom it stands for is not ours to find out
        return None
    if not is_here or not port:
        return None
    return scheme, host, port


def _value(asked: Asked, of: CaptureObject) -> Data:
    """What the meter has there; null where it has nothing."""
    item = AttributeItem(Attribute(of.class_id, of.obis, of.attribute))
    raw = asked.device.model.read(item, asked.device, asked.client_sap, asked.now_s)
    if not isinstance(raw, bytes):
        return _NULL
    data = axdr.decode_exact(raw)
    if not of.data_index:
        return data
    parts = data.value if data.type in _CONTAINERS else ()
    return parts[of.data_index - 1] if of.data_index <= len(parts) else _NULL


_NO_MEANING: Final = axdr.encode(axdr.i8(0))
#: Of class 40, version 0: objects, destination, windows, randomisation in s, retries, delay in s.
_DEFAULTS: Final = {
    OBJECTS: axdr.array(()),
    DESTINATION: axdr.structure(axdr.enum(0), axdr.octets(b""), axdr.enum(0)),
    4: axdr.array(()),
    _WITHIN: axdr.u16(0),
    _RETRIES: axdr.u8(0),
    _AGAIN: axdr.u16(0),
}
_SCRIPT: Final = script_table.Script(
    1,
    (
        script_table.ScriptAction(
            script_table.Service.EXECUTE, ClassId.PUSH_SETUP, PUSH_SETUP, PUSH, axdr.i8(0)
        ),
    ),
)
_SCRIPTS: Final = axdr.encode(axdr.array([_SCRIPT.encode()]))
#: The set-up, and the script that pushes.
PUSHES: Final = (
    kept_object(ClassId.PUSH_SETUP, PUSH_SETUP, _DEFAULTS)._replace(methods={PUSH: _push}),
    CosemObject(
        ClassId.SCRIPT_TABLE,
        0,
        PUSH_SCRIPTS,
        {script_table.SCRIPTS: lambda asked: _SCRIPTS},
        methods={script_table.EXECUTE: _run},
    ),
)
