"""Bytes of one sender in, whole APDUs out: wrapper, HDLC and M-Bus frames, whichever come, and dirt between.

::

    bytes ─> frame of any framing, or heartbeat ─> segments joined ─> blocks joined ─> Payload
                            │                             │                 │
                            └──────────── BadFrame: bytes and reason ───────┘

HDLC and M-Bus frames have checks and are believed wherever they verify. A wrapper header has none: it is
believed until a frame with a check has come, since nobody sends both.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headend.listen import heartbeat
from headend.listen.heartbeat import Beat, Partial
from protocols.dlms import hdlc, mbus, wrapper
from protocols.dlms.apdu import block_transfer
from protocols.dlms.blocks import GbtReceiver
from protocols.dlms.framing import APDU_TAGS, BadFrame, Found, Framing, Missing, Refusal, StreamReader
from protocols.dlms.hdlc import LLC_COMMAND, FrameType, HdlcAddress, HdlcFrame
from protocols.dlms.hdlc_segments import HdlcApdu, HdlcAssembler
from protocols.dlms.mbus import MBusApdu, MBusAssembler, MBusFrame
from protocols.dlms.wrapper import WrapperFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.model import Heartbeat

Frame = HdlcFrame | MBusFrame | WrapperFrame | Beat

#: Messages in blocks that one sender may have begun at once.
_MAX_TRANSFERS: Final = 16
_LONGEST_MESSAGE: Final = 64 * 1024
#: Bytes that a heartbeat can have at most: prefix, identity and suffix at their longest.
_LONGEST_BEAT: Final = 64 + 64 + 16
_MBUS_START: Final = 0x68
_MBUS_SHORT: Final = 0x10


class Payload(NamedTuple):
    """One whole APDU. ``line`` tells the senders on one connection apart: framing and addresses."""

    apdu: bytes
    line: tuple[Hashable, ...]


Item = Payload | BadFrame | Beat


def answer_to(payload: Payload, apdu: bytes) -> bytes | None:
    """``apdu`` framed for whoever sent ``payload``; None where its framing cannot carry it."""
    try:
        match payload.line:
            case (Framing.WRAPPER, int(source), int(destination)):
                return wrapper.encode(destination, source, apdu)
            case (Framing.HDLC, HdlcAddress() as source, HdlcAddress() as destination):
                control = hdlc.u_control(FrameType.UI, poll=False)
                return hdlc.encode_frame(source, destination, control, LLC_COMMAND + apdu)
            case (Framing.MBUS, int(stsap), int(dtsap)):
                return b"".join(mbus.encode_apdu(apdu, stsap=dtsap, dtsap=stsap))
            case _:
                return apdu
    except LocalProtocolError:
        return None


class AnyReader(StreamReader[Frame]):
    """Frames of three framings, and heartbeats, out of one byte stream; bad stretches as BadFrame."""

    def __init__(self, *, max_apdu: int, heartbeats: Sequence[Heartbeat] = ()) -> None:
        super().__init__(bound=max(hdlc.MAX_FRAME + 2, mbus.MAX_FRAME, max_apdu + wrapper.HEADER_LENGTH))
        self._max_apdu = max_apdu
        self._heartbeats = heartbeats
        self._beginnings = tuple({bytes.fromhex(pattern.prefix)[:1] for pattern in heartbeats})
        self._checked = False

    def take_back(self) -> bytes:
        """The bytes that are not yet a frame, which are then forgotten here."""
        data = bytes(self._buffer)
        self._drop(len(data))
        return data

    def _find(self, start: int) -> int:
        buffer = self._buffer
        end = len(buffer)
        places = [buffer.find(first, start) for first in (b"\x7e", b"\x68", b"\x10", *self._beginnings)]
        if not self._checked:
            places.append(buffer.find(b"\x00\x01", start))
            if end > start and buffer[-1] == 0:
                places.append(end - 1)  # a wrapper's first byte may stand last
        return min((place for place in places if place >= 0), default=end)

    def _parse(self, start: int) -> Found[Frame] | Missing | Refusal:
        outcome = self._frame_at(start)
        if self._heartbeats and not isinstance(outcome, Found):
            found = heartbeat.find(self._heartbeats, bytes(self._buffer[start : start + _LONGEST_BEAT]))
            if isinstance(found, Beat):
                return Found(found, start + found.end)
            if isinstance(found, Partial):
                return Missing(len(self._buffer) - start, None)
        return outcome

    def _frame_at(self, start: int) -> Found[Frame] | Missing | Refusal:
        first = self._buffer[start]
        outcome: Found[HdlcFrame] | Found[MBusFrame] | Found[WrapperFrame] | Missing | Refusal
        if first == hdlc.FLAG:
            outcome = hdlc.parse(self._buffer, start, offset=self._offset)
        elif first in (_MBUS_START, _MBUS_SHORT):
            outcome = mbus.parse(self._buffer, start, offset=self._offset)
        else:
            outcome = wrapper.parse(self._buffer, start, offset=self._offset, max_apdu=self._max_apdu)
        if isinstance(outcome, Found):
            self._checked |= first in (hdlc.FLAG, _MBUS_START)
            return Found(outcome.frame, outcome.end)
        return outcome

    def _is_filling(self, data: bytes) -> bool:
        return not data.strip(b"\x7e")


@dataclass(slots=True)
class _Transfer:
    receiver: GbtReceiver
    blocks: list[bytes] = field(default_factory=list)
    size: int = 0  # of the blocks, those that came twice included


class PushStream:
    """One sender's bytes. What is kept is bounded by ``max_apdu`` and a few unfinished messages.

    ``datagrams``: each `feed` is one datagram. A frame never goes over its end, while the segments of one
    message may come in several. ``heartbeats`` are looked for between frames.
    """

    def __init__(
        self, *, max_apdu: int, heartbeats: Sequence[Heartbeat] = (), datagrams: bool = False
    ) -> None:
        self._max_apdu = max_apdu
        self._heartbeats = heartbeats
        self._datagrams = datagrams
        self._reader = self._fresh()
        self._hdlc = HdlcAssembler(max_apdu=min(_LONGEST_MESSAGE, 4 * max_apdu))
        self._mbus = MBusAssembler()
        self._transfers: OrderedDict[tuple[Hashable, ...], _Transfer] = OrderedDict()

    @property
    def pending(self) -> int:
        """Bytes of a frame that has begun."""
        return self._reader.pending

    def take_back(self) -> bytes:
        """Bytes of a frame that has begun; somebody else goes on reading."""
        return self._reader.take_back()

    def feed(self, data: bytes) -> list[Item]:
        """What these bytes complete. Never raises."""
        items: list[Item] = []
        if self._datagrams:
            self._reader = self._fresh()
        # in pieces, so that the reader's bound holds
        for begin in range(0, len(data), self._max_apdu):
            self._reader.feed(data[begin : begin + self._max_apdu])
            if self._datagrams and begin + self._max_apdu >= len(data):
                self._reader.end()
            items += self._frames()
        bare = self._datagrams and bool(data) and data[0] in APDU_TAGS
        if bare and all(isinstance(item, BadFrame) for item in items):
            return self._apdu((Framing.APDU,), data)  # an APDU without any framing
        return items

    def end(self) -> list[Item]:
        """Nothing more will come: what is unfinished."""
        self._reader.end()
        items = self._frames()
        items += self._hdlc.abandon("the last segment is missing")
        items += self._mbus.abandon("the last segment is missing")
        while self._transfers:
            items.append(_lost(self._transfers.popitem()[1], "the last block is missing"))
        return items

    def _fresh(self) -> AnyReader:
        return AnyReader(max_apdu=self._max_apdu, heartbeats=self._heartbeats)

    def _frames(self) -> list[Item]:
        items: list[Item] = []
        while (frame := self._reader.next()) is not None:
            items += self._frame(frame)
        return items

    def _frame(self, frame: Frame | BadFrame) -> list[Item]:
        match frame:
            case Beat():
                return [frame]
            case BadFrame():
                lost = self._hdlc.abandon("a segment in between is bad", unconfirmed_only=True)
                return [frame, *lost]
            case WrapperFrame(source=source, destination=destination, apdu=apdu):
                return self._apdu((Framing.WRAPPER, source, destination), apdu)
            case HdlcFrame():
                joined: Sequence[HdlcApdu | MBusApdu | BadFrame] = self._hdlc.add(frame)
            case MBusFrame():
                joined = self._mbus.add(frame)
        items: list[Item] = []
        for result in joined:
            match result:
                case BadFrame():
                    items.append(result)
                case HdlcApdu(source=server, destination=client):
                    if not result.llc and (not result.apdu or result.apdu[0] not in APDU_TAGS):
                        items.append(_no_apdu(result.offset, result.apdu))
                    else:
                        items += self._apdu((Framing.HDLC, server, client), result.apdu)
                case MBusApdu(stsap=stsap, dtsap=dtsap):
                    items += self._apdu((Framing.MBUS, stsap, dtsap), result.apdu)
        return items

    def _apdu(self, line: tuple[Hashable, ...], apdu: bytes) -> list[Item]:
        if not apdu or apdu[0] not in APDU_TAGS:
            return [_no_apdu(0, apdu)]
        if apdu[0] == block_transfer.TAG:
            return self._block(line, apdu)
        return [Payload(apdu, line)]

    def _block(self, line: tuple[Hashable, ...], apdu: bytes) -> list[Item]:
        """A block of a message that streams without answers."""
        items: list[Item] = []
        transfer = self._transfers.pop(line, None)
        try:
            block = block_transfer.decode(apdu)
            if transfer is not None and block.block_number == 1 and apdu not in transfer.blocks:
                items.append(_lost(transfer, "a new message begins before the last block"))
                transfer = None
            if transfer is None:
                transfer = _Transfer(GbtReceiver(limit=_LONGEST_MESSAGE, answering=False))
            transfer.blocks.append(apdu)
            transfer.size += len(apdu)
            progress = transfer.receiver.receive(block)
        except RemoteProtocolError as exc:
            lost = transfer or _Transfer(GbtReceiver(answering=False), [apdu])
            return [*items, _lost(lost, f"block transfer: {exc}")]
        if progress.apdu is not None:
            if progress.apdu[:1] == bytes((block_transfer.TAG,)):
                return [*items, _lost(transfer, "a block transfer inside a block transfer")]
            return items + self._apdu(line, progress.apdu)
        if len(transfer.blocks) * 16 > _LONGEST_MESSAGE or transfer.size > 2 * _LONGEST_MESSAGE:
            return [*items, _lost(transfer, "too many blocks")]
        self._transfers[line] = transfer
        if len(self._transfers) > _MAX_TRANSFERS:
            items.append(_lost(self._transfers.popitem(last=False)[1], "too many unfinished messages"))
        return items


def _no_apdu(offset: int, data: bytes) -> BadFrame:
    found = f"begins with 0x{data[0]:02X}, no APDU tag" if data else "is empty"
    return BadFrame(offset, data, f"a good frame, but what it carries {found}")


def _lost(transfer: _Transfer, reason: str) -> BadFrame:
    return BadFrame(0, b"".join(transfer.blocks), reason)
