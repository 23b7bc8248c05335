"""Finds the framing of a byte string by itself: what `headend decode` reads first.

HDLC and M-Bus frames have checks, so they are believed wherever they verify. A wrapper header has none: it
is believed where something ended before it, or when it fits and an APDU tag follows. A bare APDU says
nothing of its length: it is looked for at the very start only, and goes on to the next frame that verifies,
or to the end. What is bad is told with offset and reason, and the rest goes on. Segments of HDLC (per pair
of addresses) and of M-Bus are joined; blocks of APDUs are not, that is the APDU decoder's work.
"""

from typing import NamedTuple

from protocols.dlms import hdlc, mbus, wrapper
from protocols.dlms.framing import APDU_TAGS, BadFrame, Found, Framing, Missing, Refusal
from protocols.dlms.hdlc import LLC_COMMAND, LLC_RESPONSE, HdlcFrame
from protocols.dlms.hdlc_segments import HdlcApdu, HdlcAssembler
from protocols.dlms.mbus import MBusApdu, MBusAssembler, MBusFrame
from protocols.dlms.wrapper import WrapperFrame

Frame = HdlcFrame | MBusFrame | WrapperFrame

#: Bad stretches in a row that are told one by one. What goes on behind them is told as one: a megabyte of
#: headers that claim and break a frame must not make a million items.
MAX_BAD_IN_A_ROW = 16


class ScanItem(NamedTuple):
    """Something found in the input, in the order in which it became whole.

    ``payload`` is an APDU without LLC header, None for frames that carry none (SNRM, RR ...) and for bad
    items. ``reason`` says why an item is bad, then ``data`` holds its bytes. ``frames`` are those that made
    the item.
    """

    offset: int
    framing: Framing
    payload: bytes | None = None
    frames: tuple[Frame, ...] = ()
    reason: str | None = None
    data: bytes = b""

    @property
    def ok(self) -> bool:
        """False for a bad item."""
        return self.reason is None


def scan(data: bytes) -> list[ScanItem]:
    """Everything in ``data``, each byte in one item or filling between frames (HDLC flags). Never raises."""
    return _Scan(data).run()


class _Scan:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items: list[ScanItem] = []
        self._hdlc = HdlcAssembler()
        self._mbus = MBusAssembler()
        self._bad_in_a_row = 0
        self._bad_end = 0
        self._bad_told = 0

    def run(self) -> list[ScanItem]:
        position = 0
        while position < len(self._data):
            position = self._step(position)
        self._end_bad()
        self._bad_frames(self._hdlc.abandon("the last segment is missing"), Framing.HDLC)
        self._bad_frames(self._mbus.abandon("the last segment is missing"), Framing.MBUS)
        return self._items

    def _step(self, position: int) -> int:
        """Tell what stands at ``position``; where to go on."""
        data = self._data
        if data[position] == hdlc.FLAG and not _format_follows(data, position):
            return position + 1  # filling, or the closing flag of what came before
        framing, outcome = _parse(data, position)
        if isinstance(outcome, Found) and framing is Framing.WRAPPER:
            overlap = _next_verified(data, position + wrapper.HEADER_LENGTH, outcome.end)
            if overlap < outcome.end < _frame_end(data, overlap):
                # Its length reaches into a frame that verifies: the check is believed, the length is not.
                outcome = Missing(overlap - position, outcome.end - position)
        if isinstance(outcome, Found):
            self._end_bad()
            self._good(outcome.frame)
            return outcome.end
        if framing is not Framing.UNKNOWN and (isinstance(outcome, Missing) or outcome.claimed):
            end = _bad_end(data, position, framing)
            reason = str(outcome) if isinstance(outcome, Missing) else outcome.reason
            self._bad(position, end, framing, reason)
            return end
        llc = data[position : position + 3] in (LLC_COMMAND, LLC_RESPONSE)
        if llc or (position == 0 and data[0] in APDU_TAGS):
            self._end_bad()
            end = _next_verified(data, position + 1, len(data))
            begin = position + 3 if llc else position
            item = ScanItem(position, Framing.LLC if llc else Framing.APDU, data[begin:end])
            if begin == end:
                item = item._replace(
                    payload=None, reason="an LLC header and nothing behind it", data=data[position:end]
                )
            self._items.append(item)
            return end
        end = _next_start(data, position + 1)
        self._bad(position, end, Framing.UNKNOWN, "neither a known framing nor an APDU")
        return end

    def _good(self, frame: Frame) -> None:
        if isinstance(frame, WrapperFrame):
            self._items.append(ScanItem(frame.offset, Framing.WRAPPER, frame.apdu, (frame,)))
        elif isinstance(frame, MBusFrame):
            if not frame.is_transport:
                self._items.append(ScanItem(frame.offset, Framing.MBUS, None, (frame,)))
            for joined in self._mbus.add(frame):
                self._joined(joined, Framing.MBUS)
        else:
            if frame.type not in (hdlc.FrameType.I, hdlc.FrameType.UI) or not frame.information:
                unknown = frame.type is hdlc.FrameType.UNKNOWN
                reason = f"unknown control field 0x{frame.control:02X}" if unknown else None
                self._items.append(ScanItem(frame.offset, Framing.HDLC, None, (frame,), reason))
            for part in self._hdlc.add(frame):
                self._joined(part, Framing.HDLC)

    def _joined(self, result: HdlcApdu | MBusApdu | BadFrame, framing: Framing) -> None:
        if isinstance(result, BadFrame):
            self._bad_frames([result], framing)
            return
        if not result.apdu:
            self._items.append(ScanItem(result.offset, framing, None, result.frames, "frame without an APDU"))
        elif (isinstance(result, HdlcApdu) and result.llc) or result.apdu[0] in APDU_TAGS:
            self._items.append(ScanItem(result.offset, framing, result.apdu, result.frames))
        elif len(result.frames) > 1 or any(item.framing is framing and not item.ok for item in self._items):
            reason = f"begins with 0x{result.apdu[0]:02X}, no APDU tag: a first segment seems to be missing"
            self._items.append(ScanItem(result.offset, framing, None, result.frames, reason, result.apdu))
        else:  # a good frame, but what it carries is not DLMS
            self._items.append(ScanItem(result.offset, framing, None, result.frames))

    def _bad(self, begin: int, end: int, framing: Framing, reason: str) -> None:
        if begin != self._bad_end:  # filling in between
            self._end_bad()
        self._bad_in_a_row += 1
        self._bad_end = end
        if self._bad_in_a_row > MAX_BAD_IN_A_ROW:
            return
        self._bad_told = end
        self._items.append(ScanItem(begin, framing, reason=reason, data=self._data[begin:end]))
        lost = self._hdlc.abandon("a segment in between is bad", unconfirmed_only=True)
        self._bad_frames(lost, Framing.HDLC)

    def _end_bad(self) -> None:
        """A row of bad stretches is over: tell what was not told one by one."""
        more, self._bad_in_a_row = self._bad_in_a_row - MAX_BAD_IN_A_ROW, 0
        if more > 0:
            reason = f"{more} more bad stretches follow on one another"
            data = self._data[self._bad_told : self._bad_end]
            self._items.append(ScanItem(self._bad_told, Framing.UNKNOWN, reason=reason, data=data))

    def _bad_frames(self, lost: list[BadFrame], framing: Framing) -> None:
        self._items += [ScanItem(bad.offset, framing, reason=bad.reason, data=bad.data) for bad in lost]


