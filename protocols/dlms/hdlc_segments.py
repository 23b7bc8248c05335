"""Joins the segments of APDUs that come as HDLC frames, for listeners and the decode tool.

A link (`hdlc_link`) does this itself and asks for what is missing; here we only listen. I frames have N(S),
so a lost one shows; UI frames have not, so there a bad stretch in between ends what was begun (`abandon`).
"""

from collections import OrderedDict
from typing import NamedTuple

from protocols.dlms.framing import BadFrame
from protocols.dlms.hdlc import FrameType, HdlcAddress, HdlcFrame, split_llc

MAX_APDU = 0xFFFF
_MAX_PAIRS = 256  # unfinished APDUs kept at once, the oldest goes first


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
        self._open: OrderedDict[tuple[HdlcAddress, HdlcAddress, bool], list[HdlcFrame]] = OrderedDict()

    def add(self, frame: HdlcFrame) -> list[HdlcApdu | BadFrame]:
        """What this frame completes: an APDU, or the end of one that can no longer be joined, or nothing."""
        if frame.type not in (FrameType.I, FrameType.UI) or not frame.information:
            return []
        key = (frame.destination, frame.source, frame.type is FrameType.UI)
        parts = self._open.pop(key, [])
        results: list[HdlcApdu | BadFrame] = []
        if parts and frame.type is FrameType.I:
            if frame.ns == parts[-1].ns:  # sent again: its answer was lost
                self._open[key] = parts
                return []
            if frame.ns != (parts[-1].ns + 1) & 7:
                results.append(_lost(parts, f"segment lost: N(S) {parts[-1].ns} is followed by {frame.ns}"))
                parts = []
        elif parts and split_llc(frame.information)[0]:
            results.append(_lost(parts, "segment lost: a new APDU begins before the last segment"))
            parts = []
        parts.append(frame)
        if sum(len(part.information) for part in parts) > self._max_apdu + 3:
            results.append(_lost(parts, f"segments of more than {self._max_apdu} bytes"))
        elif frame.segmented:
            self._open[key] = parts
            if len(self._open) > _MAX_PAIRS:
                results.append(_lost(self._open.popitem(last=False)[1], "too many unfinished APDUs at once"))
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
        return [_lost(self._open.pop(key), reason) for key in keys]


def _lost(parts: list[HdlcFrame], reason: str) -> BadFrame:
    return BadFrame(parts[0].offset, b"".join(part.information for part in parts), reason)
