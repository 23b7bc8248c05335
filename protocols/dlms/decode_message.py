"""What `decode_stream` tells of one message, and how it is put together on the way."""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.framing import Framing
from protocols.dlms.hdlc import LLC_COMMAND, LLC_RESPONSE, HdlcFrame
from protocols.dlms.mbus import MBusFrame
from protocols.dlms.obis import Obis
from protocols.dlms.push_values import Plain, Unnamed, Value, written
from protocols.dlms.scan import Frame, ScanItem
from protocols.dlms.wrapper import WrapperFrame
from protocols.errors import RemoteProtocolError


class Status(StrEnum):
    """What to think of a message. What cannot be deciphered for want of a key is not bad."""

    OK = "ok"
    UNDECRYPTABLE = "undecryptable"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a message is bad. ``offset`` counts bytes of the input; where blocks or deciphering lie between,
    it is where the message begins, and ``apdu_offset`` the place in the APDU (None where there is none)."""

    offset: int
    reason: str
    apdu_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Security:
    """Protection of the innermost ciphered layer. ``verified`` only if a tag was there and held."""

    control: int
    fields: dict[str, bool | int]
    key: str
    verified: bool

    @property
    def encrypted(self) -> bool:
        """Whether the plain text depends on a key."""
        return bool(self.fields["encrypted"])


class NamedValue(NamedTuple):
    """A value of a language whose objects have names of their own: ``name`` as that language writes it.

    ``obis`` None where no code is certain. ``label`` in words, ``time`` the value's own, ``kept`` when a
    log's row was written; each None where there is none.
    """

    name: str
    obis: Obis | None
    value: Plain
    unit: str | None = None
    label: str | None = None
    time: CosemDateTime | None = None
    kept: CosemDateTime | None = None

    def to_json(self) -> dict[str, Any]:
        """As `Message.to_json` tells it: what a `Value` has, and the name, label and times there are."""
        told = {
            "obis": None if self.obis is None else str(self.obis),
            "value": written(self.value),
            "unit": self.unit,
            "scaled": None,
            "name": self.name,
        }
        more = {"label": self.label, "time": written(self.time), "kept": written(self.kept)}
        return told | {key: item for key, item in more.items() if item is not None}


@dataclass(frozen=True, slots=True)
class Message:
    """One message, or a stretch of the input that is none.

    ``offset`` in bytes of the input; ``layers`` the APDUs from outside to inside, ``apdu`` the innermost;
    ``time`` the notification's own (local, with what offset it tells), ``time_utc`` where that or the model
    tells it. ``tree`` is JSON-able.
    """

    offset: int
    status: Status
    framing: Framing
    checks: dict[str, bool]
    source: str | None = None
    destination: str | None = None
    frames: int = 1
    blocks: int = 1
    layers: tuple[str, ...] = ()
    system_title: bytes | None = None
    counter: int | None = None
    security: Security | None = None
    time: CosemDateTime | None = None
    time_utc: dt.datetime | None = None
    values: tuple[Value | NamedValue, ...] = ()
    unnamed: tuple[Unnamed, ...] = ()
    tree: Any = None
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def apdu(self) -> str | None:
        """Name of the innermost APDU, None where there is none."""
        return self.layers[-1] if self.layers else None

    def to_json(self) -> dict[str, Any]:
        """As ``headend decode --json`` prints it."""
        security = self.security
        return {
            "offset": self.offset,
            "status": str(self.status),
            "framing": str(self.framing),
            "checks": self.checks,
            "source": self.source,
            "destination": self.destination,
            "frames": self.frames,
            "blocks": self.blocks,
            "apdu": self.apdu,
            "layers": list(self.layers),
            "system_title": None if self.system_title is None else self.system_title.hex(),
            "counter": self.counter,
            "security": None
            if security is None
            else {
                "control": f"0x{security.control:02x}",
                **security.fields,
                "key": security.key,
                "verified": security.verified,
            },
            "time": written(self.time),
            "time_utc": None if self.time_utc is None else self.time_utc.isoformat().replace("+00:00", "Z"),
            "values": [_value(value) for value in self.values],
            "unnamed": [{"at": item.at, "value": written(item.value)} for item in self.unnamed],
            "notes": list(self.notes),
            "problems": [
                {"offset": item.offset, "reason": item.reason, "apdu_offset": item.apdu_offset}
                for item in self.problems
            ],
            "tree": self.tree,
        }


def _value(value: Value | NamedValue) -> dict[str, Any]:
    if isinstance(value, NamedValue):
        return value.to_json()
    return {
        "obis": str(value.obis),
        "value": written(value.value),
        "unit": value.unit,
        "scaled": value.scaled,
    }


@dataclass(slots=True)
class _Piece:
    """``length`` bytes of the joined APDU that lie at ``offset`` of the input."""

    offset: int
    length: int


class Builder:
    """Collects what is found out about one message of the scanner."""

    def __init__(self, item: ScanItem, data: bytes, base: int) -> None:
        self.offset = item.offset + base
        self.framing = item.framing
        self.blocks = 1
        self.layers: list[str] = []
        self.system_title: bytes | None = None
        self.counter: int | None = None
        self.security: Security | None = None
        self.time: CosemDateTime | None = None
        self.time_utc: dt.datetime | None = None
        self.values: list[Value] = []
        self.unnamed: list[Unnamed] = []
        self.tree: Any = None
        self.notes: list[str] = []
        self.gateway: str | None = None  # of the meter behind a gateway
        self.undecryptable = False
        self.deciphered = False  # or joined from blocks: places in the APDU are no places of the input
        self._problems: list[Problem] = []
        self.frames = len(item.frames)
        self._first = item.frames[0] if item.frames else None
        self._pieces = _pieces(item, data, base)

    @property
    def source(self) -> str | None:
        """Address, wPort or SAP of the sender."""
        return _ends(self._first)[0]

    @property
    def destination(self) -> str | None:
        """Address, wPort or SAP of the receiver."""
        return _ends(self._first)[1]

    @property
    def peers(self) -> tuple[str, ...]:
        """Both ends, whichever sends: the same for a request and its answer."""
        ends = tuple(sorted(end for end in _ends(self._first) if end is not None))
        return ends if self.gateway is None else (*ends, self.gateway)

    def join(self, other: "Builder") -> None:
        """Count the block that ``other`` brought to this message."""
        self.blocks += 1
        self.frames += other.frames

    def problem(self, error: RemoteProtocolError, *, at: int | None = None) -> None:
        """Add what is bad: at ``at`` of the input, or where the error's offset in the APDU lies."""
        place = at
        if place is None and error.offset is not None and not self.deciphered:
            place = place_of(self._pieces, error.offset)
        self._problems.append(
            Problem(
                self.offset if place is None else place,
                error.reason,
                None if at is not None else error.offset,
            )
        )

    def build(self) -> Message:
        """The message as it stands."""
        status = Status.UNDECRYPTABLE if self.undecryptable else Status.OK
        return Message(
            offset=self.offset,
            status=Status.BAD if self._problems else status,
            framing=self.framing,
            checks=_checks(self._first),
            source=self.source,
            destination=self.destination,
            frames=self.frames,
            blocks=self.blocks,
            layers=tuple(self.layers),
            system_title=self.system_title,
            counter=self.counter,
            security=self.security,
            time=self.time,
            time_utc=self.time_utc,
            values=tuple(self.values),
            unnamed=tuple(self.unnamed),
            tree=self.tree,
            notes=tuple(self.notes),
            problems=tuple(self._problems),
        )


