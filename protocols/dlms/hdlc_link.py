"""The DLMS data link over HDLC, both sides, sans-I/O: bytes in, events out.

Normal response mode: the client (primary) owns the line and gives the turn to the server (secondary) with
the poll bit; the server answers and gives it back with the final bit. An APDU longer than the negotiated
information field goes out as segments in I frames, a window of them per turn. What was lost is sent again
when the other side's N(R) shows it or when `on_timeout` is called; what comes twice is dropped. So each APDU
given to `send` reaches the other side exactly once, or the link says `Disconnected`.

Which state may follow which stands in the tables of `hdlc_states`; every event but `Transmit` goes through
them.
"""

from collections import deque
from itertools import islice

from protocols.dlms.framing import BadFrame
from protocols.dlms.hdlc import (
    LLC_COMMAND,
    LLC_RESPONSE,
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
from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters
from protocols.dlms.hdlc_states import (
    CLIENT_TRANSITIONS,
    SERVER_TRANSITIONS,
    Apdu,
    Connected,
    ConnectRequested,
    Disconnected,
    DisconnectRequested,
    Event,
    LinkRejected,
    State,
    TableEvent,
    Transitions,
    Transmit,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "Apdu",
    "Connected",
    "Disconnected",
    "Event",
    "HdlcClientLink",
    "HdlcServerLink",
    "LinkRejected",
    "State",
    "Transmit",
]

MAX_APDU = 0xFFFF
MAX_RETRIES = 3
MAX_IDLE_POLLS = 8  # polls in a row that are answered "nothing yet", before we wait for `on_timeout`


class _HdlcLink:
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


class HdlcClientLink(_HdlcLink):
    """The head-end's side. One request at a time is usual; more may be queued."""

    _transitions = CLIENT_TRANSITIONS
    _llc = LLC_COMMAND

    def __init__(
        self,
        own: HdlcAddress,
        peer: HdlcAddress,
        limits: LinkParameters | None = None,
        *,
        max_apdu: int = MAX_APDU,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        super().__init__(own, peer, limits, max_apdu=max_apdu)
        self._max_retries = max_retries

    def _reset(self) -> None:
        super()._reset()
        self._turn_given = False  # a poll is on its way and not yet answered
        self._window_out = False  # that poll went with I frames, not with RR
        self._expecting = False  # an answer to what was sent
        self._idle_polls = 0
        self._retries = 0

    def connect(self) -> list[Event]:
        """SNRM. Raises LocalProtocolError when not disconnected, or for a broadcast or no-station address."""
        if self.peer.is_all_station or self.peer.is_no_station:
            raise LocalProtocolError(f"HDLC address {self.peer} takes unconfirmed frames only")
        self._step(ConnectRequested)
        self._reset()
        return [self._snrm()]

    def send(self, apdu: bytes, *, expect_answer: bool = True) -> list[Event]:
        """One APDU in I frames, at once if the turn is ours.

        ``expect_answer``: poll the server until an APDU comes back. Raises LocalProtocolError unless
        connected.
        """
        self._enqueue(apdu)
        self._expecting = self._expecting or expect_answer
        return [] if self._turn_given or self._peer_busy else self._take_turn()

    def poll(self) -> list[Event]:
        """Give the server a turn: it may have more to send than was asked for."""
        if self.state is not State.CONNECTED:
            raise LocalProtocolError(f"cannot poll on an HDLC link that is {self.state}")
        return [] if self._turn_given else self._enquire()

    def disconnect(self) -> list[Event]:
        """DISC. Raises LocalProtocolError unless connected."""
        self._step(DisconnectRequested)
        self._reset()
        return [self._frame(u_control(FrameType.DISC, poll=True))]

    def on_timeout(self) -> list[Event]:
        """Nothing came in time: ask again, or give up with `Disconnected` after ``max_retries``.

        Without anything under way it does nothing. A server that says RNR is alive and may go on saying so:
        the caller's own deadline ends that.
        """
        waiting = self._turn_given or self._expecting or bool(self._out) or bool(self._in)
        if self.state is State.DISCONNECTED or (self.state is State.CONNECTED and not waiting):
            return []
        self._retries += 1
        if self._retries > self._max_retries:
            return [self._emit(Disconnected(f"no answer, asked {self._retries} times"))]
        if self.state is State.CONNECTING:
            return [self._snrm()]
        if self.state is State.DISCONNECTING:
            return [self._frame(u_control(FrameType.DISC, poll=True))]
        self._idle_polls = 0
        return self._enquire() if self._peer_busy else self._take_turn()

    def receive_frame(self, frame: HdlcFrame) -> list[Event]:
        if frame.source.station != self.peer.station or not (
            frame.destination.station == self.own.station or frame.destination.is_all_station
        ):
            return []
        if frame.type is FrameType.UI:
            return self._take_ui(frame)
        if self.state is State.CONNECTING:
            return self._connecting(frame)
        if self.state is State.DISCONNECTING and frame.type in (FrameType.UA, FrameType.DM):
            return [self._emit(Disconnected("as asked"))]
        if self.state is not State.CONNECTED:
            return []
        if frame.type in (FrameType.I, FrameType.RR, FrameType.RNR):
            return self._connected(frame)
        if frame.type is FrameType.DM:
            return [self._emit(Disconnected("the server says DM: it knows of no connection"))]
        return self._rejected(frame) if frame.type is FrameType.FRMR else []

    def _connecting(self, frame: HdlcFrame) -> list[Event]:
        if frame.type is FrameType.DM:
            return [self._emit(Disconnected("the server refuses the connection (DM)"))]
        if frame.type is FrameType.FRMR:
            return self._rejected(frame)
        if frame.type is not FrameType.UA:
            return []
        try:
            theirs = LinkParameters.from_bytes(frame.information)
        except RemoteProtocolError as error:
            return [self._emit(Disconnected(f"malformed UA: {error}"))]
        self._reset()
        self.parameters = self.limits.negotiate(theirs)
        return [self._emit(Connected(self.parameters))]

    def _rejected(self, frame: HdlcFrame) -> list[Event]:
        try:
            report = FrameReject.from_bytes(frame.information)
        except RemoteProtocolError as error:
            return [self._emit(Disconnected(f"malformed FRMR: {error}"))]
        return [self._emit(LinkRejected(report))]

    def _connected(self, frame: HdlcFrame) -> list[Event]:
        # An N(R) that cannot be is no reason to tear down: a stale frame has one too. If the server means
        # it, the retries run out.
        if not self._nr_valid(frame.nr):
            return []
        events: list[Event] = []
        progress = self._acknowledge(frame.nr)
        gap = False
        if frame.type is FrameType.I:
            if frame.ns == self._vr and not self.busy:
                progress = True
                event = self._take(frame)
                if event is not None:
                    self._expecting = False
                    events.append(self._emit(event))
                if isinstance(event, Disconnected):
                    return events
            else:
                gap = self.busy or (frame.ns - self._vr) & 7 < self.parameters.window_receive
                if not gap:
                    return events  # sent again; its first coming was answered
        self._peer_busy = frame.type is FrameType.RNR
        if progress or self._peer_busy:
            self._retries = self._idle_polls = 0
        if not (frame.poll and self._turn_given):
            return events
        if frame.type is FrameType.RR and self._window_out and not progress:
            return events  # an answer to an earlier poll, or all of the window lost: `on_timeout` tells
        self._turn_given = False
        if self._peer_busy or self.busy:
            return events
        if not progress:
            self._retries = 0
            self._idle_polls += 1
        if (self._out or self._in or self._expecting or gap) and self._idle_polls <= MAX_IDLE_POLLS:
            events += self._take_turn()
        return events

    def _take_turn(self) -> list[Event]:
        if not self._out:
            return self._enquire()
        self._turn_given = self._window_out = True
        return self._window()

    def _enquire(self) -> list[Event]:
        self._turn_given = True
        self._window_out = False
        return [self._ready()]

    def _snrm(self) -> Transmit:
        return self._frame(u_control(FrameType.SNRM, poll=True), self.limits.to_bytes())


class HdlcServerLink(_HdlcLink):
    """The meter's side for one pair of client and server address. It speaks when polled."""

    _transitions = SERVER_TRANSITIONS
    _llc = LLC_RESPONSE

    def _reset(self) -> None:
        super()._reset()
        self._turn = False  # polled and not yet answered: waiting for the application
        self._report = FrameReject(0, 0, 0)  # what FRMR said last, and says again while rejected

    def send(self, apdu: bytes) -> list[Event]:
        """One APDU.

        At once if the client waits for it, else when it polls. Raises LocalProtocolError unless connected.
        """
        self._enqueue(apdu)
        return self._answer() if self._turn else []

    def give_turn(self) -> list[Event]:
        """Give the turn back without an answer, for a request that has none."""
        return self._answer() if self._turn else []

    def on_timeout(self) -> list[Event]:
        """The inactivity time-out: the link is down without a word."""
        if self.state is State.DISCONNECTED:
            return []
        self._reset()
        return [self._emit(Disconnected("nothing heard for too long"))]

    def receive_frame(self, frame: HdlcFrame) -> list[Event]:
        broadcast = frame.destination.is_all_station
        if frame.source.station != self.peer.station or not (
            broadcast or frame.destination.station == self.own.station
        ):
            return []
        if frame.type is FrameType.UI:
            return self._take_ui(frame)
        if broadcast:
            return []  # nobody answers a broadcast, or all would at once
        if frame.type is FrameType.SNRM:
            return self._snrm(frame)
        if frame.type is FrameType.DISC:
            return self._disc()
        if self.state is State.DISCONNECTED:
            return [self._dm()] if frame.poll else []
        if self.state is State.REJECTED:
            return [self._frmr()] if frame.poll else []
        report = self._fault(frame)
        if report is not None:
            self._report = report
            return [self._emit(LinkRejected(report)), self._frmr()]
        return self._connected(frame)

    def _snrm(self, frame: HdlcFrame) -> list[Event]:
        try:
            theirs = LinkParameters.from_bytes(frame.information)
        except RemoteProtocolError:
            # We refuse to connect on terms we cannot read; a link that is up stays up.
            return [self._dm()] if self.state is State.DISCONNECTED else []
        self._reset()
        self.parameters = self.limits.negotiate(theirs)
        answer = self._frame(u_control(FrameType.UA, poll=True), self.parameters.to_bytes())
        return [self._emit(Connected(self.parameters)), answer]

    def _disc(self) -> list[Event]:
        if self.state is State.DISCONNECTED:
            return [self._dm()]
        self._reset()
        return [self._emit(Disconnected("by the client")), self._frame(u_control(FrameType.UA, poll=True))]

    def _dm(self) -> Transmit:
        return self._frame(u_control(FrameType.DM, poll=True))

    def _frmr(self) -> Transmit:
        return self._frame(u_control(FrameType.FRMR, poll=True), self._report.to_bytes())

    def _fault(self, frame: HdlcFrame) -> FrameReject | None:
        """What is wrong with a frame whose checks hold, as FRMR tells it."""
        report = FrameReject(frame.control, self._vs, self._vr)
        if frame.type not in (FrameType.I, FrameType.RR, FrameType.RNR):
            return report._replace(unknown_control=True)
        if frame.type is not FrameType.I and frame.information:
            return report._replace(unknown_control=True, information_not_permitted=True)
        if len(frame.information) > self.parameters.max_receive:
            return report._replace(information_too_long=True)
        return None if self._nr_valid(frame.nr) else report._replace(invalid_nr=True)

    def _connected(self, frame: HdlcFrame) -> list[Event]:
        events: list[Event] = []
        self._acknowledge(frame.nr)
        self._peer_busy = frame.type is FrameType.RNR
        whole = False
        if frame.type is FrameType.I and frame.ns == self._vr and not self.busy:
            event = self._take(frame)
            if event is not None:
                events.append(self._emit(event))
                whole = True
            if isinstance(event, Disconnected):
                return [*events, self._dm()]
        if not frame.poll:
            return events
        self._turn = True
        if not whole or (self._out and not self._peer_busy):
            events += self._answer()
        return events

    def _answer(self) -> list[Event]:
        self._turn = False
        return self._window() if self._out and not self._peer_busy else [self._ready()]
