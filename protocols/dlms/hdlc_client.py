"""The client's side of the HDLC link, which owns the line: it gives the turn and asks again."""

from protocols.dlms.hdlc import LLC_COMMAND, FrameType, HdlcAddress, HdlcFrame, u_control
from protocols.dlms.hdlc_link import MAX_APDU, HdlcLink
from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters
from protocols.dlms.hdlc_states import (
    CLIENT_TRANSITIONS,
    Connected,
    ConnectRequested,
    Disconnected,
    DisconnectRequested,
    Event,
    LinkRejected,
    State,
    Transmit,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

MAX_RETRIES = 3
MAX_IDLE_POLLS = 8  # polls in a row that are answered "nothing yet", before we wait for `on_timeout`


class HdlcClientLink(HdlcLink):
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
