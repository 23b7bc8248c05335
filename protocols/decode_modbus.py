"""Messages of `protocols.decode` from Modbus frames.

Modbus frames have no mark at their beginning, so they are believed only where they fill a whole piece: RTU
frames by their CRC, TCP frames by the length in each header.
"""

from decimal import Decimal
from typing import Any

from protocols.dlms.decode_message import Message, Status
from protocols.dlms.framing import Framing
from protocols.errors import RemoteProtocolError
from protocols.modbus import frames
from protocols.modbus.frames import Kind, ModbusFrame


def messages(data: bytes, base: int) -> list[Message]:
    """One message for each frame, none where ``data`` is not all Modbus. ``base`` is added to offsets."""
    return _rtu(data, base) or _tcp(data, base)


def _rtu(data: bytes, base: int) -> list[Message]:
    found, at = [], 0
    while at < len(data):
        frame = frames.parse_rtu(data, at)
        if frame is None:
            return []
        found.append(_message(frame[0], base + at, Framing.MODBUS_RTU, {"crc": True}))
        at = frame[1]
    return found


def _tcp(data: bytes, base: int) -> list[Message]:
    found, at = [], 0
    while at < len(data):
        try:
            frame, end = frames.parse_tcp(data, at)
        except RemoteProtocolError:
            return []
        found.append(_message(frame, base + at, Framing.MODBUS_TCP, {}))
        at = end
    return found


def _message(frame: ModbusFrame, offset: int, framing: Framing, checks: dict[str, bool]) -> Message:
    tree: dict[str, Any] = {"unit": frame.unit, "function": frame.function, "kind": str(frame.kind)}
    for name in ("transaction", "address", "count", "exception"):
        if (number := getattr(frame, name)) is not None:
            tree[name] = number
    if frame.exception is not None:
        tree["meaning"] = frames.EXCEPTIONS.get(frame.exception, "unknown code")
    registers = frame.registers
    if registers:
        tree["registers"] = list(registers)
        if len(registers) % 2 == 0:
            tree["f32"] = [_float(registers[at : at + 2]) for at in range(0, len(registers), 2)]
    elif frame.data:
        tree["data"] = frame.data.hex()
    from_meter = frame.kind in (Kind.ANSWER, Kind.EXCEPTION)
    return Message(
        offset,
        Status.OK,
        framing,
        checks,
        source=str(frame.unit) if from_meter else None,
        destination=None if from_meter else str(frame.unit),
        layers=(f"function {frame.function} {frame.kind}",),
        tree=tree,
    )


def _float(pair: tuple[int, ...]) -> str | None:
    """Two registers as a float32, high word first, as most meters of floats send it."""
    from protocols.modbus import values  # brings pydantic: only registers wait for it

    number: Decimal | None = values.float_decimal(values.join(pair))
    return None if number is None else str(number)
