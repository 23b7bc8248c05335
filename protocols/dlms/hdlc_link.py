"""The DLMS data link over HDLC, both sides, sans-I/O: bytes in, events out.

Normal response mode: the client (primary) owns the line and gives the turn to the server (secondary) with
the poll bit; the server answers and gives it back with the final bit. An APDU longer than the negotiated
information field goes out as segments in I frames, a window of them per turn. What was lost is sent again
when the other side's N(R) shows it or when `on_timeout` is called; what comes twice is dropped. So each APDU
given to `send` reaches the other side exactly once, or the link says `Disconnected`.

Which state may follow which stands in the tables of `hdlc_states`; every event but `Transmit` goes through
them. The sides are `hdlc_client` and `hdlc_server`; here is what they share.
"""

from collections import deque
from itertools import islice

from protocols.dlms.framing import BadFrame
from protocols.dlms.hdlc import (
    FrameType,
    HdlcAddress,
    HdlcFrame,
    HdlcReader,
    encode_frame,
    i_control,
    s_control,
    split_llc,
    u_control,
)
from protocols.dlms.hdlc_parameters import LinkParameters
from protocols.dlms.hdlc_states import (
    Apdu,
    Connected,
    Disconnected,
    Event,
    LinkRejected,
    State,
    TableEvent,
    Transitions,
    Transmit,
)
from protocols.errors import LocalProtocolError

MAX_APDU = 0xFFFF


class HdlcLink:
    """What both sides share: numbers, windows, segments."""

    _transitions: Transitions
    _llc: bytes

    def __init__(
        self,
        own: HdlcAddress,
        peer: HdlcAddress,
        limits: LinkParameters | None = None,
        *,
        max_apdu: int = MAX_APDU,
    ) -> None:
        self.own = own
        self.peer = peer
        self.limits = (limits or LinkParameters()).check()
        self.parameters = LinkParameters()  # as negotiated, from our view
        self.state = State.DISCONNECTED
        self.busy = False  # set it to answer RNR: the peer then pauses
        self.bad_frames = 0  # bad stretches seen by `receive`
        self._max_apdu = max_apdu
        self._reader = HdlcReader()
        self._ui = bytearray()
        self._reset()

    def _reset(self) -> None:
        self._out: deque[tuple[bytes, bool]] = deque()  # (information, segmented) from V(A) on
        self._va = 0  # number of the first frame in _out
        self._sent = 0  # how many of _out went out at least once: V(S) = V(A) + _sent
        self._vr = 0
        self._in = bytearray()
        self._peer_busy = False

    def receive(self, data: bytes) -> list[Event]:
        """Bytes from the line. Bad stretches are counted and otherwise as if lost. Never raises."""
        self._reader.feed(data)
        events: list[Event] = []
        while (item := self._reader.next()) is not None:
            if isinstance(item, BadFrame):
                self.bad_frames += 1
            else:
                events += self.receive_frame(item)
        return events

    def receive_frame(self, frame: HdlcFrame) -> list[Event]:
        """One frame that a reader found, for a line that several links share.

        Frames of others give nothing.
        """
        raise NotImplementedError

    def send_unconfirmed(self, apdu: bytes) -> list[Event]:
        """One APDU in a UI frame, in any state. Raises LocalProtocolError when it does not fit one frame."""
        return [self._frame(u_control(FrameType.UI, poll=False), self._llc + apdu)]

    # numbers

    @property
    def _vs(self) -> int:
        return (self._va + self._sent) & 7

    def _nr_valid(self, nr: int) -> bool:
        return (nr - self._va) & 7 <= self._sent

    def _acknowledge(self, nr: int) -> bool:
        """Take what the peer has got out of the queue; True if there was any. ``nr`` must be valid."""
        count = (nr - self._va) & 7
        for _ in range(count):
            self._out.popleft()
        self._va = nr
        self._sent -= count
        return count > 0

    # sending

    def _enqueue(self, apdu: bytes) -> None:
        if self.state is not State.CONNECTED:
            raise LocalProtocolError(f"cannot send on an HDLC link that is {self.state}")
        if not apdu or len(apdu) > self._max_apdu:
            raise LocalProtocolError(f"an APDU of {len(apdu)} bytes cannot be sent, 1..{self._max_apdu} can")
        data = self._llc + apdu
        size = self.parameters.max_transmit
        for begin in range(0, len(data), size):
            self._out.append((data[begin : begin + size], begin + size < len(data)))

    def _window(self) -> list[Event]:
        """The frames of this turn, from the first that is not acknowledged; the last one gives the turn away.

        Each turn begins with an answer to all that went before, so what it did not acknowledge is lost.
        """
        count = min(len(self._out), self.parameters.window_transmit)
        events: list[Event] = []
        for index, (information, segmented) in enumerate(islice(self._out, count)):
            control = i_control(self._va + index, self._vr, poll=index == count - 1)
            events.append(self._frame(control, information, segmented=segmented))
        self._sent = max(self._sent, count)
        return events

    def _ready(self) -> Transmit:
        """RR or RNR with the poll or final bit."""
        return self._frame(s_control(FrameType.RNR if self.busy else FrameType.RR, self._vr, poll=True))

    def _frame(self, control: int, information: bytes = b"", *, segmented: bool = False) -> Transmit:
        return Transmit(encode_frame(self.peer, self.own, control, information, segmented=segmented))

    # receiving

    def _take(self, frame: HdlcFrame) -> Apdu | Disconnected | None:
        """The next I frame in order: the APDU it completes, if any."""
        self._vr = (self._vr + 1) & 7
        return self._join(self._in, frame, unconfirmed=False)

    def _take_ui(self, frame: HdlcFrame) -> list[Event]:
        if self._ui and split_llc(frame.information)[0]:
            self._ui.clear()  # the last segment of the former was lost
        event = self._join(self._ui, frame, unconfirmed=True)
        return [self._emit(event)] if isinstance(event, Apdu) else []

    def _join(self, parts: bytearray, frame: HdlcFrame, *, unconfirmed: bool) -> Apdu | Disconnected | None:
        parts += frame.information
        if len(parts) > self._max_apdu + 3:
            parts.clear()
            return Disconnected(f"the peer sent an APDU of more than {self._max_apdu} bytes")
        if frame.segmented or not parts:
            return None
        apdu = split_llc(bytes(parts))[1]
        parts.clear()
        return Apdu(apdu, unconfirmed)

    def _emit(self, event: Connected | Apdu | Disconnected | LinkRejected) -> Event:
        self._step(type(event))
        return event

    def _step(self, event: TableEvent) -> None:
        try:
            self.state = self._transitions[self.state][event]
        except KeyError:
            raise LocalProtocolError(f"{event.__name__} on an HDLC link that is {self.state}") from None
