"""Messages of `protocols.decode` from DL/T 645 frames: frames joined, values named, passwords hidden."""

from typing import Any, Final, NamedTuple

from protocols.dlms.decode_message import Message, NamedValue, Problem, Status
from protocols.dlms.framing import Framing
from protocols.dlt645.control import AbnormalAnswer, Function
from protocols.dlt645.frame import Dlt645Frame
from protocols.dlt645.identifiers import DataId, parts
from protocols.dlt645.load_record import RECORD_FAMILY, decode_records
from protocols.dlt645.values import Reading, decode
from protocols.errors import RemoteProtocolError

_WITH_IDENTIFIER: Final = frozenset({Function.READ, Function.READ_FOLLOWING, Function.WRITE})
_DI: Final = 4
#: Where the password (permission class and three bytes) and the operator's code stand in a request.
_PASSWORD: Final = {
    Function.WRITE: 4,
    Function.CHANGE_PASSWORD: 4,
    Function.RESET_DEMAND: 0,
    Function.RESET_METER: 0,
    Function.RESET_EVENTS: 0,
    Function.SWITCH: 0,
}
_MAX_OPEN: Final = 64


class _Open(NamedTuple):
    """An answer whose following frames are still to come; ``sequence`` is that of the last frame."""

    first: Dlt645Frame
    offset: int
    data: bytes
    frames: int
    sequence: int


class Dlt645Decoder:
    """Frames in, messages out; what has begun lives on until `finish`."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, DataId], _Open] = {}

    def decode(self, frame: Dlt645Frame, base: int) -> list[Message]:
        """The messages that this frame completes; ``base`` is added to its offset."""
        control = frame.control
        offset = base + frame.offset
        if control.abnormal or not control.from_meter or control.function not in _WITH_IDENTIFIER:
            return [_message(frame, offset)]
        if len(frame.data) < _DI:
            # The answer to a write says nothing but that it is done.
            return [_message(frame, offset)]
        di, data = DataId.from_wire(frame.data[:_DI]), frame.data[_DI:]
        key = (frame.address, di)
        if control.function is Function.READ_FOLLOWING:
            return self._following(frame, offset, key, data)
        messages = self._lost(self._open.pop(key, None))
        if control.more:
            self._open[key] = _Open(frame, offset, data, 1, 0)
            if len(self._open) > _MAX_OPEN:
                messages += self._lost(self._open.pop(next(iter(self._open))))
            return messages
        return [*messages, _message(frame, offset, data)]

    def _following(
        self, frame: Dlt645Frame, offset: int, key: tuple[str, DataId], data: bytes
    ) -> list[Message]:
        begun = self._open.get(key)
        sequence = data[-1] if data else 0
        if begun is None:
            return [_message(frame, offset, notes=(f"frame {sequence} alone: those before it are not here",))]
        if sequence == begun.sequence:
            return []  # sent again
        if sequence != begun.sequence + 1:
            return [*self._lost(self._open.pop(key)), _message(frame, offset)]
        begun = begun._replace(data=begun.data + data[:-1], frames=begun.frames + 1, sequence=sequence)
        if frame.control.more:
            self._open[key] = begun
            return []
        del self._open[key]
        return [_message(begun.first, begun.offset, begun.data, frames=begun.frames)]

    def finish(self) -> list[Message]:
        """What has begun and did not end, as bad."""
        lost = [message for begun in self._open.values() for message in self._lost(begun)]
        self._open.clear()
        return lost

    @staticmethod
    def _lost(begun: _Open | None) -> list[Message]:
        if begun is None:
            return []
        problem = Problem(begun.offset, "cut short: the last of the following frames is missing")
        return [_message(begun.first, begun.offset, frames=begun.frames, problems=(problem,))]


def _message(
    frame: Dlt645Frame,
    offset: int,
    data: bytes | None = None,
    *,
    frames: int = 1,
    notes: tuple[str, ...] = (),
    problems: tuple[Problem, ...] = (),
) -> Message:
    """``data``: that of a whole read answer, behind the identifier."""
    control = frame.control
    tree = _tree(frame)
    values: tuple[NamedValue, ...] = ()
    if control.abnormal:
        refusal = AbnormalAnswer(control, frame.data)
        tree["error"] = None if refusal.word is None else f"0x{int(refusal.word):02x}"
        tree["error_names"] = [] if refusal.word is None else list(refusal.word.names)
        notes += (refusal.reason,)
    elif data is not None and control.function is not Function.WRITE:
        di = DataId.from_wire(frame.data[:_DI])
        tree["data"] = data.hex()
        try:
            values = _values(di, data)
        except RemoteProtocolError as exc:
            place = offset if frames > 1 else offset + frame.preamble + 10 + _DI + (exc.offset or 0)
            problems += (Problem(place, f"{di}: {exc.reason}"),)
        else:
            if not values:
                notes += (f"{di} is not in the table of identifiers",)
    meter = frame.address
    return Message(
        offset=offset,
        status=Status.BAD if problems else Status.OK,
        framing=Framing.DLT645,
        checks={"checksum": True},
        source=meter if control.from_meter else None,
        destination=None if control.from_meter else meter,
        frames=frames,
        layers=(control.name,),
        values=values,
        tree=tree,
        notes=notes,
        problems=problems,
    )


def _values(di: DataId, data: bytes) -> tuple[NamedValue, ...]:
    if di.di3 == RECORD_FAMILY:
        readings = [reading for record in decode_records(data) for reading in record.readings]
        return tuple(map(_named, readings))
    return tuple(map(_named, decode(di, data)))


def _named(reading: Reading) -> NamedValue:
    return NamedValue(reading.di.name, reading.obis, reading.value, reading.unit, reading.name, reading.time)


def _tree(frame: Dlt645Frame) -> dict[str, Any]:
    control, data = frame.control, frame.data
    function = control.function
    tree: dict[str, Any] = {
        "address": frame.address,
        "control": str(control),
        "from_meter": control.from_meter,
        "abnormal": control.abnormal,
        "more": control.more,
        "preamble_bytes": frame.preamble,
        "data_length": len(data),
    }
    if control.abnormal:
        return tree
    if function in _WITH_IDENTIFIER and len(data) >= _DI:
        di = DataId.from_wire(data[:_DI])
        tree["di"] = str(di)
        known = parts(di, 0)
        tree["meaning"] = None if known is None else known[0].name
        data = data[_DI:]
    place = None if control.from_meter or function is None else _PASSWORD.get(function)
    if place is not None:
        return tree | _secret(frame.data, place, function)
    if function is Function.READ_ADDRESS and control.from_meter and len(data) == 6:
        tree["meter_address"] = bytes(reversed(data)).hex()
    if data:
        tree["data"] = data.hex()
    return tree


def _secret(data: bytes, place: int, function: Function | None) -> dict[str, Any]:
    """What a request with a password shows: who may (PA), who did (operator), and what is written."""
    told: dict[str, Any] = {
        "password_class": data[place] if len(data) > place else None,
        "password": "<redacted>",
    }
    if function is Function.CHANGE_PASSWORD:
        return told
    told["operator"] = bytes(reversed(data[place + 4 : place + 8])).hex()
    told["data"] = data[place + 8 :].hex()
    return told