def unreadable(offset: int, reason: str) -> Message:
    """A bad message for input that is not even bytes."""
    builder = Builder(ScanItem(offset, Framing.UNKNOWN), b"", 0)
    builder.problem(RemoteProtocolError(reason), at=offset)
    return builder.build()


def place_of(pieces: list[_Piece], offset: int) -> int | None:
    """Where byte ``offset`` of the APDU lies in the input; its end counts as the byte behind the last."""
    for index, piece in enumerate(pieces):
        if offset < piece.length or (offset == piece.length and index == len(pieces) - 1):
            return piece.offset + offset
        offset -= piece.length
    return None


def _pieces(item: ScanItem, data: bytes, base: int) -> list[_Piece]:
    """Where the bytes of the APDU stand in the input: one piece for each frame."""
    if item.payload is None:
        return []
    if not item.frames:
        start = len(LLC_COMMAND) if item.framing is Framing.LLC else 0
        return [_Piece(item.offset + start + base, len(item.payload))]
    pieces = []
    for index, frame in enumerate(item.frames):
        body = _body(frame)
        start = data.find(body, frame.offset)  # its first copy behind the frame's start is the frame's own
        if index == 0 and isinstance(frame, HdlcFrame) and body[:3] in (LLC_COMMAND, LLC_RESPONSE):
            start, body = start + 3, body[3:]
        pieces.append(_Piece(start + base, len(body)))
    return pieces


def _body(frame: Frame) -> bytes:
    match frame:
        case HdlcFrame(information=body) | MBusFrame(data=body) | WrapperFrame(apdu=body):
            return body


def _ends(frame: Frame | None) -> tuple[str | None, str | None]:
    match frame:
        case HdlcFrame(source=source, destination=destination):
            return str(source), str(destination)
        case WrapperFrame(source=source_port, destination=destination_port):
            return str(source_port), str(destination_port)
        case MBusFrame(stsap=source_sap, dtsap=destination_sap):
            return (
                None if source_sap is None else str(source_sap),
                None if destination_sap is None else str(destination_sap),
            )
        case _:
            return None, None


def _checks(frame: Frame | None) -> dict[str, bool]:
    """The checks that held; a frame of which one fails is no frame (see ``problems``)."""
    match frame:
        case HdlcFrame(information=b""):
            return {"fcs": True}
        case HdlcFrame():
            return {"hcs": True, "fcs": True}
        case MBusFrame():
            return {"checksum": True}
        case WrapperFrame():
            return {"length": True}
        case _:
            return {}
