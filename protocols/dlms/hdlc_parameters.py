"""Information fields of the link's own frames: the parameters in SNRM and UA, the reasons in FRMR.

Parameters (IEC 62056-46, HDLC parameter negotiation)::

    81 80 group-length { id length value }

Ids 05 and 06 are the longest information field sent and received, 07 and 08 the windows. What is not said
has its default: 128 bytes, window 1.
"""

from typing import NamedTuple

import construct as c

from protocols.dlms.hdlc import FrameType, HdlcFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError

_GROUP_HEAD = b"\x81\x80"  # format identifier, group identifier
_PARAMETER = c.Struct("id" / c.Byte, "value" / c.Prefixed(c.Byte, c.GreedyBytes))
_PARAMETERS = c.Struct(
    c.Const(_GROUP_HEAD),
    # a greedy range stops at what it cannot read: nothing may be left over
    "group" / c.Prefixed(c.Byte, c.Struct("items" / c.GreedyRange(_PARAMETER), c.Terminated)),
)
_FRAME_REJECT = c.BitStruct(
    "control" / c.Octet,
    "vr" / c.BitsInteger(3),
    "response" / c.Flag,
    "vs" / c.BitsInteger(3),
    c.Padding(1),
    c.Padding(4),
    "invalid_nr" / c.Flag,
    "information_too_long" / c.Flag,
    "information_not_permitted" / c.Flag,
    "unknown_control" / c.Flag,
)
_FRAME_REJECT_SIZE = _FRAME_REJECT.sizeof()
_TRANSMIT, _RECEIVE, _WINDOW_TRANSMIT, _WINDOW_RECEIVE = 5, 6, 7, 8

DEFAULT_INFORMATION = 128
MAX_INFORMATION = 2030  # with the longest addresses still within the 11-bit length of a frame
DEFAULT_WINDOW = 1
MAX_WINDOW = 7  # sequence numbers count modulo 8


class LinkParameters(NamedTuple):
    """What one side can do, seen from itself: bytes of an information field, frames of a window."""

    max_transmit: int = DEFAULT_INFORMATION
    max_receive: int = DEFAULT_INFORMATION
    window_transmit: int = DEFAULT_WINDOW
    window_receive: int = DEFAULT_WINDOW

    def check(self) -> "LinkParameters":
        """These parameters. Raises LocalProtocolError when one is out of its range."""
        for size in (self.max_transmit, self.max_receive):
            if not 8 <= size <= MAX_INFORMATION:
                raise LocalProtocolError(f"information field of {size} bytes, must be 8..{MAX_INFORMATION}")
        for window in (self.window_transmit, self.window_receive):
            if not 1 <= window <= MAX_WINDOW:
                raise LocalProtocolError(f"window of {window} frames, must be 1..{MAX_WINDOW}")
        return self

    def negotiate(self, peer: "LinkParameters") -> "LinkParameters":
        """What both can do, from our view.

        Our sending is limited by the peer's receiving and the other way round.
        """
        return LinkParameters(
            min(self.max_transmit, peer.max_receive),
            min(self.max_receive, peer.max_transmit),
            min(self.window_transmit, peer.window_receive),
            min(self.window_receive, peer.window_transmit),
        )

    def to_bytes(self) -> bytes:
        """The information field of an SNRM or UA frame."""
        items = [
            {"id": identifier, "value": value.to_bytes(1 if value <= 0xFF else 2, "big")}
            for identifier, value in ((_TRANSMIT, self.max_transmit), (_RECEIVE, self.max_receive))
        ]
        items += [
            {"id": identifier, "value": value.to_bytes(4, "big")}
            for identifier, value in (
                (_WINDOW_TRANSMIT, self.window_transmit),
                (_WINDOW_RECEIVE, self.window_receive),
            )
        ]
        return bytes(_PARAMETERS.build({"group": {"items": items}}))

    @classmethod
    def from_bytes(cls, information: bytes) -> "LinkParameters":
        """The sender's parameters; unknown ids are skipped, an empty field means the defaults.

        Raises RemoteProtocolError when the field is malformed or a value is out of its range.
        """
        if not information:
            return cls()
        if information[:2] != _GROUP_HEAD:
            raise RemoteProtocolError("HDLC parameters do not begin with 81 80", offset=0)
        try:
            items = _PARAMETERS.parse(information).group["items"]
        except c.ConstructError as error:
            raise RemoteProtocolError(
                "HDLC parameters are cut short, or one runs over the end of its group", offset=2
            ) from error
        values = {item.id: int.from_bytes(item.value, "big") for item in items}
        # A peer that can take more than a frame holds is welcome; one that can take nothing is not.
        sizes = [values.get(key, DEFAULT_INFORMATION) for key in (_TRANSMIT, _RECEIVE)]
        windows = [values.get(key, DEFAULT_WINDOW) for key in (_WINDOW_TRANSMIT, _WINDOW_RECEIVE)]
        if min(sizes) < 8 or min(windows) < 1:
            raise RemoteProtocolError(
                f"HDLC parameters out of range: sizes {sizes}, windows {windows}", offset=0
            )
        return cls(
            min(sizes[0], MAX_INFORMATION),
            min(sizes[1], MAX_INFORMATION),
            min(windows[0], MAX_WINDOW),
            min(windows[1], MAX_WINDOW),
        )


class FrameReject(NamedTuple):
    """FRMR's information.

    The refused control field, the sender's V(S) and V(R), and the reasons w, x, y, z.
    """

    control: int
    vs: int
    vr: int
    unknown_control: bool = False  # w
    information_not_permitted: bool = False  # x, comes with w
    information_too_long: bool = False  # y
    invalid_nr: bool = False  # z
    response: bool = False  # C/R: the refused frame was a response

    def to_bytes(self) -> bytes:
        """The three bytes of the information field."""
        fields = self._replace(vs=self.vs & 7, vr=self.vr & 7)._asdict()
        return bytes(_FRAME_REJECT.build(fields))

    @classmethod
    def from_bytes(cls, information: bytes) -> "FrameReject":
        """Raises RemoteProtocolError unless there are three bytes."""
        if len(information) != _FRAME_REJECT_SIZE:
            raise RemoteProtocolError(
                f"FRMR information has {_FRAME_REJECT_SIZE} bytes, not {len(information)}", offset=0
            )
        said = _FRAME_REJECT.parse(information)
        return cls(**{name: said[name] for name in cls._fields})

    def __str__(self) -> str:
        names = [
            name
            for name, said in (
                ("control field unknown", self.unknown_control),
                ("information not permitted", self.information_not_permitted),
                ("information too long", self.information_too_long),
                ("invalid N(R)", self.invalid_nr),
            )
            if said
        ]
        return f"frame with control 0x{self.control:02X} rejected: {', '.join(names) or 'no reason given'}"


def describe(frame: HdlcFrame) -> LinkParameters | FrameReject | None:
    """What an SNRM, UA or FRMR frame says.

    None for the others. Raises RemoteProtocolError when it is malformed.
    """
    if frame.type in (FrameType.SNRM, FrameType.UA):
        return LinkParameters.from_bytes(frame.information)
    return FrameReject.from_bytes(frame.information) if frame.type is FrameType.FRMR else None
