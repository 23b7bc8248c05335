"""Finds and decodes what any meter says: DLMS in all framings, DL/T 645, IEC 62056-21, P1 and Modbus.

This stands above the languages. It walks over the bytes once: a frame that verifies is believed, of whichever
language it is; a header that claims to begin one and does not is told as bad, with the reason of its
language. Everything else goes to `protocols.dlms.decode`, which also knows APDUs without any frame. Modbus,
whose frames begin with no mark, is believed where it fills a whole piece.
"""

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from protocols import decode_modbus
from protocols.decode_dlt645 import Dlt645Decoder
from protocols.decode_text import of_iec, of_p1
from protocols.dlms import apdu, hdlc, mbus, wrapper
from protocols.dlms.decode import Keys
from protocols.dlms.decode import StreamDecoder as DlmsDecoder
from protocols.dlms.decode_message import Message, NamedValue, Problem, Security, Status, unreadable
from protocols.dlms.framing import APDU_TAGS, Found, Framing, Missing, Refusal
from protocols.dlt645 import frame as dlt645
from protocols.dlt645.frame import Dlt645Frame
from protocols.errors import RemoteProtocolError
from protocols.iec62056_21 import messages as iec
from protocols.iec62056_21 import p1
from protocols.iec62056_21.messages import IecMessage
from protocols.iec62056_21.p1 import P1Telegram

if TYPE_CHECKING:  # a model brings pydantic, and a frame is decoded without one
    from schemas.model import MeterModel

__all__ = [
    "Keys", "Message", "NamedValue", "Problem", "Security", "Status", "StreamDecoder", "decode_stream",
    "is_text", "unreadable",
]  # fmt: skip

Frame = Dlt645Frame | P1Telegram | IecMessage

#: Bytes with which a frame of any language begins; SOH, STX and / also with a parity bit.
_BEGINS: Final = re.compile(rb"[\x00\x01\x02\x06/\x68\x7e\x81\x82\xaf]|\xfe(?=\xfe{0,15}\x68)")
#: What a line of text leaves behind its last mark; CR is also the tag of an APDU.
_LINE_ENDS: Final = b"\r\n"
_DLT645_HEAD: Final = 10
_SHORTEST_CLAIM: Final = 8
#: What stands behind the first line of a P1 telegram: full codes, where IEC 62056-21 has STX or reduced ones.
_P1_BODY: Final = re.compile(rb"[^\r\n]{0,80}(?:\r?\n){1,4}\d{1,3}-\d{1,3}:\d")
_TEXT: Final = re.compile(
    rb"^/[A-Za-z]{3}[^\r\n]{1,70}\r?\n|^/\?[^\r\n]{0,32}!|^(?:\d{1,3}-\d{1,3}:)?[0-9A-FL.]{1,15}"
    rb"(?:[*&]\d{1,3})?\([^()\r\n]*\)",
    re.MULTILINE,
)


def is_text(raw: bytes) -> bool:
    """True where printable bytes are a telegram or readout by themselves, and not hexadecimal digits."""
    return _TEXT.search(raw) is not None


def decode_stream(data: bytes, keys: Keys | None = None, model: "MeterModel | None" = None) -> list[Message]:
    """Everything in ``data``, in order of the offsets. Never raises for what the bytes are."""
    decoder = StreamDecoder(keys, model)
    return sorted([*decoder.decode(data), *decoder.finish()], key=lambda message: message.offset)


class StreamDecoder:
    """Decodes the pieces of one recording one after the other, see `protocols.dlms.decode.StreamDecoder`."""

    def __init__(self, keys: Keys | None = None, model: "MeterModel | None" = None) -> None:
        self._dlms = DlmsDecoder(keys, model)
        self._dlt645 = Dlt645Decoder()

    def decode(self, data: bytes, base: int = 0) -> list[Message]:
        """The messages that this piece completes; ``base`` is added to all offsets."""
        messages = decode_modbus.messages(data, base)
        for stretch in () if messages else split(data):
            messages += self._stretch(data, base, stretch)
        return messages

    def finish(self) -> list[Message]:
        """What has begun and did not end."""
        return [*self._dlt645.finish(), *self._dlms.finish()]

    def _stretch(self, data: bytes, base: int, stretch: "Stretch") -> list[Message]:
        match stretch.frame:
            case None:
                part, offset = data[stretch.begin : stretch.end], base + stretch.begin
                if stretch.reason is None:
                    return self._dlms.decode(part, offset)
                return [_bad(stretch.framing, offset, stretch.reason, part)]
            case Dlt645Frame() as frame:
                return self._dlt645.decode(frame, base)
            case P1Telegram() as telegram:
                return [of_p1(telegram, base)]
            case message:
                return [of_iec(message, base)]


def _bad(framing: Framing, offset: int, reason: str, data: bytes) -> Message:
    problem = Problem(offset, reason)
    tree = {"data": data.hex()}
    return Message(offset, Status.BAD, framing, {}, frames=0, tree=tree, problems=(problem,))


class Stretch(NamedTuple):
    """A part of the input: a frame, something bad with its reason, or, without either, what may be DLMS."""

    begin: int
    end: int
    framing: Framing = Framing.UNKNOWN
    frame: Frame | None = None
    reason: str | None = None


