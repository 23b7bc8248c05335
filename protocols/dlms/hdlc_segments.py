"""Joins the segments of APDUs that come as HDLC frames, for listeners and the decode tool.

A link (`hdlc_client`) does this itself and asks for what is missing; here we only listen. I frames have N(S),
so a lost one shows; UI frames have not, so there a bad stretch in between ends what was begun (`abandon`).
"""

from collections import OrderedDict
from typing import NamedTuple

from protocols.dlms.framing import BadFrame
from protocols.dlms.hdlc import LLC_COMMAND, FrameType, HdlcAddress, HdlcFrame, split_llc

MAX_APDU = 0xFFFF
_MAX_PAIRS = 32  # unfinished APDUs kept at once, the oldest goes first
_MAX_SEGMENTS = 2048  # of one APDU: 64 KiB in segments of 32 bytes


_Key = tuple[HdlcAddress, HdlcAddress, bool]  # destination, source, unconfirmed


class HdlcApdu(NamedTuple):
    """One APDU without its LLC header, and the frames that brought it."""

    destination: HdlcAddress
    source: HdlcAddress
    llc: bytes
    apdu: bytes
    frames: tuple[HdlcFrame, ...]

    @property
    def offset(self) -> int:
        """Where its first frame began."""
        return self.frames[0].offset


class HdlcAssembler:
    """I and UI frames in, APDUs out, per pair of addresses."""

    def __init__(self, *, max_apdu: int = MAX_APDU) -> None:
        self._max_apdu = max_apdu
        self._open: OrderedDict[_Key, list[HdlcFrame]] = OrderedDict()
        self._sizes: dict[_Key, int] = {}  # bytes of each in self._open

    def add(self, frame: HdlcFrame) -> list[HdlcApdu | BadFrame]:
        """What this frame completes: an APDU, or the end of one that can no longer be joined, or nothing."""
        if frame.type not in (FrameType.I, FrameType.UI) or not frame.information:
            return []
        key = (frame.destination, frame.source, frame.type is FrameType.UI)
        parts = self._open.get(key, [])
        if parts and frame.type is FrameType.I and frame.ns == parts[-1].ns:
            return []  # sent again: its answer was lost
        results: list[HdlcApdu | BadFrame] = []
        reason = _break(parts, frame) if parts else None
        if reason is not None:
            results.append(_lost(parts, reason))
            parts = []
        self._open.pop(key, None)
        before = self._sizes.pop(key, 0)
        size = (before if parts else 0) + len(frame.information)
        parts.append(frame)
        if size > self._max_apdu + len(LLC_COMMAND) or len(parts) > _MAX_SEGMENTS:
            reason = f"more than {self._max_apdu} bytes or {_MAX_SEGMENTS} segments in one APDU"
            results.append(_lost(parts, reason))
        elif frame.segmented:
            self._open[key] = parts
            self._sizes[key] = size
            if len(self._open) > _MAX_PAIRS:
                oldest, lost = self._open.popitem(last=False)
                del self._sizes[oldest]
                results.append(_lost(lost, "too many unfinished APDUs at once"))
        else:
            llc, apdu = split_llc(b"".join(part.information for part in parts))
            results.append(HdlcApdu(frame.destination, frame.source, llc, apdu, tuple(parts)))
        return results

    def abandon(self, reason: str, *, unconfirmed_only: bool = False) -> list[BadFrame]:
        """Give up what is unfinished, at the end of the input.

        ``unconfirmed_only``: after a bad stretch. An I frame lost there will be sent again, a UI frame will
        not.
        """
        keys = [key for key in self._open if key[2] or not unconfirmed_only]
        for key in keys:
            del self._sizes[key]
        return [_lost(self._open.pop(key), reason) for key in keys]


def _break(parts: list[HdlcFrame], frame: HdlcFrame) -> str | None:
    """Why ``frame`` does not continue what has begun; None if it does."""
    if frame.type is FrameType.UI:
        begins = bool(split_llc(frame.information)[0])
        return "segment lost: a new APDU begins before the last segment" if begins else None
    expected = (parts[-1].ns + 1) & 7
    return None if frame.ns == expected else f"segment lost: N(S) {parts[-1].ns} is followed by {frame.ns}"


def _lost(parts: list[HdlcFrame], reason: str) -> BadFrame:
    return BadFrame(parts[0].offset, b"".join(part.information for part in parts), reason)