def _format_follows(data: bytes, flag: int) -> bool:
    return flag + 1 < len(data) and data[flag + 1] & 0xF0 == 0xA0


_Outcome = Found[HdlcFrame] | Found[MBusFrame] | Found[WrapperFrame] | Missing | Refusal


def _parse(data: bytes, position: int) -> tuple[Framing, _Outcome]:
    """The framing whose header stands here, and what its parser says."""
    first = data[position]
    if first == hdlc.FLAG:
        return Framing.HDLC, hdlc.parse(data, position)
    if first in (0x68, 0x10):
        long = data[position + 3 : position + 4] == b"\x68"
        outcome = mbus.parse(data, position)
        return (Framing.MBUS if long or isinstance(outcome, Found) else Framing.UNKNOWN), outcome
    if data[position : position + 2] == b"\x00\x01":
        return Framing.WRAPPER, wrapper.parse(data, position)
    return Framing.UNKNOWN, Refusal("", claimed=False)


def _verifies(data: bytes, position: int) -> bool:
    """True if a frame with a check that holds begins here.

    Short M-Bus frames are too easily met by chance.
    """
    if data[position] == hdlc.FLAG:
        return isinstance(hdlc.parse(data, position), Found)
    return data[position] == 0x68 and isinstance(mbus.parse(data, position), Found)


def _next_verified(data: bytes, begin: int, end: int) -> int:
    return next(
        (index for index in range(begin, end) if data[index] in (0x7E, 0x68) and _verifies(data, index)), end
    )


def _frame_end(data: bytes, position: int) -> int:
    outcome = _parse(data, position)[1]
    return outcome.end if isinstance(outcome, Found) else position


def _next_start(data: bytes, begin: int, *, bare: bool = True) -> int:
    """The next place where a frame is, or where a header claims to begin one; the end if there is none.

    ``bare``: an LLC header counts too. Not behind a bad frame, whose own LLC header that may be.
    """
    for index in range(begin, len(data)):
        first = data[index]
        if first in (0x7E, 0x68, 0x00):
            framing, outcome = _parse(data, index)
            if isinstance(outcome, Found):
                return index
            if framing in (Framing.WRAPPER, Framing.UNKNOWN):
                continue
            if isinstance(outcome, Refusal) and outcome.claimed:
                return index
            if isinstance(outcome, Missing) and (first == 0x68 or _format_follows(data, index)):
                return index
        elif (
            bare
            and data[index : index + 3] in (LLC_COMMAND, LLC_RESPONSE)
            and index + 3 < len(data)
            and data[index + 3] in APDU_TAGS
        ):
            return index
    return len(data)


def _bad_end(data: bytes, begin: int, framing: Framing) -> int:
    """Where a frame that is bad ends: where its length says, if a closing byte stands there, else at the
    next start.

    A frame that verifies inside it ends it sooner: then the length was wrong.
    """
    end = begin + 1
    if framing is Framing.HDLC and begin + 2 < len(data):
        closing = begin + 1 + ((data[begin + 1] & 7) << 8 | data[begin + 2])
        if data[closing : closing + 1] == b"\x7e":
            end = closing
    elif framing is Framing.MBUS and begin + 1 < len(data):
        closing = begin + 4 + data[begin + 1] + 1
        if data[closing : closing + 1] == b"\x16":
            end = closing + 1
    sooner = _next_verified(data, begin + 1, end)
    return sooner if sooner < end else _next_start(data, end, bare=False)