def split(data: bytes) -> list[Stretch]:
    """The parts of ``data`` in order; what only fills between frames is in none. Never raises."""
    if not data or _is_apdu(data):
        return [Stretch(0, len(data))] if data else []
    return _Splitter(data).run()


class _Splitter:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._seven_bits = iec.seven_bits(data)
        self._has_eighth = self._seven_bits != data
        self._stretches: list[Stretch] = []
        self._begin = 0  # of what is not yet told
        self._bad: tuple[Framing, str] | None = None  # why it is bad, if a language claimed it

    def run(self) -> list[Stretch]:
        data = self._data
        at, clean = 0, True  # clean: data sets without a frame may begin
        while at < len(data):
            found = _BEGINS.search(data, at)
            index = len(data) if found is None else found.start()
            plain = False
            if clean:
                solid = iec.filling(self._seven_bits, at)
                plain = solid <= index
                index = min(index, solid)
            if index == len(data):
                break
            clean = False
            end = _dlms_end(data, index)
            if end is not None:
                if self._bad is not None:
                    self._tell(index)
                at = end
                continue
            framing, outcome = self._parse(index, plain)
            at = index + 1
            if isinstance(outcome, Found):
                self._tell(index)
                self._stretches.append(Stretch(index, outcome.end, framing, outcome.frame))
                self._begin = at = outcome.end
                clean = True
            elif outcome is not None and self._claims(framing):
                self._tell(index)
                self._bad = (framing, outcome.reason)
        self._tell(len(data))
        return self._stretches

    def _claims(self, framing: Framing) -> bool:
        """A second beginning inside what is bad in one language is none of another."""
        return self._bad is None or self._bad[0] is framing

    def _tell(self, end: int) -> None:
        """Close what was not told up to ``end``."""
        begin, bad = self._begin, self._bad
        self._begin, self._bad = end, None
        if bad is not None:
            self._stretches.append(Stretch(begin, end, bad[0], reason=bad[1]))
            return
        while self._stretches and begin < end and self._seven_bits[begin] in _LINE_ENDS:
            begin += 1
        whole = end - begin == len(self._data)
        if begin < end and (whole or iec.filling(self._seven_bits, begin, end) < end):
            self._stretches.append(Stretch(begin, end))

    def _parse(self, index: int, plain: bool) -> tuple[Framing, Found[Frame] | Refusal | None]:
        """What begins here in a language other than DLMS; None where nothing claims to."""
        first = self._data[index]
        if first in (0x68, 0xFE):
            return Framing.DLT645, _claimed(dlt645.parse(self._data, index), self._dlt645_head(index))
        framing, outcome = _text(self._data, index, plain)
        if not isinstance(outcome, Found) and self._has_eighth:
            other, even = _text(self._seven_bits, index, plain)
            end = even.end if isinstance(even, Found) else len(self._data)
            if even is not None and _is_even(self._data[index:end]):
                return other, even
        return framing, outcome

    def _dlt645_head(self, index: int) -> bool:
        """True where enough of a header stands here to call a frame cut short."""
        head = self._data[index : index + dlt645.MAX_PREAMBLE + _DLT645_HEAD]
        return len(head.lstrip(b"\xfe")) >= _DLT645_HEAD


def _text(data: bytes, index: int, plain: bool) -> tuple[Framing, Found[Frame] | Refusal | None]:
    if data[index] == 0x2F:
        telegram = p1.parse(data, index, final=True)
        if isinstance(telegram, Found):
            if telegram.frame.is_typical:
                return Framing.P1, Found(telegram.frame, telegram.end)
        elif _P1_BODY.match(data, index):
            return Framing.P1, _claimed(telegram, True)
    outcome = iec.parse(data, index, plain=plain, final=True)
    long = len(data) - index >= _SHORTEST_CLAIM and b"(" in data[index + 1 : index + 64]
    return Framing.IEC62056_21, _claimed(outcome, long)


def _claimed(
    outcome: Found[Dlt645Frame] | Found[P1Telegram] | Found[IecMessage] | Missing | Refusal, claims: bool
) -> Found[Frame] | Refusal | None:
    """The outcome, None where a refusal says nothing; a frame cut short counts if it ``claims``."""
    if isinstance(outcome, Found):
        return Found(outcome.frame, outcome.end)
    if isinstance(outcome, Missing):
        return Refusal(str(outcome), claimed=True) if claims else None
    return outcome if outcome.claimed and claims else None


def _dlms_end(data: bytes, index: int) -> int | None:
    """The end of a DLMS frame that verifies here (a wrapper has no check: its APDU's tag must fit)."""
    outcome: object = None
    if data[index] == hdlc.FLAG:
        outcome = hdlc.parse(data, index)
    elif data[index] == 0x68:
        outcome = mbus.parse(data, index)
    elif data[index : index + 2] == b"\0\1":
        outcome = wrapper.parse(data, index)
        if isinstance(outcome, Found) and (not outcome.frame.apdu or outcome.frame.apdu[0] not in APDU_TAGS):
            return None
    return outcome.end if isinstance(outcome, Found) else None


def _is_apdu(data: bytes) -> bool:
    try:
        apdu.decode_strict(data)
    except RemoteProtocolError:
        return False
    return True


def _is_even(data: bytes) -> bool:
    return all(byte.bit_count() % 2 == 0 for byte in data.rstrip(b"\r\n"))
