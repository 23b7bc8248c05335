"""Messages of `protocols.decode` from IEC 62056-21 and P1."""

import datetime as dt
from typing import Any, Final

from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.decode_message import Message, NamedValue, Problem, Status
from protocols.dlms.framing import Framing
from protocols.errors import RemoteProtocolError
from protocols.iec62056_21 import p1_objects
from protocols.iec62056_21.data_sets import DataSet, medium_of, obis_of
from protocols.iec62056_21.messages import Block, Identification, IecMessage, OptionSelect, SignOn
from protocols.iec62056_21.p1 import P1Telegram

_MEDIA: Final = {1: "electricity", 6: "heat"}


def of_iec(message: IecMessage, base: int) -> Message:
    """One message; ``base`` is added to its offsets. Passwords are not shown."""
    offset = base + message.offset
    match message:
        case SignOn(address=address):
            return _simple(offset, "sign-on", {"address": address})
        case Identification():
            tree = {
                "maker": message.maker,
                "identification": message.text,
                "baud_char": message.baud_char,
                "mode": str(message.mode),
                "baud": message.baud,
            }
            return _simple(offset, "identification", tree, source=message.maker)
        case OptionSelect():
            tree = {"protocol": message.protocol, "baud_char": message.baud_char, "mode": message.mode}
            return _simple(offset, "option select", tree)
        case Block():
            return _block(message, offset, base)


def _simple(offset: int, name: str, tree: dict[str, Any], source: str | None = None) -> Message:
    return Message(offset, Status.OK, Framing.IEC62056_21, {}, source=source, layers=(name,), tree=tree)


def _block(block: Block, offset: int, base: int) -> Message:
    checks = {"bcc": True} if block.checked else {}
    name = "readout" if block.command is None else f"command {block.command}"
    if block.is_password:
        tree: dict[str, Any] = {"command": block.command, "password": "<redacted>"}
        return Message(offset, Status.OK, Framing.IEC62056_21, checks, layers=(name,), tree=tree)
    sets, malformed = block.sets()
    medium = medium_of(sets)
    problems = tuple(
        Problem(base + block.text_offset + bad.offset, f"{bad.reason}: {bad.text!r}") for bad in malformed
    )
    notes = [] if block.complete else ["no end mark ! behind the data"]
    if not block.last:
        notes.append("another block follows")
    return Message(
        offset,
        Status.BAD if problems else Status.OK,
        Framing.IEC62056_21,
        checks,
        layers=(name,),
        values=tuple(value for one in sets for value in _values(one, medium)),
        tree={
            "command": block.command,
            "medium": None if medium is None else _MEDIA[medium],
            "sets": [{"address": one.address, "groups": list(one.groups)} for one in sets],
        },
        notes=tuple(notes),
        problems=problems,
    )


def _values(one: DataSet, medium: int | None) -> list[NamedValue]:
    """The values of one set: the first is the object's, those behind it are told by its name alone."""
    obis = obis_of(one.address, medium)
    values = []
    for part in one.parts:
        number = part.number if part.unit is not None else None
        value = part.text if number is None else number
        values.append(NamedValue(one.address, obis, value if part.text else None, part.unit))
        obis = None
    return values


def of_p1(telegram: P1Telegram, base: int) -> Message:
    """One telegram; ``base`` is added to its offsets."""
    found = p1_objects.read(telegram)
    problems = tuple(
        Problem(base + telegram.text_offset + offset, reason) for offset, reason in found.problems
    )
    notes = (
        ("line ends are not those of the meter, the CRC holds with CR LF",) if telegram.bare_line_ends else ()
    )
    return Message(
        base + telegram.offset,
        Status.BAD if problems else Status.OK,
        Framing.P1,
        {} if telegram.crc is None else {"crc": True},
        source=telegram.maker,
        layers=("telegram",),
        time=found.time,
        time_utc=_utc(found.time),
        values=tuple(
            NamedValue(one.name, one.obis, one.value, one.unit, time=one.time, kept=one.kept)
            for one in found.values
        ),
        tree={
            "identification": telegram.identification,
            "crc": None if telegram.crc is None else f"{telegram.crc:04X}",
            "devices": [device._asdict() for device in found.devices],
        },
        notes=notes,
        problems=problems,
    )


def _utc(time: CosemDateTime | None) -> dt.datetime | None:
    try:
        return None if time is None else time.to_utc()
    except RemoteProtocolError:
        return None
