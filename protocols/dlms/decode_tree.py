"""APDUs and COSEM data as plain trees of dicts, lists, texts and numbers: what ``headend decode`` prints.

Every data node is ``{"type": name, ...}`` with ``items`` (containers) or ``value``. Octet strings have their
hexadecimal digits as ``value`` and beside it what they may mean: ``text``, ``time``, ``obis``. Integers stay
integers, floats are decimal strings. Passwords and keys are replaced by their length.
"""

import dataclasses
from enum import IntEnum, IntFlag
from typing import Any, Final

from protocols.dlms import axdr, tolerant, units
from protocols.dlms.apdu import Aare, Aarq, Apdu, Diagnostic, InitiateRequest, Raw, Selection, name_of
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute, Method, ScalerUnit
from protocols.dlms.enums import Mechanism
from protocols.dlms.hdlc import FrameType, HdlcFrame
from protocols.dlms.hdlc_parameters import LinkParameters
from protocols.dlms.mbus import MBusFrame
from protocols.dlms.obis import Obis
from protocols.dlms.push_values import elements, plain, written
from protocols.errors import RemoteProtocolError

Tree = Any  # JSON: dict, list, str, int, bool, None

_STRINGS: Final = frozenset({DataType.VISIBLE_STRING, DataType.UTF8_STRING, DataType.BIT_STRING})
_REALS: Final = frozenset({DataType.FLOAT32, DataType.FLOAT64})
_MOMENTS: Final = frozenset({DataType.DATE_TIME, DataType.DATE, DataType.TIME})


def of_data(data: Data) -> Tree:
    """One value of COSEM data."""
    kind = data.type
    name = kind.name.lower().replace("_", "-")
    if isinstance(data.value, tolerant.Descriptor):
        found = data.value
        return {
            "type": "attribute-descriptor",
            "class_id": found.class_id.value,
            "obis": str(Obis.from_bytes(found.name.value)),
            "attribute": found.attribute.value,
        }
    if kind in (DataType.ARRAY, DataType.STRUCTURE, DataType.COMPACT_ARRAY):
        node: dict[str, Tree] = {"type": name, "items": [of_data(item) for item in elements(data)]}
        unit = _unit_of(data)
        return node if unit is None else node | {"unit": unit}
    if kind is DataType.OCTET_STRING or kind in _MOMENTS:
        return {"type": name, "value": data.value.hex()} | _meanings(data)
    if kind in _REALS:
        return {"type": name, "value": str(data.value.decimal())}
    return {"type": name, "value": str(data.value) if kind in _STRINGS else data.value}


def of_raw(raw: bytes) -> Tree:
    """Undecoded A-XDR bytes: the value, or what of it can be read with the reason why it ends."""
    reading = tolerant.read(raw)
    node = {"type": None} if reading.data is None else of_data(reading.data)
    if reading.error is not None:
        node |= {"error": str(reading.error), "rest": raw[reading.end :].hex()}
    return node


def of_apdu(apdu: Apdu) -> dict[str, Tree]:
    """An APDU by the fields of its dataclass, named ``apdu``: its standard name, and ``form``."""
    fields = {item.name: _field(apdu, item.name) for item in dataclasses.fields(apdu)}
    return {"apdu": name_of(apdu.to_bytes()[0]), "form": type(apdu).__name__} | fields


def of_hdlc(frame: HdlcFrame) -> dict[str, Tree]:
    """A frame that carries no APDU, with the parameters of SNRM and UA where they can be read."""
    node: dict[str, Tree] = {"frame": str(frame.type), "poll_final": frame.poll}
    if frame.type is FrameType.I:
        node |= {"ns": frame.ns, "nr": frame.nr}
    elif frame.type in (FrameType.RR, FrameType.RNR):
        node["nr"] = frame.nr
    if frame.information:
        node["information"] = frame.information.hex()
        if frame.type in (FrameType.SNRM, FrameType.UA):
            try:
                node["parameters"] = LinkParameters.from_bytes(frame.information)._asdict()
            except RemoteProtocolError as exc:
                node["parameters"] = str(exc)
    return node


def of_mbus(frame: MBusFrame) -> dict[str, Tree]:
    """An M-Bus frame that carries no APDU."""
    return {
        "frame": "short" if frame.ci is None else "long",
        "control": frame.control,
        "ci": frame.ci,
        "data": frame.data.hex(),
    }


def _field(apdu: Apdu, name: str) -> Tree:
    value = getattr(apdu, name)
    if value is not None:
        if isinstance(apdu, InitiateRequest) and name == "dedicated_key":
            return f"<{len(value)} bytes, not shown>"
        # A challenge is no secret, a password is.
        if (
            isinstance(apdu, Aarq | Aare)
            and name.endswith("authentication_value")
            and apdu.mechanism in (None, Mechanism.NONE, Mechanism.LLS, Mechanism.HLS)
        ):
            return f"<{len(value)} bytes, not shown>"
        if name == "date_time" and len(value) == axdr.FIXED_SIZE[DataType.DATE_TIME]:
            return {"value": value.hex()} | _meanings(Data(DataType.DATE_TIME, value))
    return _node(value)


def _node(value: object) -> Tree:
    match value:
        case Raw(data=raw):
            return of_raw(raw)
        case Selection(selector=selector, parameters=parameters):
            return {"selector": selector, "parameters": of_raw(parameters)}
        case Attribute(class_id=class_id, obis=obis, index=index):
            return {"class_id": class_id, "obis": str(obis), "attribute": index}
        case Method(class_id=class_id, obis=obis, index=index):
            return {"class_id": class_id, "obis": str(obis), "method": index}
        case Diagnostic():
            return str(value)
        case IntFlag():
            return [flag.name for flag in type(value) if flag & value]
        case IntEnum():
            return value.name.lower().replace("_", "-")
        case bytes():
            return value.hex()
        case None | bool() | int() | str():
            return value
        case tuple() if hasattr(value, "_asdict"):
            return {name: _node(item) for name, item in value._asdict().items()}
        case tuple():
            return [_node(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {item.name: _node(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return str(value)


def _meanings(data: Data) -> dict[str, str]:
    """What the octets may mean beside their digits."""
    octets = data.value
    text = written(plain(data))
    meanings = {}
    if text is not None and text != octets.hex():
        # The kind of `plain`: a time has 12 bytes and is no text.
        is_text = octets.decode("latin-1") == text
        meanings["text" if is_text else "time"] = text
    if data.type is DataType.OCTET_STRING and len(octets) == 6 and octets[0] < 0x10:
        meanings["obis"] = str(Obis.from_bytes(octets))
    return meanings


def _unit_of(data: Data) -> str | None:
    try:
        return units.symbol(ScalerUnit.decode(data).unit)
    except RemoteProtocolError:
        return None
